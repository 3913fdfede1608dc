"""What shared budgets allow one answer: how far its text may go, and when more has to be asked for.

Grants are facts of the journal. What is granted is absolute, all runs of the request together, so that asking twice
changes nothing; it is asked for in blocks ahead of the text, so that no text waits for the books.
"""

import sys
from typing import Literal, NamedTuple

import msgspec

from processors.budgets import Account
from processors.events import Leased, Usage
from processors.guard.bill import Bill

BLOCK = 256
"""Output tokens that are asked for ahead; at half of them the next block is."""


class Line(NamedTuple):
    """What a request is to have of an account: tokens or micro-units, all its runs together. With less than `needed`
    it cannot go on."""

    account: Account
    needed: int
    wanted: int


class Booking(NamedTuple):
    """To be booked in shared budgets: a lease ahead of the text, or what a request has used in the end."""

    id: str
    tenant: str
    kind: Literal["lease", "settlement"]
    lines: tuple[Line, ...]


class AllowanceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state as part of a snapshot: what was granted by budget, and which will allow no more."""

    granted: dict[str, int] = {}
    exhausted: tuple[str, ...] = ()
    away: bool = False


class Allowance:
    """The grants of one request, and what they come to for its current run."""

    __slots__ = (
        "_accounts", "_bill", "_granted", "_prompt", "_provider", "asked_ms", "away", "checked_to", "exhausted",
        "tokens",
    )  # fmt: skip

    def __init__(self, accounts: tuple[Account, ...], bill: Bill, prompt_tokens: int) -> None:
        self._accounts = accounts
        self._bill, self._prompt = bill, prompt_tokens
        self._provider = ""
        self._granted: dict[str, int] = {}
        self.exhausted: tuple[str, ...] = ()
        self.away = False
        """The books could not be read, so the policy's word stood for them."""
        self.tokens = -1
        """How many output tokens the run may have; below 0 where not even its prompt is granted."""
        self.asked_ms: float | None = None
        """When more was asked for and has not come, by the time of the log."""
        self.checked_to = 0
        """So many characters of the run surely need nothing more to be asked for."""

    def begin_run(self, provider: str) -> None:
        """Another run begins; what earlier ones have used is in the bill."""
        self._provider = provider
        self.checked_to = 0
        self._count()

    def take(self, event: Leased) -> None:
        """Grants that stand in the journal."""
        self.asked_ms = None
        for name, amount in event.granted.items():
            self._granted[name] = max(amount, self._granted.get(name, 0))
        self.exhausted = tuple(sorted({*self.exhausted, *event.exhausted}))
        self.away = event.away
        self.checked_to = 0
        self._count()

    @property
    def final(self) -> str | None:
        """The budget that will allow no more than what is granted; the run ends where that does."""
        return min(self.exhausted, key=lambda name: self._run_tokens(name), default=None)

    def lease(self, request_id: str, tenant: str, tokens: int) -> Booking:
        """So that the run may have so many output tokens, and a block more."""
        lines = [
            Line(account, self._amount(account, tokens), self._amount(account, tokens + BLOCK))
            for account in self._accounts
        ]
        return Booking(request_id, tenant, "lease", tuple(lines))

    def settlement(self, request_id: str, tenant: str, usage: Usage, micros: int) -> Booking:
        """What the request has used, now that all of it is known."""
        lines = []
        for account in self._accounts:
            used = usage.input + usage.output if account.budget.cost is None else micros
            lines.append(Line(account, used, used))
        return Booking(request_id, tenant, "settlement", tuple(lines))

    def snapshot(self) -> AllowanceState:
        """The state; see `restore`."""
        return AllowanceState(self._granted, self.exhausted, self.away)

    def restore(self, state: AllowanceState, provider: str, waits: bool) -> None:
        """Go on from a snapshot; `waits`: what was asked for has not come, and is to be asked for again."""
        self._granted, self.exhausted, self.away = dict(state.granted), state.exhausted, state.away
        self.asked_ms = 0.0 if waits else None
        self.begin_run(provider)

    def _count(self) -> None:
        self.tokens = min((self._run_tokens(account.budget.id) for account in self._accounts), default=sys.maxsize)

    def _run_tokens(self, name: str) -> int:
        """Output tokens of the current run that a budget's grant is enough for."""
        account = next(account for account in self._accounts if account.budget.id == name)
        granted = self._granted.get(name, 0)
        if account.budget.cost is not None:
            return self._bill.tokens_for(granted, self._prompt, self._provider)
        used = self._bill.usage
        return granted - self._prompt - (used.input + used.output if used else 0)

    def _amount(self, account: Account, tokens: int) -> int:
        """All that the request will have used, once its current run has so many output tokens."""
        run = Usage(input=self._prompt, output=tokens)
        if account.budget.cost is not None:
            # One more: prompt and answer are rounded together here, and apart where a grant is read as tokens.
            return self._bill.micros + self._bill.price(run, self._provider).micros + 1
        used = self._bill.usage
        return run.input + run.output + (used.input + used.output if used else 0)
