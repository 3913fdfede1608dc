"""How providers fare: sliding windows over the attempts of each provider, model and tenant.

A window is the sum of tallies of `STEP_S` each, so it covers the last 50 to 60 seconds and moves on in steps of ten.
Tallies are kept apart by the partition that their events came from: then each has one writer and one place in a
changelog, whichever worker reads the partition, and the last offset in it tells which events it has counted already.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from processors.events import Answer, ErrorClass, Health, Outcome

WINDOW_S = 60.0
STEP_S = 10.0
ALL_TENANTS = ""
CACHE = "(cache)"
"""Stands for the provider where the cache answered."""

PROVIDER_FAULTS: frozenset[ErrorClass] = frozenset(
    {
        "connect", "timeout_connect", "timeout_first_token", "timeout_between_tokens", "rate_limited", "unauthorized",
        "not_found", "provider_error", "bad_response", "truncated",
    }
)  # fmt: skip
"""Errors that speak against a provider. Not `timeout_total`: the request's own deadline may be as short as it likes;
nor what a request brings upon itself (`invalid_request`, `content_filter`) or we do (`stopped`, `shutdown`, …)."""

BAD_FAILURE_RATE = 0.5
BAD_MIN_ATTEMPTS = 5
BAD_FOR_S = 1.5 * WINDOW_S


def is_bad(health: Health | None, now: datetime) -> bool:
    """Whether to try this provider last: half or more of at least five attempts of the last minute were its failures.

    No news is good news: what is older than 90 s counts for nothing, so that a provider that is no longer tried
    recovers, even while no one measures. Being wrong costs only an order of trying, hence the small sample.
    """
    if health is None or (now - health.at).total_seconds() > BAD_FOR_S:
        return False
    return health.attempts >= BAD_MIN_ATTEMPTS and health.failures >= BAD_FAILURE_RATE * health.attempts


def usual_tokens(health: Health | None) -> int | None:
    """Output tokens of an attempt, on average over those of the window that did not fail; None where there are none.

    Answers that were stopped or cancelled count as short as they were, so it is rather too low.
    """
    answered = health.attempts - health.failures if health else 0
    return round(health.output_tokens / answered) if health and answered > 0 else None


def key_of(provider: str, model: str, tenant: str = ALL_TENANTS) -> str:
    """The record key in topic `health`: provider/model/tenant, each escaped, as a model's name may hold a slash."""
    return "/".join(quote(part, safe=":@ ()") for part in (provider, model, tenant))


class Series(NamedTuple):
    """What is measured for itself. No tenant: all of them together."""

    provider: str
    model: str
    tenant: str


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts of one step. `upto` is the offset of the last event in it.

    The first-token time is kept as sum and number, for a mean: it adds up over partitions and steps as it is.
    """

    upto: int = -1
    attempts: int = 0
    failures: int = 0
    first_tokens: int = 0
    first_token_sum_ms: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    currency: str = ""

    def __add__(self, other: "Tally") -> "Tally":
        """Both together; of two currencies only the other's money, because amounts of different ones do not add."""
        same = self.currency == other.currency or not other.currency
        return Tally(
            upto=max(self.upto, other.upto),
            attempts=self.attempts + other.attempts,
            failures=self.failures + other.failures,
            first_tokens=self.first_tokens + other.first_tokens,
            first_token_sum_ms=self.first_token_sum_ms + other.first_token_sum_ms,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_micros=other.cost_micros + (self.cost_micros if same else 0),
            currency=other.currency or self.currency,
        )


class Place(NamedTuple):
    """Where an event stands in the log, and its time there (seconds, UTC)."""

    topic: str
    partition: int
    offset: int
    at_s: float


class WindowKey(NamedTuple):
    """A tally's place: the partition its events came from, the series, and where its step begins (seconds, UTC)."""

    topic: str
    partition: int
    provider: str
    model: str
    tenant: str
    start: int

    @property
    def series(self) -> Series:
        return Series(self.provider, self.model, self.tenant)

    def live(self, now_s: float) -> bool:
        """Whether it still belongs to the window that ends now."""
        return self.start > now_s - WINDOW_S


