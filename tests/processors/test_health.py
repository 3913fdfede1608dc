"""How providers fare: what counts against them, and windows that neither lose nor repeat an event."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.events import Answer, Cost, ErrorClass, Health, Outcome, RunError, Target, Usage
from processors.health import (
    BAD_FOR_S,
    CACHE,
    PROVIDER_FAULTS,
    STEP_S,
    WINDOW_S,
    Place,
    Tally,
    WindowKey,
    Windows,
    is_bad,
    key_of,
    measure,
)

NOW = 1_795_400_000.0
AT = datetime.fromtimestamp(NOW, UTC)
ID = "0198c0de-0000-7000-8000-000000000001"


def outcome(tenant: str = "demo", provider: str = "p", error: ErrorClass | None = None, **changes: Any) -> Outcome:
    whole = Outcome(
        id=ID,
        tenant=tenant,
        attempt=1,
        run="r",
        policy="v",
        body_hash="b",
        model="assistant",
        target=Target(provider, "m"),
        status="completed" if error is None else "failed",
        error=RunError(error, "") if error else None,
        usage=Usage(3, 5),
        cost=Cost(11, "RUB", "v"),
        first_token_ms=20.0,
    )
    return msgspec.structs.replace(whole, **changes)


def answer(target: Target | None) -> Answer:
    return Answer(ID, "demo", "assistant", target, "stop", Usage(3, 5), Cost())


def counted(*events: Outcome | Answer, at_s: float = NOW) -> Windows:
    windows = Windows()
    for offset, event in enumerate(events):
        windows.count(Place("outcomes", 0, offset, at_s), event, at_s)
    return windows


def told(windows: Windows, now_s: float = NOW) -> dict[str, Health]:
    windows.changes(now_s)
    return {key_of(health.provider, health.model, health.tenant): health for health in windows.news(now_s)}


def test_a_window_by_tenant_and_over_all() -> None:
    events = [outcome(), outcome("other", error="connect", first_token_ms=None, usage=None), outcome(first_token_ms=40)]
    news = told(counted(*events))
    assert news["p/m/demo"] == Health("p", "m", WINDOW_S, AT, "demo", 2, 0, 30.0, 6, 10, 22, "RUB")
    assert news["p/m/"] == Health("p", "m", WINDOW_S, AT, "", 3, 1, 30.0, 6, 10, 33, "RUB")
    assert news["p/m/other"].first_token_ms is None


@pytest.mark.parametrize("error", get_args(ErrorClass))
def test_only_the_providers_own_errors_count_against_it(error: ErrorClass) -> None:
    failures = told(counted(outcome(error=error)))["p/m/"].failures
    assert failures == (error in PROVIDER_FAULTS)


@pytest.mark.parametrize("error", ["invalid_request", "content_filter", "cancelled", "stopped", "shutdown"])
def test_what_is_not_a_providers_fault(error: ErrorClass) -> None:
    assert error not in PROVIDER_FAULTS


@pytest.mark.parametrize("status", ["stopped", "cancelled", "completed"])
def test_only_a_failed_attempt_is_a_failure(status: str) -> None:
    health = told(counted(outcome(error="connect", status=status)))["p/m/"]
    assert (health.attempts, health.failures) == (1, 0)


def test_an_answer_counts_where_the_cache_gave_it_and_only_there() -> None:
    assert measure(answer(Target("p", "m"))) is None
    health = told(counted(answer(None)))[key_of(CACHE, "assistant", "demo")]
    assert (health.attempts, health.output_tokens, health.cost_micros) == (1, 5, 0)


def test_amounts_of_two_currencies_are_not_added() -> None:
    health = told(counted(outcome(), outcome(cost=Cost(7, "EUR", "v")), outcome(cost=Cost())))["p/m/"]
    assert (health.cost_micros, health.currency) == (7, "EUR")


def test_a_window_runs_empty_is_told_once_with_zeros_and_then_no_more() -> None:
    windows = counted(*[outcome(error="connect")] * 9)
    assert is_bad(told(windows)["p/m/"], AT)
    assert told(windows, NOW + WINDOW_S - STEP_S) == {}, "nothing new"
    later = NOW + WINDOW_S
    assert set(windows.changes(later).values()) == {None}, "what is over is to be deleted"
    empty = {key_of(health.provider, health.model): health for health in windows.news(later)}["p/m/"]
    assert (empty.attempts, empty.failures, empty.first_token_ms) == (0, 0, None)
    assert not is_bad(empty, datetime.fromtimestamp(later, UTC))
    assert told(windows, later + WINDOW_S) == {}


def test_a_window_moves_on_in_steps() -> None:
    windows, seen = Windows(), []
    for step in range(12):
        now = NOW + step * STEP_S
        windows.count(Place("outcomes", 0, step, now), outcome(), now)
        seen.append(told(windows, now)["p/m/"].attempts)
    assert seen == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6]


def test_what_is_too_old_is_passed_over_and_what_is_of_the_future_counts_now() -> None:
    windows = Windows()
    windows.count(Place("outcomes", 0, 0, NOW - WINDOW_S - STEP_S), outcome(), NOW)
    assert told(windows) == {}
    windows.count(Place("outcomes", 0, 1, NOW + 3600), outcome(), NOW)
    assert told(windows)["p/m/"].attempts == 1


events = st.lists(
    st.tuples(
        st.integers(0, 3),  # partition
        st.sampled_from(["p", "q"]),
        st.sampled_from(["demo", "other"]),
        st.sampled_from([None, "connect", "cancelled"]),
        st.floats(0, 200),  # seconds before NOW
    ),
    max_size=40,
)


def place_all(drawn: list[tuple[int, str, str, ErrorClass | None, float]]) -> list[tuple[Place, Outcome]]:
    offsets = [0, 0, 0, 0]
    placed = []
    for partition, provider, tenant, error, ago in drawn:
        placed.append((Place("outcomes", partition, offsets[partition], NOW - ago), outcome(tenant, provider, error)))
        offsets[partition] += 1
    return placed


def sums(windows: Windows) -> dict[str, Health]:
    return {key: value for key, value in told(windows).items() if value.attempts}


def count_all(windows: Windows, placed: list[tuple[Place, Outcome]]) -> Windows:
    for place, event in placed:
        windows.count(place, event, NOW)
    return windows


crashes = st.lists(
    st.tuples(
        st.integers(0, 40),  # how far the worker came
        st.floats(0, 1) | st.just(1.0),  # how much of what it knew was saved before it was killed
        st.booleans(),  # whether its commit got through, if all was saved
    ),
    max_size=8,
)


@given(events, crashes)
def test_crashes_and_replays_lose_and_repeat_nothing(drawn: list[Any], crashed: list[tuple[int, float, bool]]) -> None:
    saved: dict[WindowKey, Tally] = {}
    placed, committed = place_all(drawn), 0
    for reach, share, commits in crashed:
        windows = count_all(Windows(saved.items()), placed[committed : committed + reach])
        changes = [(key, tally) for key, tally in windows.changes(NOW).items() if tally is not None]
        saved.update(changes[: int(share * len(changes))])
        if share == 1.0 and commits:
            committed += reach
    last = count_all(Windows(saved.items()), placed[committed:])
    assert sums(last) == sums(count_all(Windows(), placed))


def test_control_without_the_offset_in_a_tally_a_replay_would_count_twice() -> None:
    placed = place_all([(0, "p", "demo", None, 0.0)] * 3)
    saved = count_all(Windows(), placed).changes(NOW)
    forgetful = {key: msgspec.structs.replace(tally, upto=-1) for key, tally in saved.items() if tally}
    assert sums(count_all(Windows(forgetful.items()), placed))["p/m/"].attempts == 6


@given(events)
def test_partitions_may_arrive_in_any_order(drawn: list[Any]) -> None:
    placed = place_all(drawn)
    other = sorted(placed, key=lambda item: -item[0].partition)
    assert sums(count_all(Windows(), placed)) == sums(count_all(Windows(), other))


@given(events)
def test_what_was_restored_is_told_again(drawn: list[Any]) -> None:
    windows = count_all(Windows(), place_all(drawn))
    saved = {key: tally for key, tally in windows.changes(NOW).items() if tally is not None}
    again = {key: msgspec.json.decode(msgspec.json.encode(tally), type=Tally) for key, tally in saved.items()}
    assert sums(Windows(again.items())) == sums(windows)


def health(attempts: int, failures: int, age_s: float = 0) -> Health:
    return Health("p", "m", WINDOW_S, AT - timedelta(seconds=age_s), attempts=attempts, failures=failures)


@pytest.mark.parametrize(
    ("known", "bad"),
    [
        (None, False),
        (health(0, 0), False),
        (health(4, 4), False),  # too few to judge by
        (health(5, 2), False),
        (health(5, 3), True),
        (health(10, 5), True),
        (health(10, 5, age_s=BAD_FOR_S), True),
        (health(10, 10, age_s=BAD_FOR_S + 1), False),  # old news
    ],
)
def test_who_is_bad(known: Health | None, bad: bool) -> None:
    assert is_bad(known, AT) is bad


def test_record_keys_do_not_collide_and_stay_readable() -> None:
    assert key_of("simulated", "story") == "simulated/story/"
    assert key_of("simulated", "story", "demo") == "simulated/story/demo"
    assert key_of("a", "b/c") != key_of("a/b", "c")
    assert key_of("a", "b", "c/") != key_of("a", "b/c", "")
