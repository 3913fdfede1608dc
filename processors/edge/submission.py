"""A client's body as the request that is published: what the server adds, what a client may not set."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import orjson

from processors.admission.validate import RequestRejected, read_request
from processors.events import EdgeRef, OnDisconnect, Request
from processors.identity import content_hash

MAX_BODY = 1 << 20
"""Bytes of a request's body."""

SET_BY_SERVER = ("id", "tenant", "edge", "client_request_id", "on_disconnect", "key")

CACHE_WORDS = ("no-store", "no-cache")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the server knows of a submission and its client may not say."""

    tenant: str
    edge: EdgeRef
    on_disconnect: OnDisconnect
    client_request_id: str | None = None
    cache_control: str = ""
    key: str | None = None
    """What the hash of the caller's API key begins with."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request ready to be published, under the id drawn for it."""

    request: Request
    value: bytes


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestRejected: it is too large, no JSON, or no object.
    """
    if len(body) > MAX_BODY:
        raise too_large()
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRejected(400, "invalid_json", None, f"the request is not valid JSON: {error}") from None
    return check_object(data)


def check_object(data: Any) -> dict[str, Any]:
    """The same, of data that is parsed already."""
    if not isinstance(data, dict):
        raise RequestRejected(400, "invalid_type", None, "the request must be a JSON object")
    return data


def too_large() -> RequestRejected:
    """A body beyond the limit."""
    return RequestRejected(413, "request_too_large", None, f"the request is larger than {MAX_BODY} bytes")


def submit(data: dict[str, Any], request_id: str, origin: Origin, now: datetime) -> Submission:
    """The request to publish, checked.

    Raises:
        RequestRejected: whatever is wrong with it.
    """
    for name in SET_BY_SERVER:
        if name in data:
            raise RequestRejected(400, "unknown_parameter", name, f"`{name}` is set by the server; leave it out")
    fields = {"id": request_id, "tenant": origin.tenant} | data
    fields["edge"] = msgspec.to_builtins(origin.edge)
    fields["on_disconnect"] = origin.on_disconnect
    if origin.key:
        fields["key"] = origin.key
    if origin.client_request_id:
        fields["client_request_id"] = origin.client_request_id
    asked = _cache_word(origin.cache_control)
    if asked:
        fields.setdefault("cache", asked)
    try:
        value = orjson.dumps(fields)
    except orjson.JSONEncodeError as error:
        raise RequestRejected(400, "invalid_json", None, f"the request cannot be carried on: {error}") from None
    request = read_request(value, now)
    if len(value) > MAX_BODY:
        raise too_large()
    return Submission(request, value)


def body_hash(data: dict[str, Any]) -> str:
    """Names a body whatever the order of its keys: what an idempotency key is bound to."""
    return content_hash(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))


def _cache_word(cache_control: str) -> str | None:
    words = {word.strip().lower() for word in cache_control.split(",")}
    return next((word for word in CACHE_WORDS if word in words), None)
