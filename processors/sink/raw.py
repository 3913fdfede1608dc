"""Rows of records that are not events of ours: what producers published, and dead letters."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from processors.codec import BadRecord, Headers, check_version
from processors.identity import content_hash
from processors.sink.journal import CONTROL, control
from processors.sink.table import INT, MAYBE_TIME, PAIRS, STRING, Place, Row, Table
from processors.sink.values import micros

REQUESTS = Table(
    "requests",
    {
        "id": STRING, "tenant": STRING, "model": STRING, "user": STRING, "metadata": PAIRS, "session": STRING,
        "priority": STRING, "sensitivity": STRING, "cache": STRING, "on_disconnect": STRING, "edge": STRING,
        "incarnation": STRING, "client_request_id": STRING, "bytes": INT, "body_hash": STRING, "body": STRING,
    },
)  # fmt: skip
DEAD_LETTERS = Table(
    "dead_letters",
    {
        "origin_topic": STRING, "origin_partition": INT, "origin_offset": INT, "origin_timestamp": MAYBE_TIME,
        "stage": STRING, "error": STRING, "message": STRING, "version": STRING, "key": STRING, "bytes": INT,
        "value": STRING,
    },
)  # fmt: skip
DEAD_LETTER_PREFIX = "dead-letter-"
"""Begins the names of the headers that tell a dead letter's origin."""


class _Asked(msgspec.Struct):
    """A request as far as anyone can say. Admission judges it, so a field of the wrong type is none, and no error."""

    id: str
    tenant: str
    cancel: Any = False
    model: Any = None
    user: Any = None
    metadata: Any = None
    session: Any = None
    priority: Any = None
    sensitivity: Any = None
    cache: Any = None
    on_disconnect: Any = None
    edge: Any = None
    client_request_id: Any = None


_DECODER = msgspec.json.Decoder(_Asked)


def request(value: bytes | None, headers: Headers, place: Place) -> tuple[Table, Row]:
    """A request, or the cancel of one, which is of the kind of things that steer a stream.

    Raises:
        BadRecord: it has no id and tenant; admission dead-letters it.
    """
    check_version(headers)
    if value is None:
        raise BadRecord("null_value", "the record has no value")
    try:
        asked = _DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", str(error)) from None
    if asked.cancel is True:
        return CONTROL, control("cancel_requested", place, asked.id, asked.tenant)
    edge = asked.edge if isinstance(asked.edge, dict) else {}
    texts = (asked.session, asked.priority, asked.sensitivity, asked.cache, asked.on_disconnect)
    return REQUESTS, (
        asked.id, asked.tenant, _text(asked.model), _text(asked.user), _pairs(asked.metadata), *map(_text, texts),
        _text(edge.get("instance")), _text(edge.get("incarnation")), _text(asked.client_request_id),
        len(value), content_hash(value), value, *place,
    )  # fmt: skip


def dead_letter(key: bytes | None, headers: Headers, value: bytes | None, place: Place) -> tuple[Table, Row]:
    """Any record at all: raw bytes, and of its origin what the headers tell; -1 where they tell none."""
    told = {name[len(DEAD_LETTER_PREFIX) :]: raw.decode(errors="replace") for name, raw in _origin(headers)}
    raw = value or b""
    return DEAD_LETTERS, (
        told.get("topic", ""), _whole(told.get("partition")), _whole(told.get("offset")), _time(told.get("timestamp")),
        told.get("stage", ""), told.get("error", ""), told.get("message", ""), told.get("version", ""),
        key or b"", len(raw), raw, *place,
    )  # fmt: skip


def _origin(headers: Headers) -> Iterator[tuple[str, bytes]]:
    return ((name, raw) for name, raw in headers or () if raw is not None and name.startswith(DEAD_LETTER_PREFIX))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _pairs(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else -1


def _time(text: str | None) -> int | None:
    try:
        return micros(datetime.fromisoformat(text)) if text else None
    except ValueError:
        return None
