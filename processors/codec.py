"""Bytes to events and back, one decoder a topic; a bad record is a named rejection, never a surprise later on.

msgspec writes as well as reads: it encodes our structs at the speed at which orjson encodes the equivalent dicts
(bench/codec.py), without building the dicts. orjson serves where JSON has no struct of ours.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from processors.events import (
    VERSION,
    Answer,
    ApiKey,
    Health,
    JournalEvent,
    Outcome,
    PolicyPublished,
    TokenEvent,
    VerdictEvent,
)

Headers = Iterable[tuple[str, Any]] | None

VERSION_HEADER = "v"
VERSION_HEADERS: list[tuple[str, str | bytes | None]] = [(VERSION_HEADER, str(VERSION).encode())]
"""The one header that hot-path records carry."""

CHUNK_PREFIX = b'{"type":"chunk"'
"""Tells a chunk from the first bytes, for readers of the journal that have no use for text."""

encode = msgspec.json.Encoder().encode


class BadRecord(Exception):
    """A record that its reader cannot accept. `code` goes into the dead letter's `error` header."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "journal": msgspec.json.Decoder(JournalEvent),
    "tokens": msgspec.json.Decoder(TokenEvent),
    "outcomes": msgspec.json.Decoder(Outcome),
    "answers": msgspec.json.Decoder(Answer),
    "verdicts": msgspec.json.Decoder(VerdictEvent),
    "health": msgspec.json.Decoder(Health),
    "keys": msgspec.json.Decoder(ApiKey),
    "policies": msgspec.json.Decoder(PolicyPublished),
}


def check_version(headers: Headers) -> None:
    """Refuse a record of a higher major version; none stated means version 1.

    Raises:
        BadRecord: `version`, for a higher major or one that is no number.
    """
    for name, value in headers or ():
        if name == VERSION_HEADER:
            major = (value or b"").partition(b".")[0]
            if len(major) > 4 or not major.isdigit() or int(major) > VERSION:
                raise BadRecord("version", f"event version {major[:20]!r}; this reader knows up to {VERSION}")


def decode(topic: str, value: bytes | None, headers: Headers = None) -> Any:
    """The event in a record of `topic`.

    Raises:
        BadRecord: `version`, `null_value` or `undecodable`, with the path of the field at fault.
    """
    if headers != VERSION_HEADERS:  # else it is what we write ourselves
        check_version(headers)
    if value is None:
        raise BadRecord("null_value", "the record has no value")
    try:
        return DECODERS[topic].decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", str(error)) from None
