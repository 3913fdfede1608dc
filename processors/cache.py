"""The exact cache: which answer belongs to which request, who may read and write it, and how it is stored.

Admission looks up, fill writes; both name an answer by `cache_key`, which is the whole Redis key. It carries the
tenant twice: readable in front, so that a tenant's entries can be found and erased, and inside the digest.
"""

import hashlib
from urllib.parse import quote

import msgspec

from processors.events import CachedAnswer, Request
from processors.policy import Cache

PREFIX = "sluice:cache:"
VERSION = 1
"""Of keys and stored values alike: raising it turns everything stored before into misses."""

NOT_IN_KEY = frozenset(
    {
        "stream", "stream_options", "user", "metadata",  # how it is delivered and accounted
        "id", "edge", "on_disconnect", "expires_at", "deadline_s", "client_request_id", "session", "priority", "cache",
        "key",
        "tenant",  # hashed beside the request, because what came over HTTP does not say it
    }
)  # fmt: skip
"""Every other field shapes the answer. A field we learn later is part of the key until it is named here."""

_canonical = msgspec.json.Encoder(order="sorted").encode
_parse = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_parse_any = msgspec.json.Decoder().decode


def tenant_prefix(tenant: str) -> str:
    """What all Redis keys of a tenant begin with. Escaped: no name reaches into another's keys or holds a wildcard."""
    return f"{PREFIX}{quote(tenant, safe='')}:"


def cache_key(raw_request: bytes, tenant: str, policy_hash: str) -> str:
    """The Redis key of the answer to this request: equal for equal JSON, whatever its key order and spacing.

    `policy_hash` is `Effective.hash`, so that an answer judged under other rules is never found.

    Raises:
        ValueError: the request is no JSON object.
    """
    try:
        asked = {name: _parse_any(value) for name, value in _parse(raw_request).items() if name not in NOT_IN_KEY}
    except RecursionError:
        raise ValueError("the request is nested too deeply") from None
    identity = _canonical([VERSION, tenant, policy_hash, asked])
    return tenant_prefix(tenant) + hashlib.sha256(identity).hexdigest()


def may_read(request: Request, cache: Cache) -> bool:
    """Whether a stored answer may serve this request."""
    return request.cache == "use" and _cacheable(request, cache)


def may_write(request: Request, cache: Cache) -> bool:
    """Whether this request's answer may be stored: `no-cache` asks for a fresh one and lets others have it."""
    return request.cache != "no-store" and _cacheable(request, cache)


def _cacheable(request: Request, cache: Cache) -> bool:
    if cache.when == "never" or _has_tools(request):
        return False
    return cache.when == "always" or request.temperature == 0


def _has_tools(request: Request) -> bool:
    """Tools act on a world that moves on, so no answer that knew of them is kept."""
    return request.tools is not None or any(
        message.tool_calls or message.role in ("tool", "function") for message in request.messages
    )


class _Stored(msgspec.Struct, frozen=True):
    v: int
    tenant: str
    key: str
    answer: CachedAnswer


_decode_stored = msgspec.json.Decoder(_Stored).decode


def encode_answer(tenant: str, key: str, answer: CachedAnswer) -> bytes:
    """The value kept under `key`: the answer with whose it is and what it answers."""
    return msgspec.json.encode(_Stored(VERSION, tenant, key, answer))


def decode_answer(key: str, value: bytes) -> CachedAnswer | None:
    """The answer stored under `key`; None, a miss, for a value that is not exactly what belongs there."""
    try:
        stored = _decode_stored(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    whole = stored.v == VERSION and stored.key == key and key.startswith(tenant_prefix(stored.tenant))
    return stored.answer if whole and stored.answer.parts else None
