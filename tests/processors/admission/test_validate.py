from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.admission.validate import RequestRejected, read_request, text_parts

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
HELLO = [{"role": "user", "content": "hello"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PARTS = st.fixed_dictionaries({"type": JSON}, optional={"text": JSON})
FIELDS = (
    "id", "tenant", "model", "messages", "temperature", "top_p", "max_tokens", "stop", "seed", "n", "stream_options",
    "user", "metadata", "expires_at", "deadline_s", "edge", "tools", "response_format", "priority", "audio",
)  # fmt: skip


def body(**changes: Any) -> bytes:
    return orjson.dumps({"id": "i", "tenant": "t", "model": "m", "messages": HELLO} | changes)


def rejection(value: bytes) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        read_request(value, NOW)
    return caught.value


def test_the_smallest_request_passes() -> None:
    request = read_request(body(), NOW)
    assert (request.model, request.messages[0].content) == ("m", "hello")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0}, {"temperature": 2}, {"top_p": 0}, {"top_p": 1}, {"max_tokens": 1}, {"n": 1}, {"n": None},
        {"stop": "x"}, {"stop": ["a", "b", "c", "d"]}, {"seed": -(2**63)}, {"user": "u" * 512}, {"stream": True},
        {"metadata": {f"{i:>64}": "v" * 512 for i in range(16)}}, {"stream_options": {"include_usage": True}},
        {"deadline_s": 0.1}, {"expires_at": "2026-01-31T12:10:00Z"}, {"expires_at": "2020-01-01T00:00:00+03:00"},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]},
        {"messages": [{"role": "tool", "content": "", "tool_call_id": "c"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"response_format": {"type": "json_object"}, "reasoning_effort": "low"},
    ],
)  # fmt: skip
def test_what_lies_within_the_bounds_passes(fields: dict[str, Any]) -> None:
    read_request(body(**fields), NOW)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": " "}, "model", "invalid_value"),
        ({"model": None}, "model", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role", "invalid_type"),
        ({"messages": [*HELLO, {"role": "user", "content": 3}]}, "messages[1].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0].text",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "x" * 65}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        ({"temperature": 2.01}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens", "invalid_value"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"n": 0}, "n", "unsupported_value"),
        ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 2}, "top_logprobs", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"functions": []}, "functions", "unsupported_parameter"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value"),
        ({"user": "u" * 513}, "user", "invalid_value"),
        ({"stream_options": {"other": True}}, "stream_options.other", "unsupported_parameter"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_value"),
        ({"deadline_s": 0}, "deadline_s", "invalid_value"),
        ({"deadline_s": 1e300}, "deadline_s", "invalid_value"),
        ({"expires_at": "2026-01-31T12:00:00"}, "expires_at", "invalid_value"),
        ({"expires_at": "2026-01-31T12:10:00.000001Z"}, "expires_at", "invalid_value"),
        ({"expires_at": "soon"}, "expires_at", "invalid_type"),
        ({"priority": "urgent"}, "priority", "invalid_type"),
        ({"edge": {"instance": 1}}, "edge.instance", "invalid_type"),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    found = rejection(body(**fields))
    assert (found.status, found.code, found.param) == (400, code, param)
    assert param.split(".")[0] in found.message


def test_a_seed_beyond_64_bits_is_refused() -> None:
    value = body()[:-1] + b',"seed":' + str(2**63).encode() + b"}"
    assert rejection(value).param == "seed"


def test_a_missing_field_is_named() -> None:
    found = rejection(b'{"id":"i","tenant":"t","messages":[]}')
    assert (found.code, found.param) == ("missing_required_parameter", "model")


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'"\\ud800"', b"NaN"])
def test_what_is_no_json_is_said(value: bytes) -> None:
    assert rejection(value).code == "invalid_json"


def test_what_is_no_object_is_said() -> None:
    assert rejection(b"[]").code == "invalid_type"


def test_deep_nesting_is_refused() -> None:
    value = body()[:-1] + b',"tools":[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    assert rejection(value).code == "invalid_json"


def test_texts_are_found_and_other_parts_are_marked() -> None:
    messages = [
        {"role": "system", "content": "one"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "two"},
                {"type": "image_url", "image_url": {"url": "x"}},
                {"type": "file", "file": {}},
            ],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "three"}]},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "four"}}]},
    ]
    texts, unscreened = text_parts(read_request(body(messages=messages), NOW))
    assert texts == ["one", "two", "three", "four"]
    assert unscreened == ("file", "image_url")


def test_a_tool_call_whose_arguments_are_no_text_is_marked() -> None:
    messages = [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"a": 1}}}, {"function": 3}]}]
    assert text_parts(read_request(body(messages=messages), NOW)) == ([], ("tool_call",))


def harmless(value: bytes) -> None:
    try:
        text_parts(read_request(value, NOW))
    except RequestRejected as error:
        found = error
    else:
        return
    assert 400 <= found.status < 500
    assert found.code
    assert found.message


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(value: bytes) -> None:
    harmless(value)


@given(JSON)
def test_any_json_is_read_or_rejected(data: Any) -> None:
    try:
        value = orjson.dumps(data)
    except TypeError:  # an integer beyond 64 bits
        return
    harmless(value)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_json_in_any_field_is_read_or_rejected(fields: dict[str, Any]) -> None:
    try:
        value = body(**fields)
    except TypeError:
        return
    harmless(value)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "tool"])},
            optional={"content": JSON | st.lists(PARTS), "tool_calls": JSON},
        ),
        max_size=3,
    )
)  # fmt: skip
def test_any_messages_are_read_or_rejected(messages: Any) -> None:
    try:
        value = body(messages=messages)
    except TypeError:
        return
    harmless(value)


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_expiry_is_read_or_rejected(expires_at: datetime) -> None:
    value = body(expires_at=expires_at.isoformat())
    if expires_at - NOW > timedelta(minutes=10):
        assert rejection(value).param == "expires_at"
    else:
        read_request(value, NOW)
