"""What a request has used and what that costs, over all its attempts."""

from processors.events import Cost, Usage
from processors.money import add, cost
from processors.policy import Effective


class Bill:
    """Sums runs, each at its own provider's prices."""

    def __init__(self, effective: Effective) -> None:
        self._effective = effective
        self.usage: Usage | None = None
        self.micros = 0

    def price(self, usage: Usage | None, provider: str) -> Cost:
        """What `usage` costs at a provider; at the policy's own prices where none is called."""
        prices = self._effective.prices.get(provider, self._effective.price_list)
        return cost(usage or Usage(), prices, self._effective.version)

    def book(self, usage: Usage, provider: str) -> None:
        """Add a run."""
        self.usage = add(self.usage, usage) if self.usage else usage
        self.micros += self.price(usage, provider).micros

    def total(self, open_run: Usage | None, provider: str) -> tuple[Usage, Cost]:
        """Everything booked, and an open run by estimate."""
        usage, extra = self.usage, self.price(open_run, provider)
        if open_run is not None:
            usage = add(usage, open_run) if usage else open_run
        return usage or Usage(), Cost(self.micros + extra.micros, extra.currency, extra.prices)
