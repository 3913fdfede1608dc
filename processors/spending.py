"""What requests have used of shared budgets, told by their outcomes: to book again what the books have lost."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from processors.budgets import Account, Budget, accounts
from processors.events import Outcome
from processors.guard.allowance import Line
from processors.identity import uuid7_time
from processors.policy import LONGEST_STREAM_S

OVER_MS = 2000 * LONGEST_STREAM_S
"""In milliseconds of the log: twice the longest stream. After that no outcome of a request follows."""

BudgetsOf = Callable[[str, str], tuple[Budget, ...]]
"""The budgets of a tenant under a version of the policy."""


class Spent(NamedTuple):
    """What a request has used. `whole`: surely all of it, because its stream has ended and was read from its begin."""

    id: str
    whole: bool
    lines: tuple[Line, ...]


class _Sum:
    def __init__(self, found: tuple[Account, ...], submitted_ms: float, since_ms: int) -> None:
        self.accounts, self.submitted_ms, self.since_ms = found, submitted_ms, since_ms
        self.tokens = self.micros = 0
        self.runs: set[str] = set()
        self.whole = False

    def spent(self, request_id: str) -> Spent:
        amounts = [self.tokens if one.budget.cost is None else self.micros for one in self.accounts]
        lines = (Line(one, amount, amount) for one, amount in zip(self.accounts, amounts, strict=True))
        return Spent(request_id, self.whole, tuple(lines))


class Spending:
    """Adds up outcomes in the order of the log; windows that are over are left out."""

    def __init__(self, budgets_of: BudgetsOf, since_ms: int, now_ms: int) -> None:
        """The log is read from `since_ms` on; windows that have ended by `now_ms` are over."""
        self._budgets_of = budgets_of
        self._since_ms, self._now_ms = since_ms, now_ms
        self._sums: dict[str, _Sum] = {}

    def take(self, outcome: Outcome, time_ms: int) -> Iterator[Spent]:
        """Add an outcome; what it says twice counts once. Gives the requests that are over by then."""
        while self._sums:
            oldest = next(iter(self._sums))
            if time_ms - self._sums[oldest].since_ms <= OVER_MS:
                break
            yield self._sums.pop(oldest).spent(oldest)
        found = self._sums.get(outcome.id) or self._begin(outcome, time_ms)
        if found is None or outcome.run in found.runs:
            return
        found.runs.add(outcome.run)
        if outcome.usage is not None:
            found.tokens += outcome.usage.input + outcome.usage.output
        found.micros += outcome.cost.micros
        found.whole |= outcome.order is None and found.submitted_ms >= self._since_ms

    def rest(self) -> Iterator[Spent]:
        """The others, at the end of the log."""
        for name, found in self._sums.items():
            yield found.spent(name)
        self._sums.clear()

    def _begin(self, outcome: Outcome, time_ms: int) -> _Sum | None:
        try:
            submitted = uuid7_time(outcome.id)
        except ValueError:  # nobody's
            return None
        budgets = self._budgets_of(outcome.policy, outcome.tenant)
        found = accounts(budgets, outcome.tenant, outcome.key, outcome.session, submitted)
        running = tuple(account for account in found if account.until_ms > self._now_ms)
        if not running:
            return None
        return self._sums.setdefault(outcome.id, _Sum(running, submitted.timestamp() * 1000, time_ms))
