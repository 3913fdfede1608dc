"""Which answer belongs to which request, and what of Redis is believed."""

import json
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.cache import (
    NOT_IN_KEY,
    cache_key,
    decode_answer,
    encode_answer,
    may_read,
    may_write,
    tenant_prefix,
)
from processors.events import AnswerPart, CachedAnswer, Request, Usage
from processors.policy import Cache

ASKED: dict[str, Any] = {
    "id": "0198c0de-0000-7000-8000-000000000001",
    "tenant": "demo",
    "model": "assistant",
    "messages": [{"role": "user", "content": "Сколько будет дважды два?"}],
    "temperature": 0,
}
ANSWER = CachedAnswer((AnswerPart("content", "four"),), "stop", Usage(3, 1), source=ASKED["id"])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
tenants = st.text(min_size=1, max_size=20)


def key(tenant: str = "demo", policy: str = "p1", **changes: Any) -> str:
    return cache_key(json.dumps(ASKED | changes).encode(), tenant, policy)


def shuffled(value: Any) -> Any:
    """The same JSON with every object's keys the other way round."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), values, max_size=6))
def test_key_order_spacing_and_escapes_do_not_matter(extra: dict[str, Any]) -> None:
    request = ASKED | {"response_format": extra}
    plain = json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()
    other = json.dumps(shuffled(request), indent=3).encode()
    assert cache_key(plain, "demo", "p1") == cache_key(other, "demo", "p1")


@given(values, values)
def test_other_values_other_keys(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key(response_format=one) == key(response_format=other)) is same


def test_whole_numbers_of_any_size_are_told_apart() -> None:
    assert key(seed=2**64) != key(seed=2**64 + 1)


@pytest.mark.parametrize("field", sorted(NOT_IN_KEY))
def test_delivery_and_transport_are_no_part_of_the_key(field: str) -> None:
    assert cache_key(json.dumps(ASKED | {field: "another"}).encode(), "demo", "p1") == key()


@pytest.mark.parametrize("field", sorted(set(Request.__struct_fields__) - NOT_IN_KEY))
def test_every_other_field_of_a_request_is(field: str) -> None:
    assert key(**{field: "another"}) != key()


def test_tenant_and_policy_are_part_of_the_key() -> None:
    assert len({key(), key(tenant="other"), key(policy="p2"), key(tenant="demop1", policy="")}) == 4


@given(tenants, tenants)
def test_no_tenant_reaches_into_the_keys_of_another(one: str, other: str) -> None:
    mine = key(tenant=one)
    assert mine.startswith(tenant_prefix(one))
    assert mine.startswith(tenant_prefix(other)) is (one == other)
    assert fnmatchcase(mine, tenant_prefix(other) + "*") is (one == other), "SCAN takes names as patterns"


@pytest.mark.parametrize("raw", [b"", b"[1]", b"null", b"{", b"\xff", b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"])
def test_what_is_no_json_object_has_no_key(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the JSON reader's
        cache_key(raw, "demo", "p1")


def request(**changes: Any) -> Request:
    return msgspec.convert(ASKED | changes, Request)


@pytest.mark.parametrize(
    ("changes", "when", "read", "write"),
    [
        ({}, "deterministic", True, True),
        ({"temperature": 0.0}, "deterministic", True, True),
        ({"temperature": 0.1}, "deterministic", False, False),
        ({"temperature": None}, "deterministic", False, False),
        ({"temperature": 0.1}, "always", True, True),
        ({}, "never", False, False),
        ({"cache": "no-cache"}, "always", False, True),
        ({"cache": "no-store"}, "always", False, False),
        ({"tools": [{"type": "function"}]}, "always", False, False),
        ({"tools": []}, "always", False, False),
        ({"messages": [{"role": "tool", "content": "42"}]}, "always", False, False),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "always", False, False),
    ],
)
def test_who_may_read_and_write(changes: dict[str, Any], when: Any, read: bool, write: bool) -> None:
    asked, cache = request(**changes), Cache(when=when)
    assert (may_read(asked, cache), may_write(asked, cache)) == (read, write)


def test_an_answer_comes_back_as_it_was_stored() -> None:
    assert decode_answer(key(), encode_answer("demo", key(), ANSWER)) == ANSWER


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"tenant": "other"}, {"key": key(tenant="other")}, {"key": key(seed=1)}, {"answer": None}],
)
def test_a_value_that_does_not_match_its_key_is_a_miss(change: dict[str, Any]) -> None:
    stored = json.loads(encode_answer("demo", key(), ANSWER)) | change
    assert decode_answer(key(), json.dumps(stored).encode()) is None


def test_a_value_of_another_tenant_is_a_miss_even_under_its_own_name() -> None:
    assert decode_answer(key(), encode_answer("other", key(), ANSWER)) is None


def test_an_empty_answer_is_a_miss() -> None:
    empty = msgspec.structs.replace(ANSWER, parts=())
    assert decode_answer(key(), encode_answer("demo", key(), empty)) is None


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_a_miss_and_never_an_error(value: bytes) -> None:
    assert decode_answer(key(), value) is None


@given(st.data())
def test_a_value_cut_short_is_a_miss(data: st.DataObject) -> None:
    whole = encode_answer("demo", key(), ANSWER)
    assert decode_answer(key(), whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
