"""How a flush survives a crash: what it is about to insert stands in Kafka, beside the offsets, before it does.

Before a flush the unchanged offsets are committed once more, each with a note: where its range will end, and the
token of the flush. Then each table gets one insert under that token, then the ends are committed, without a note.
Whoever finds notes at assignment reads exactly those ranges again and inserts them under the same token: ClickHouse
drops what it has, and takes what it has not. The token is trusted over the rows, so it stands for the ranges *and* for
`SCHEMA`, the way in which rows are made from records.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from processors.identity import content_hash

SCHEMA = 1
"""To be raised by every change that gives another row for the same record."""

Partition = tuple[str, int]


class Range(NamedTuple):
    """Offsets from `start` up to, not including, `end`."""

    start: int
    end: int


Ranges = dict[Partition, Range]


class Note(msgspec.Struct, frozen=True):
    """What stands in the commit metadata of one partition: about 70 bytes, of the 4,096 that Kafka allows."""

    token: str
    end: int


class Replay(NamedTuple):
    """A flush that was begun and perhaps not finished."""

    token: str
    ranges: Ranges


class Committed(NamedTuple):
    """A group's committed offset with its metadata."""

    offset: int
    metadata: str


def token_of(ranges: Mapping[Partition, Range]) -> str:
    """Names exactly these ranges, whatever their order."""
    lines = [f"{topic}/{number}:{start}-{end}" for (topic, number), (start, end) in sorted(ranges.items())]
    return f"sink-{SCHEMA}-{content_hash(chr(10).join(lines).encode())}"


def notes_of(ranges: Ranges, token: str) -> dict[Partition, str]:
    """The commit metadata of each partition of a flush."""
    return {partition: msgspec.json.encode(Note(token, span.end)).decode() for partition, span in ranges.items()}


def replays(committed: Mapping[Partition, Committed]) -> list[Replay]:
    """The flushes to repeat before anything else is read.

    One of which not all partitions are here (the group was rebalanced at the same moment), or whose rows were made
    otherwise (another SCHEMA), cannot be repeated under its token. It is left out: its records are read like any
    others, and the identity of the events sees to it that each counts once.
    """
    found: dict[str, Ranges] = {}
    for partition, (offset, metadata) in committed.items():
        note = _read(metadata)
        if note is not None and note.end > offset:
            found.setdefault(note.token, {})[partition] = Range(offset, note.end)
    return [Replay(token, ranges) for token, ranges in sorted(found.items()) if token_of(ranges) == token]


def _read(metadata: str) -> Note | None:
    try:
        return msgspec.json.decode(metadata, type=Note)
    except msgspec.MsgspecError:
        return None
