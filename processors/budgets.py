"""Shared budgets: what all requests of a tenant, of one of its keys or of a session may use together in a window.

A request belongs to the window in which it was submitted, all of its attempts with it: the time stands in its id, so
that everybody who books it books it there.
"""

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec

from processors.errors import Invalid
from processors.prices import to_micros

PREFIX = "sluice:budget:"
LONGEST_WINDOW = timedelta(days=31)


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An entry of the section `budgets`: a number of tokens, or an amount of money, in each window of time."""

    id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    window: Literal["hour", "day", "month"]
    timezone: str
    """Whose hours, days and months: a name of the IANA time zone database."""
    per: Literal["tenant", "key", "session"] = "tenant"
    """Whose it is. A request without a key (it came by Kafka) or without a session has no such budget."""
    tokens: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """Input and output of all runs."""
    cost: float | str | None = None
    """Of all runs, in units of the price list's currency."""
    unavailable: Literal["open", "closed"] = "closed"
    """While the books cannot be read: let answers pass and book them later, or stop them."""

    @property
    def limit(self) -> int:
        """Tokens, or micro-units of the currency."""
        return self.tokens if self.cost is None else to_micros(self.cost)  # type: ignore[return-value]


class Account(NamedTuple):
    """A budget as one request meets it. `key` names it in Redis; `until_ms` (Unix time) is its window's end."""

    budget: Budget
    key: str
    until_ms: int


def check_budget(budget: Budget, path: str) -> None:
    """Whether it can be kept.

    Raises:
        Invalid: with the path of what is wrong, and what would mend it.
    """
    if (budget.tokens is None) == (budget.cost is None):
        raise Invalid(path, "give either `tokens` or `cost`; for both write two budgets")
    if budget.cost is not None and not to_micros(budget.cost, f"{path}.cost"):
        raise Invalid(f"{path}.cost", "must be more than 0")
    try:
        _zone(budget.timezone)
    except (ValueError, OSError, KeyError):
        raise Invalid(
            f"{path}.timezone", f"{budget.timezone!r} is no time zone; write one as Europe/Moscow or UTC"
        ) from None


def accounts(
    budgets: tuple[Budget, ...], tenant: str, key: str | None, session: str | None, submitted: datetime
) -> tuple[Account, ...]:
    """The accounts that a request of this tenant, key and session is booked to."""
    scopes = {"tenant": "", "key": key, "session": session}
    return tuple(
        _account(budget, tenant, scope, submitted) for budget in budgets if (scope := scopes[budget.per]) is not None
    )


def tenant_prefix(tenant: str) -> str:
    """What all keys of a tenant begin with; escaped, so that no name reaches into another's."""
    return f"{PREFIX}{quote(tenant, safe='')}:"


def _account(budget: Budget, tenant: str, scope: str, submitted: datetime) -> Account:
    begin, end = window(budget, submitted)
    digest = hashlib.sha256(scope.encode()).hexdigest()[:24] if scope else "-"
    unit = "cost" if budget.tokens is None else "tokens"
    key = f"{tenant_prefix(tenant)}{budget.id}:{digest}:{unit}:{budget.window}:{begin:%Y%m%dT%H%z}"
    return Account(budget, key, int(end.timestamp() * 1000))


def window(budget: Budget, at: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the window that holds this moment, in the budget's time zone. An hour that a change of clocks
    repeats is two windows."""
    zone = _zone(budget.timezone)
    local = at.astimezone(zone)
    if budget.window == "hour":
        begin = local.replace(minute=0, second=0, microsecond=0)
        return begin, (begin.astimezone(ZoneInfo("UTC")) + timedelta(hours=1)).astimezone(zone)
    begin = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if budget.window == "day":
        return begin, begin + timedelta(days=1)
    begin = begin.replace(day=1)
    return begin, (begin + LONGEST_WINDOW + timedelta(days=1)).replace(day=1)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
