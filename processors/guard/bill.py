"""What a request has used and what that costs, over all its attempts."""

import sys

from processors.events import Cost, Usage
from processors.money import add, cost
from processors.policy import Effective
from processors.prices import to_micros


class Bill:
    """Sums runs, each at its own provider's prices."""

    def __init__(self, effective: Effective) -> None:
        self._effective = effective
        self.usage: Usage | None = None
        self.micros = 0

    @property
    def tokens(self) -> int:
        """Input and output of all that is booked."""
        return self.usage.input + self.usage.output if self.usage else 0

    def price(self, usage: Usage | None, provider: str) -> Cost:
        """What `usage` costs at a provider; at the policy's own prices where none is called."""
        prices = self._effective.prices.get(provider, self._effective.price_list)
        return cost(usage or Usage(), prices, self._effective.version)

    def book(self, usage: Usage, provider: str) -> None:
        """Add a run."""
        self.usage = add(self.usage, usage) if self.usage else usage
        self.micros += self.price(usage, provider).micros

    def tokens_for(self, micros: int, prompt_tokens: int, provider: str) -> int:
        """How many output tokens a run may have, so that all costs no more than so many micro-units; below 0 where
        nothing is left for its prompt."""
        prices = self._effective.prices.get(provider, self._effective.price_list)
        left = micros - self.micros - self.price(Usage(input=prompt_tokens), provider).micros
        each = to_micros(prices.per_million.output)
        if left < 0 or not each:
            return -1 if left < 0 else sys.maxsize
        return left * 1_000_000 // each

    def total(self, open_run: Usage | None, provider: str) -> tuple[Usage, Cost]:
        """Everything booked, and an open run by estimate."""
        usage, extra = self.usage, self.price(open_run, provider)
        if open_run is not None:
            usage = add(usage, open_run) if usage else open_run
        return usage or Usage(), Cost(self.micros + extra.micros, extra.currency, extra.prices)
