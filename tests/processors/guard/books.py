"""The books of shared budgets as a few lines of Python: what connectors/redis/budgets.lua is held to, and what the
guard's fold is driven with."""

from processors.events import Leased
from processors.guard.allowance import Booking


class Books:
    """Totals by account, and each request's part of them."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.parts: dict[tuple[str, str], int] = {}

    def book(self, booking: Booking, kind: str = "") -> list[tuple[int, bool]]:
        """By line what the request has now, and whether the account will give no more."""
        return [self._line(booking.id, kind or booking.kind, *line) for line in booking.lines]

    def leased(self, booking: Booking) -> Leased:
        """A lease's answer as it goes into the journal."""
        grants = self.book(booking)
        names = [line.account.budget.id for line in booking.lines]
        exhausted = tuple(name for name, (_, no_more) in zip(names, grants, strict=True) if no_more)
        granted = {name: amount for name, (amount, _) in zip(names, grants, strict=True)}
        return Leased(booking.id, booking.tenant, granted, exhausted)

    def _line(self, request: str, kind: str, account, needed: int, wanted: int) -> tuple[int, bool]:
        part, total = self.parts.get((account.key, request), 0), self.totals.get(account.key, 0)
        now = part
        if kind == "settlement":
            now = wanted
        elif kind == "restore":
            now = max(part, wanted)
        elif wanted > part:
            left = max(0, account.budget.limit - total)
            now = max(part, min(wanted, max(needed, part + left // 4), part + left))
        self.parts[account.key, request] = now
        total = self.totals[account.key] = total + now - part
        return now, total >= account.budget.limit and now < wanted
