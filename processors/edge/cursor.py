"""The opaque place in a stream that a client hands back to resume: seq, log offset, and a tag of whose it is.

The tag keeps a cursor from being used with another stream by mistake. It is no secret and proves no ownership:
that is told by the tenant in the records themselves.
"""

import hashlib
import re
from typing import NamedTuple

_FORM = re.compile(r"([0-9a-f]{1,12})\.([0-9a-f]{1,15})\.([0-9a-f]{8})", re.ASCII)


class BadCursor(ValueError):
    """A cursor that is none, or that belongs to another stream or tenant."""


class Cursor(NamedTuple):
    """The record a reader has seen last: its seq, and its offset in the partition that the id gives."""

    seq: int
    offset: int


def cursor_tag(request_id: str, tenant: str) -> str:
    """What every cursor of this stream ends with; computed once a stream, not once a record."""
    return hashlib.sha256(f"{tenant}\0{request_id}".encode()).hexdigest()[:8]


def write_cursor(seq: int, offset: int, tag: str) -> str:
    """The cursor of one record."""
    return f"{seq:x}.{offset:x}.{tag}"


def read_cursor(text: str, request_id: str, tenant: str) -> Cursor:
    """The place in a cursor of this stream.

    Raises:
        BadCursor: it has not our form, or another stream's or tenant's tag.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadCursor("the cursor is not one of this server's")
    if match[3] != cursor_tag(request_id, tenant):
        raise BadCursor("the cursor belongs to another stream")
    return Cursor(int(match[1], 16), int(match[2], 16))
