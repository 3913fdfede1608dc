"""What is inserted at once: rows by table, and the records that gave none."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, NamedTuple

from processors.codec import BadRecord, decode
from processors.sink.rows import MANY, ROWS, Record, Records, events_of, raw_row
from processors.sink.table import Columns, Row, Table


class Bad(NamedTuple):
    """A record to be dead-lettered, with what its dead letter tells."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    error: BadRecord


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
        self._many: dict[type, list[list[Any]]] = {}

    def extend(self, topic: str, records: Records) -> None:
        """Take records of a topic, in any portions."""
        self.records += len(records.values)
        self.bytes += sum(map(len, filter(None, records.values)))
        events = events_of(topic, records.headers, records.values)
        if events is None:
            for record in records.each():
                self._look_closer(topic, record)
        else:
            self._place(events, records.partition, records.offsets, records.times_ms)

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
                self._place([decode(topic, value, headers)], partition, [offset], [timestamp_ms])
        except BadRecord as error:
            self._reject(Bad(topic, partition, offset, timestamp_ms, key, value, error))

    def _place(self, events: list[Any], partition: int, offsets: Sequence[int], times_ms: Sequence[int]) -> None:
        kinds = [*map(type, events)]
        for kind in set(kinds):
            mine = [other is kind for other in kinds]
            chosen, at, when = (list(compress(column, mine)) for column in (events, offsets, times_ms))
            if kind in MANY:
                self._extend_columns(kind, chosen, partition, at, [time_ms * 1000 for time_ms in when])
            else:
                table, build = ROWS[kind]
                places = zip(chosen, at, when, strict=True)
                self._rows[table] += [build(event, (partition, offset, ms * 1000)) for event, offset, ms in places]

    def _extend_columns(self, kind: type, events: list[Any], partition: int, *places: list[int]) -> None:
        """At once, while the events are at hand: kept until the batch is full they would have to be fetched again."""
        columns = [*MANY[kind][1](events), [partition] * len(events), *places]
        kept = self._many.setdefault(kind, [[] for _ in columns])
        for column, more in zip(kept, columns, strict=True):
            column += more

    def columns(self) -> Iterator[tuple[Table, Columns]]:
        """Each table that gets something, once: a second insert under the same token would be dropped."""
        for table, rows in self._rows.items():
            yield table, table.columns_of(rows)
        for kind, columns in self._many.items():
            table, _ = MANY[kind]
            yield table, table.fitted([*columns])
