from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.admission.validate import RequestRejected, read_request
from processors.edge.submission import MAX_BODY, Origin, body_hash, parse_body, submit
from processors.events import EdgeRef

NOW = datetime(2026, 1, 31, tzinfo=UTC)
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
ID = "0192d2c0-0000-7000-8000-000000000001"


def origin(**changes: Any) -> Origin:
    return Origin(**({"tenant": "demo", "edge": EdgeRef("edge-0", "x"), "on_disconnect": "cancel"} | changes))


def rejection(data: dict[str, Any]) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        submit(data, ID, origin(), NOW)
    return caught.value


def test_the_servers_fields_are_added() -> None:
    found = submit(BODY, ID, origin(client_request_id="mine"), NOW)
    assert orjson.loads(found.value) == BODY | {
        "id": ID,
        "tenant": "demo",
        "edge": {"instance": "edge-0", "incarnation": "x"},
        "on_disconnect": "cancel",
        "client_request_id": "mine",
    }
    assert read_request(found.value, NOW) == found.request


@pytest.mark.parametrize("name", ["id", "tenant", "edge", "client_request_id", "on_disconnect"])
def test_a_client_may_not_set_them(name: str) -> None:
    found = rejection(BODY | {name: "x"})
    assert (found.status, found.param) == (400, name)


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        ("", None, "use"), ("no-cache", None, "no-cache"), ("max-age=0, No-Store", None, "no-store"),
        ("no-cache, no-store", None, "no-store"), ("no-store", "use", "use"), ("public", "no-cache", "no-cache"),
    ],
)  # fmt: skip
def test_cache_control_is_obeyed_unless_the_body_says_otherwise(said: str, asked: str | None, expected: str) -> None:
    body = BODY | ({"cache": asked} if asked else {})
    assert submit(body, ID, origin(cache_control=said), NOW).request.cache == expected


def test_what_is_wrong_is_named() -> None:
    assert rejection(BODY | {"n": 2}).param == "n"
    assert rejection({"model": "m"}).param == "messages"


def test_a_body_beyond_the_limit_is_413() -> None:
    with pytest.raises(RequestRejected) as caught:
        parse_body(b" " * (MAX_BODY + 1))
    assert caught.value.status == 413
    assert rejection(BODY | {"user": "u" * MAX_BODY}).status in (400, 413)


@given(st.binary(max_size=50))
def test_any_bytes_are_an_object_or_rejected(body: bytes) -> None:
    try:
        assert isinstance(parse_body(body), dict)
    except RequestRejected as error:
        found = error
    else:
        return
    assert found.status == 400


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert body_hash(BODY) == body_hash(dict(reversed(BODY.items())))
    assert body_hash(BODY) != body_hash(BODY | {"temperature": 0.6})
