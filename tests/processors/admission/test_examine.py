"""What becomes of a record of `requests`: a request to serve, a decision that ends it, a cancel, or a dead letter."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.admission.examine import Examined, examine
from processors.codec import BadRecord, decode, encode
from processors.events import Cancel, Decision, Refusal, Rejection
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from tests.samples import START, policy, request_id

A = request_id(0)
POLICY = policy()


def view(tenant: str) -> tuple[Effective, CompiledRules] | None:
    effective = POLICY.effective(tenant)
    return (effective, CompiledRules(effective)) if effective else None


def body(**changes: Any) -> bytes:
    fields = {"id": A, "tenant": "demo", "model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None}).encode()


def judge(value: bytes | None, late_s: float = 0.0, headers: Any = None) -> Examined | Decision | Cancel:
    return examine(value, headers, START, START + timedelta(seconds=late_s), view)


def choice_of(value: bytes, late_s: float = 0.0) -> Any:
    decision = judge(value, late_s)
    assert isinstance(decision, Decision)
    return decision.choice


def test_the_smallest_request_is_served() -> None:
    examined = judge(body())
    assert isinstance(examined, Examined)
    assert (examined.request.model, examined.submitted, examined.prompt_tokens) == ("assistant", START, 1)
    assert examined.read_key is examined.write_key is None  # no temperature 0, no cache


def test_a_deterministic_request_may_use_the_cache() -> None:
    examined = judge(body(temperature=0))
    assert isinstance(examined, Examined)
    assert examined.read_key == examined.write_key is not None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "null_value"),
        (b"", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"[]", "undecodable"),
        (b'{"tenant": "demo"}', "undecodable"),
        (b'{"id": 5, "tenant": "demo"}', "undecodable"),
        (body(id="x"), "invalid_id"),
        (body(id="0192f3a0-0000-4000-8000-000000000000"), "invalid_id"),
        (body(id="01900000-0000-7000-8000-000000000000"), "invalid_id"),
        (body(id=A.upper()), "invalid_id"),
        (body(tenant="nobody"), "unknown_tenant"),
    ],
)
def test_what_nobody_can_be_told_about_is_dead_lettered(value: bytes | None, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        judge(value)
    assert caught.value.code == code


def test_a_higher_version_is_dead_lettered() -> None:
    with pytest.raises(BadRecord, match="version"):
        judge(body(), headers=[("v", b"2")])


def test_what_is_reached_ten_minutes_late_is_dead_lettered_as_expired() -> None:
    with pytest.raises(BadRecord, match="expired"):
        judge(body(), late_s=601)


@pytest.mark.parametrize(
    ("value", "status", "param"),
    [
        (body(model="gpt-9"), 404, "model"),
        (body(messages=[]), 400, "messages"),
        (body(messages=None), 400, "messages"),
        (body(temperature="hot"), 400, "temperature"),
        (body(n=2), 400, "n"),
        (body(logprobs=True), 400, "logprobs"),
        (body(surprise=1), 400, "surprise"),
        (body(user="x" * (1 << 20)), 413, None),
    ],
)
def test_what_can_be_told_gets_a_decision_naming_the_field(value: bytes, status: int, param: str | None) -> None:
    choice = choice_of(value)
    assert isinstance(choice, Rejection)
    assert (choice.status, choice.param) == (status, param)


def test_an_expired_request_is_never_executed() -> None:
    choice = choice_of(body(), late_s=61)
    assert isinstance(choice, Rejection)
    assert (choice.status, choice.code) == (504, "expired")


def test_a_prompt_that_breaks_a_rule_is_refused() -> None:
    parts = [{"type": "text", "text": "Never… ASK"}, {"type": "image_url", "image_url": {"url": "x"}}]
    decision = judge(body(messages=[{"role": "user", "content": parts}]))
    assert isinstance(decision, Decision)
    assert isinstance(decision.choice, Refusal)
    assert (decision.choice.rule, decision.unscreened) == ("refuse", ("image_url",))


def test_a_phrase_over_two_parts_of_a_message_is_refused() -> None:
    parts = [{"type": "text", "text": "you should NEVER"}, {"type": "text", "text": "ask me"}]
    assert isinstance(choice_of(body(messages=[{"role": "user", "content": parts}])), Refusal)


def test_a_flag_lets_it_pass_and_is_told() -> None:
    examined = judge(body(messages=[{"role": "user", "content": "an odd thing"}]))
    assert isinstance(examined, Examined)
    assert examined.flags == ("flag",)


def test_cancel() -> None:
    assert judge(b'{"id": "%b", "tenant": "demo", "cancel": true}' % A.encode()) == Cancel(A, "demo")


def test_the_decision_carries_the_raw_request() -> None:
    value = body(model="nope")
    decision = judge(value)
    assert isinstance(decision, Decision)
    assert bytes(decode("journal", encode(decision)).request) == value


def test_a_decision_without_the_request_is_sound_json() -> None:
    decision = judge(body(user="x" * (1 << 20)))
    assert isinstance(decision, Decision)
    assert bytes(decode("journal", encode(decision)).request) == b""


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
).map(lambda extra: body(**{"messages": extra, "extra": extra})))  # fmt: skip
def test_no_bytes_crash_it(value: bytes) -> None:
    try:
        result = judge(value)
    except BadRecord:
        return
    if isinstance(result, Decision):
        assert decode("journal", encode(result)).id == result.id
