"""What is inserted at once: rows by table, and the records that gave none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from processors.codec import BadRecord, decode
from processors.sink.rows import MANY, ROWS, Record, Records, events_of, raw_row
from processors.sink.table import Columns, Row, Table

LogPlace = tuple[int, int, int]
"""Partition, offset, append time (milliseconds of Unix time)."""


class Bad(NamedTuple):
    """A record to be dead-lettered, with what its dead letter tells."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    error: BadRecord


class _Events:
    """Events of one type, and where each stood."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.places: list[LogPlace] = []

    def columns(self, kind: type) -> Columns:
        _, build = MANY[kind]
        partitions, offsets, times = zip(*self.places, strict=True)
        return [*build(self.events), partitions, offsets, [time * 1000 for time in times]]


class Batch:
    """Takes records; gives columns, table by table."""

    def __init__(self, judged: frozenset[str]) -> None:
        """`judged` are the topics whose bad records are ours to dead-letter; others are counted and passed over."""
        self.records = 0
        self.bytes = 0
        self.bad: list[Bad] = []
        self.skipped: Counter[tuple[str, str]] = Counter()
        """By topic and error code."""
        self._judged = judged
        self._rows: defaultdict[Table, list[Row]] = defaultdict(list)
        self._many: defaultdict[type, _Events] = defaultdict(_Events)

    def extend(self, topic: str, records: Records) -> None:
        """Take records of a topic, in any portions."""
        self.records += len(records.values)
        self.bytes += sum(map(len, filter(None, records.values)))
        events = events_of(topic, records.headers, records.values)
        if events is None:
            for record in records.each():
                self._look_closer(topic, record)
        else:
            self._place(events, zip(repeat(records.partition), records.offsets, records.times_ms))

    def pass_over(self, topic: str, record: Record, error: BadRecord) -> None:
        """Leave out a record that must not be taken."""
        partition, offset, timestamp_ms, key, _, value = record
        self.records += 1
        self._reject(Bad(topic, partition, offset, timestamp_ms, key, value, error))

    def _reject(self, bad: Bad) -> None:
        if bad.topic in self._judged:
            self.bad.append(bad)
        else:
            self.skipped[bad.topic, bad.error.code] += 1

    def _look_closer(self, topic: str, record: Record) -> None:
        partition, offset, timestamp_ms, key, headers, value = record
        try:
            row = raw_row(topic, record)
            if row is not None:
                self._rows[row[0]].append(row[1])
            else:
                self._place([decode(topic, value, headers)], [(partition, offset, timestamp_ms)])
        except BadRecord as error:
            self._reject(Bad(topic, partition, offset, timestamp_ms, key, value, error))

    def _place(self, events: Iterable[Any], places: Iterable[LogPlace]) -> None:
        for event, place in zip(events, places, strict=True):
            kind = type(event)
            if kind in MANY:
                many = self._many[kind]
                many.events.append(event)
                many.places.append(place)
            else:
                table, build = ROWS[kind]
                partition, offset, timestamp_ms = place
                self._rows[table].append(build(event, (partition, offset, timestamp_ms * 1000)))

    def columns(self) -> Iterator[tuple[Table, Columns]]:
        """Each table that gets something, once: a second insert under the same token would be dropped."""
        for table, rows in self._rows.items():
            yield table, table.columns_of(rows)
        for kind, found in self._many.items():
            yield MANY[kind][0], MANY[kind][0].fitted(found.columns(kind))