class Windows:
    """The tallies of all series, what of them is not saved yet, and which series have changed since last told."""

    def __init__(self, saved: Iterable[tuple[WindowKey, Tally]] = ()) -> None:
        self._tallies = dict(saved)
        self._unsaved: set[WindowKey] = set()
        self._untold = {key.series for key in self._tallies}

    def count(self, place: Place, event: Outcome | Answer, now_s: float) -> None:
        """Take in an event; one that was counted before, or is older than the window, is passed over.

        An event from the future (its writer's clock goes fast) counts as of now.
        """
        measured = measure(event)
        if measured is None:
            return
        series, tally = measured
        start = int(min(place.at_s, now_s) // STEP_S * STEP_S)
        key = WindowKey(place.topic, place.partition, *series, start)
        before = self._tallies.get(key, Tally())
        if place.offset <= before.upto or not key.live(now_s):
            return
        self._tallies[key] = before + msgspec.structs.replace(tally, upto=place.offset)
        self._unsaved.add(key)
        self._untold.add(series)

    def changes(self, now_s: float) -> dict[WindowKey, Tally | None]:
        """What is to be saved: tallies that have grown since last asked, and None for those whose time is over."""
        gone = [key for key in self._tallies if not key.live(now_s)]
        for key in gone:
            del self._tallies[key]
            self._untold.add(key.series)
        changed = self._unsaved.union(gone)
        self._unsaved = set()
        return {key: self._tallies.get(key) for key in changed}

    def news(self, now_s: float) -> list[Health]:
        """The window of each series that has changed since last asked, and of all tenants together.

        A series whose window has run empty is told once more, with zeros.
        """
        untold, self._untold = self._untold, set()
        if not untold:
            return []
        untold |= {series._replace(tenant=ALL_TENANTS) for series in untold}
        sums = self._sums(now_s)
        at = datetime.fromtimestamp(now_s, UTC)
        return [_health(series, sums.get(series, Tally()), at) for series in sorted(untold)]

    def _sums(self, now_s: float) -> dict[Series, Tally]:
        sums: dict[Series, Tally] = {}
        for key in sorted(self._tallies, key=lambda key: key.start):
            if key.live(now_s):
                for series in (key.series, key.series._replace(tenant=ALL_TENANTS)):
                    sums[series] = sums.get(series, Tally()) + self._tallies[key]
        return sums


def measure(event: Outcome | Answer) -> tuple[Series, Tally] | None:
    """What an event adds, and to which series.

    Attempts, tokens and money come from outcomes alone, each attempt once. An answer adds what no outcome tells of:
    that the cache served it. None for one that a provider served, since its outcome has counted it.
    """
    if isinstance(event, Outcome):
        return Series(event.target.provider, event.target.model, event.tenant), _of_attempt(event)
    if event.target is None:
        tally = Tally(attempts=1, input_tokens=event.usage.input, output_tokens=event.usage.output)
        return Series(CACHE, event.model, event.tenant), tally
    return None


def _of_attempt(outcome: Outcome) -> Tally:
    error, usage, first = outcome.error, outcome.usage, outcome.first_token_ms
    failed = outcome.status == "failed" and error is not None and error.kind in PROVIDER_FAULTS
    return Tally(
        attempts=1,
        failures=int(failed),
        first_tokens=int(first is not None),
        first_token_sum_ms=first or 0.0,
        input_tokens=usage.input if usage else 0,
        output_tokens=usage.output if usage else 0,
        cost_micros=outcome.cost.micros,
        currency=outcome.cost.currency if outcome.cost.micros else "",
    )


def _health(series: Series, tally: Tally, at: datetime) -> Health:
    mean = tally.first_token_sum_ms / tally.first_tokens if tally.first_tokens else None
    return Health(
        provider=series.provider,
        model=series.model,
        tenant=series.tenant,
        window_s=WINDOW_S,
        at=at,
        attempts=tally.attempts,
        failures=tally.failures,
        first_token_ms=mean,
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        cost_micros=tally.cost_micros,
        currency=tally.currency or "USD",
    )
