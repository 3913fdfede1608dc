"""Which row a record becomes, and in which table."""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from processors import events
from processors.codec import DECODERS, VERSION_HEADERS, Headers
from processors.sink import guard, journal, raw
from processors.sink.table import Columns, Place, Row, Table

REQUESTS_TOPIC = "requests"
DEAD_LETTERS_TOPIC = "dead-letters"

Record = tuple[int, int, int, bytes | None, Headers, bytes | None]
"""Partition, offset, append time (milliseconds of Unix time), key, headers, value."""


class Records(NamedTuple):
    """Records of one partition, column by column: made, and looked through, several times faster than one by one."""

    partition: int
    offsets: Sequence[int]
    times_ms: Sequence[int]
    keys: Sequence[bytes | None]
    headers: Sequence[Headers]
    values: Sequence[bytes | None]

    def each(self) -> Iterator[Record]:
        """One by one."""
        return zip(repeat(self.partition), *self[1:])


ROWS: dict[type, tuple[Table, Callable[[Any, Place], Row]]] = {
    events.Decision: (journal.DECISIONS, journal.decision),
    events.RunStarted: (journal.RUNS, journal.run_started),
    events.RunAlive: (journal.CONTROL, journal.run_alive),
    events.RunEnded: (journal.RUN_ENDS, journal.run_ended),
    events.Joined: (journal.CONTROL, journal.joined),
    events.Left: (journal.CONTROL, journal.left),
    events.EdgeStarted: (journal.CONTROL, journal.edge_started),
    events.Cancel: (journal.CONTROL, journal.cancel),
    events.Stop: (journal.CONTROL, journal.stop),
    events.TimedOut: (journal.CONTROL, journal.timed_out),
    events.GivenUp: (journal.CONTROL, journal.given_up),
    events.Scored: (journal.SCORES, journal.scored),
    events.Opinion: (journal.OPINIONS, journal.opinion),
    events.Leased: (journal.LEASES, journal.leased),
    events.Opened: (journal.CONTROL, guard.opened),
    events.End: (guard.ENDS, guard.end),
    events.Outcome: (guard.OUTCOMES, guard.outcome),
    events.Answer: (guard.ANSWERS, guard.answer),
    events.Verdict: (guard.VERDICTS, guard.verdict),
    events.Action: (guard.ACTIONS, guard.action),
    events.Summary: (guard.SUMMARIES, guard.summary),
    events.Health: (guard.HEALTH, guard.health),
}
"""Types that come one by one."""

MANY: dict[type, tuple[Table, Callable[[Sequence[Any]], Columns]]] = {
    events.Chunk: (journal.CHUNKS, journal.chunks),
    events.Tokens: (guard.RELEASES, guard.releases),
}
"""Types that come in such numbers that they are made into columns all at once, without their places."""

TABLES = {
    table.name: table
    for table in (raw.REQUESTS, raw.DEAD_LETTERS, *(table for table, _ in [*ROWS.values(), *MANY.values()]))
}


def raw_row(topic: str, record: Record) -> tuple[Table, Row] | None:
    """The table and the row of a record that is not an event of ours; None in the other topics.

    Raises:
        BadRecord: it cannot be stored; what comes of it is the business of its topic's judge.
    """
    partition, offset, timestamp_ms, key, headers, value = record
    place = (partition, offset, timestamp_ms * 1000)
    if topic == REQUESTS_TOPIC:
        return raw.request(value, headers, place)
    if topic == DEAD_LETTERS_TOPIC:
        return raw.dead_letter(key, headers, value, place)
    return None


def events_of(topic: str, headers: Sequence[Headers], values: Sequence[bytes | None]) -> list[Any] | None:
    """All events of a topic's records, decoded in one go; None where one of them needs a closer look.

    Twice as fast as one by one. A line is a record only if no record holds a line break, nor is empty.
    """
    if topic not in DECODERS or headers.count(VERSION_HEADERS) + headers.count(None) < len(headers):
        return None
    try:
        lines = b"\n".join(values)  # type: ignore[arg-type]
        if lines.count(b"\n") != len(values) - 1:
            return None
        found = DECODERS[topic].decode_lines(lines)
    except (TypeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if len(found) == len(values) else None
