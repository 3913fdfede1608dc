"""What shared budgets allow one answer: how far its text may go, and when more has to be asked for.

Grants are facts of the journal. What is granted is absolute, all runs of the request together, so that asking twice
changes nothing; it is asked for in blocks ahead of the text, so that no text waits for the books.
"""

import sys
from typing import Literal, NamedTuple

import msgspec

from processors.budgets import Account
from processors.events import Decision, Leased, Usage
from processors.guard.bill import Bill
from processors.guard.outputs import Finding, StopReason
from processors.guard.release import Release

BLOCK = 256
"""Output tokens that are asked for ahead; at half of them the next block is."""

ASK_AGAIN_MS = 1000
"""How long a lease, or scores, may take, in milliseconds, before they are asked for once more."""


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
    """The grants of one request, and what they come to for its current run. What is to be booked goes to `bookings`."""

    __slots__ = (
        "_accounts", "_asked_ms", "_away", "_bill", "_checked_to", "_exhausted", "_granted", "_id", "_prompt",
        "_provider", "_release", "_tenant", "_tokens", "bookings",
    )  # fmt: skip

    def __init__(self, decision: Decision, accounts: tuple[Account, ...], bill: Bill, release: Release) -> None:
        self.bookings: list[Booking] = []
        """Whoever takes them clears them."""
        self._id, self._tenant, self._prompt = decision.id, decision.tenant, decision.prompt_tokens
        self._accounts = accounts
        self._bill, self._release = bill, release
        self._provider = ""
        self._granted: dict[str, int] = {}
        self._exhausted: tuple[str, ...] = ()
        self._away = False
        self._tokens = -1
        """How many output tokens the run may have; below 0 where not even its prompt is granted."""
        self._asked_ms: float | None = None
        """When more was asked for and has not come, by the time of the log."""
        self._checked_to = 0
        """So many characters of the run surely need nothing more to be asked for."""

    def begin_run(self, provider: str, now_ms: float) -> None:
        """Another run begins; what earlier ones have used is in the bill."""
        self._provider = provider
        self._count()
        self._ask(0, now_ms)

    def take(self, event: Leased) -> None:
        """Grants that stand in the journal."""
        self._asked_ms = None
        for name, amount in event.granted.items():
            self._granted[name] = max(amount, self._granted.get(name, 0))
        self._exhausted = tuple(sorted({*self._exhausted, *event.exhausted}))
        self._away = event.away
        self._count()

    def allows(self, text: str, now_ms: float) -> bool:
        """Whether the run may have this text, too; asks for more before what is granted ends."""
        upto = self._release.seen_chars + len(text)
        if upto <= self._checked_to:
            return True
        if self._last is not None:  # the release knows where the grant ends
            self._checked_to = sys.maxsize
            return True
        tokens = self._release.tokens_with(text)
        left = self._tokens - tokens
        if left < BLOCK // 2:
            self._ask(tokens, now_ms)
        else:
            left -= BLOCK // 2
        self._checked_to = upto + max(0, left)  # a token has a character or more
        return left >= 0

    def limit(self) -> Finding | None:
        """Where a budget will allow no more, the run ends with what it has allowed. Returns why to stop, if it has."""
        if self._last is None:
            return None
        reason: StopReason = "budget_unavailable" if self._away else "budget_exhausted"
        return self._release.limit_to(self._tokens, Finding(reason, f"budgets.{self._last}"))

    def ask_again(self, waiting: str, now_ms: float) -> None:
        """Ask once more for what has not come, for the text that waits for it: whoever was to bring it may be gone."""
        if self._asked_ms is not None and now_ms - self._asked_ms > ASK_AGAIN_MS:
            self._asked_ms = None
            self._ask(self._release.tokens_with(waiting), now_ms)

    def settle(self, usage: Usage, micros: int) -> None:
        """Book what the request has used, now that all of it is known."""
        tokens = usage.input + usage.output
        amounts = [tokens if one.budget.cost is None else micros for one in self._accounts]
        self._book("settlement", amounts, amounts)

    def snapshot(self) -> AllowanceState:
        """The state; see `restore`."""
        return AllowanceState(self._granted, self._exhausted, self._away)

    def restore(self, state: AllowanceState, provider: str, waits: bool) -> None:
        """Go on from a snapshot; `waits`: what was asked for has not come, and is to be asked for again."""
        self._granted, self._exhausted, self._away = dict(state.granted), state.exhausted, state.away
        self._asked_ms = 0.0 if waits else None
        self._provider = provider
        self._count()

    @property
    def _last(self) -> str | None:
        """The budget that will allow no more than what is granted, and ends the run first."""
        return min(self._exhausted, key=self._run_tokens, default=None)

    def _ask(self, tokens: int, now_ms: float) -> None:
        """So that the run may have so many output tokens, and a block more."""
        if self._asked_ms is None and self._last is None:
            self._asked_ms = now_ms
            needed = [self._amount(account, tokens) for account in self._accounts]
            self._book("lease", needed, [self._amount(account, tokens + BLOCK) for account in self._accounts])

    def _book(self, kind: Literal["lease", "settlement"], needed: list[int], wanted: list[int]) -> None:
        lines = (Line(*line) for line in zip(self._accounts, needed, wanted, strict=True))
        self.bookings.append(Booking(self._id, self._tenant, kind, tuple(lines)))

    def _count(self) -> None:
        self._checked_to = 0
        self._tokens = min(self._run_tokens(account.budget.id) for account in self._accounts)

    def _run_tokens(self, name: str) -> int:
        """Output tokens of the current run that a budget's grant is enough for."""
        account = next(account for account in self._accounts if account.budget.id == name)
        granted = self._granted.get(name, 0)
        if account.budget.cost is not None:
            return self._bill.tokens_for(granted, self._prompt, self._provider)
        return granted - self._prompt - self._bill.tokens

    def _amount(self, account: Account, tokens: int) -> int:
        """All that the request will have used, once its current run has so many output tokens."""
        if account.budget.cost is None:
            return self._bill.tokens + self._prompt + tokens
        # One more: prompt and answer are rounded together here, and apart where a grant is read as tokens.
        run = Usage(input=self._prompt, output=tokens)
        return self._bill.micros + self._bill.price(run, self._provider).micros + 1
