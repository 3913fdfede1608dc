"""Which provider is ordered, and what follows a failure."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.admission.decide import decide, healthy_first, next_attempt
from processors.admission.examine import Examined
from processors.codec import BadRecord
from processors.events import AnswerPart, CachedAnswer, Decision, Order, Outcome, Rejection, RunError, Target, Usage
from tests.processors.admission.test_examine import body, judge
from tests.samples import START, order, request_id

A = request_id(0)
FIRST, SECOND = Target("first", "a"), Target("second", "b")


def healthy(_: Target) -> bool:
    return False


def unknown(_: Target) -> int | None:
    return None


def declared(version: str, tenant: str) -> bool:
    return (version, tenant) == ("policy", "demo")


def examined(**changes: Any) -> Examined:
    result = judge(body(**changes))
    assert isinstance(result, Examined)
    return result


def order_of(decision: Decision | None) -> Order:
    assert decision is not None
    assert isinstance(decision.choice, Order)
    return decision.choice


def outcome(error: RunError | None = None, carried: Order | None = None, status: Any = "failed") -> Outcome:
    return Outcome(A, "demo", 1, "run-1", "policy", "hash", "assistant", FIRST, status, error=error, order=carried)


def test_the_route_s_order_is_followed() -> None:
    choice = order_of(decide(examined(), None, healthy, unknown))
    assert (choice.target, choice.candidates) == (FIRST, (SECOND,))
    assert (choice.deadline, choice.expires_at) == (START + timedelta(seconds=120), START + timedelta(seconds=60))


def test_bad_health_comes_last_but_is_kept() -> None:
    choice = order_of(decide(examined(), None, lambda target: target == FIRST, unknown))
    assert (choice.target, choice.candidates) == (SECOND, (FIRST,))
    assert healthy_first((FIRST, SECOND), lambda _: True) == [FIRST, SECOND]


def test_a_request_s_own_limits_count_where_they_are_tighter() -> None:
    choice = order_of(decide(examined(deadline_s=5, max_tokens=7), None, healthy, unknown))
    assert (choice.deadline, choice.max_tokens) == (START + timedelta(seconds=5), 7)
    choice = order_of(decide(examined(deadline_s=5000, max_completion_tokens=7000), None, healthy, unknown))
    assert (choice.deadline, choice.max_tokens) == (START + timedelta(seconds=120), 100)


def test_a_stored_answer_is_served_and_not_stored_again() -> None:
    stored = CachedAnswer((AnswerPart("content", "hi"),), "stop", Usage(), A)
    decision = decide(examined(temperature=0), stored, healthy, unknown)
    assert (decision.choice, decision.cache_key) == (stored, None)
    assert decide(examined(temperature=0), None, healthy, unknown).cache_key is not None


def test_a_failed_attempt_is_followed_by_the_next_candidate() -> None:
    decision = next_attempt(outcome(RunError("connect", "refused"), order(SECOND)), START, healthy, unknown, declared)
    choice = order_of(decision)
    assert decision is not None
    assert (decision.attempt, choice.target, choice.candidates) == (2, SECOND, ())
    assert bytes(decision.request) == b""


@pytest.mark.parametrize(
    ("error", "carried", "late_s", "status"),
    [
        (RunError("connect", "x"), order(), 0, 502),
        (RunError("timeout_first_token", "x"), order(SECOND), 500, 504),
        (RunError("invalid_request", "x"), order(SECOND), 0, 400),
    ],
)
def test_where_no_attempt_may_follow_the_request_is_rejected(
    error: RunError, carried: Order, late_s: float, status: int
) -> None:
    decision = next_attempt(outcome(error, carried), START + timedelta(seconds=late_s), healthy, unknown, declared)
    assert decision is not None
    assert isinstance(decision.choice, Rejection)
    assert decision.choice.status == status


def test_an_outcome_of_nobody_is_a_bad_record() -> None:
    nobody = msgspec.structs.replace(outcome(carried=order(SECOND)), id="no-uuid")
    with pytest.raises(BadRecord, match="invalid_id"):
        next_attempt(nobody, START, healthy, unknown, declared)


@pytest.mark.parametrize("changes", [{"tenant": "nobody"}, {"policy": "another"}])
def test_an_outcome_that_no_policy_can_judge_is_a_bad_record(changes: dict[str, str]) -> None:
    stray = msgspec.structs.replace(outcome(carried=order(SECOND)), **changes)
    with pytest.raises(BadRecord, match="unknown_tenant"):
        next_attempt(stray, START, healthy, unknown, declared)


def test_nothing_follows_what_is_closed() -> None:
    assert next_attempt(outcome(RunError("connect", "x"), None), START, healthy, unknown, declared) is None
    assert next_attempt(outcome(None, order(SECOND), "completed"), START, healthy, unknown, declared) is None


TARGETS = st.lists(st.builds(Target, st.sampled_from("abc"), st.sampled_from("xyz")), max_size=6)


@given(TARGETS, st.sets(st.builds(Target, st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_health_only_moves_the_bad_behind_the_good(targets: list[Target], bad: set[Target]) -> None:
    ordered = healthy_first(tuple(targets), bad.__contains__)
    assert ordered == [t for t in targets if t not in bad] + [t for t in targets if t in bad]


@given(TARGETS, st.integers(0, 200))
def test_attempts_end_however_they_fail(candidates: list[Target], late_s: int) -> None:
    """Each failure leaves one candidate less; a repeated outcome gives the same decision."""
    error = RunError("provider_error", "503")
    carried, attempts, now = order(*candidates), 1, START + timedelta(seconds=late_s)
    while (decision := next_attempt(outcome(error, carried), now, healthy, unknown, declared)) is not None:
        assert decision == next_attempt(outcome(error, carried), now, healthy, unknown, declared)
        attempts += 1
        if isinstance(decision.choice, Rejection):
            break
        carried = order_of(decision)
    assert attempts <= len(candidates) + 2
