"""What is inserted at once: rows by table, and the records that gave none."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from processors.codec import BadRecord, Headers
from processors.sink.rows import row_of
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
    """Takes records one after the other; gives columns, table by table."""

    def __init__(self, judged: frozenset[str]) -> None:
        """`judged` are the topics whose bad records are ours to dead-letter; others are counted and passed over."""
        self.records = 0
        self.bytes = 0
        self.bad: list[Bad] = []
        self.skipped: Counter[tuple[str, str]] = Counter()
        """By topic and error code."""
        self._judged = judged
        self._rows: defaultdict[Table, list[Row]] = defaultdict(list)

    def add(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        headers: Headers,
        value: bytes | None,
    ) -> None:
        """Take a record."""
        self.records += 1
        self.bytes += len(value) if value else 0
        try:
            table, row = row_of(topic, partition, offset, timestamp_ms, key, headers, value)
        except BadRecord as error:
            if topic in self._judged:
                self.bad.append(Bad(topic, partition, offset, timestamp_ms, key, value, error))
            else:
                self.skipped[topic, error.code] += 1
            return
        self._rows[table].append(row)

    def columns(self) -> Iterator[tuple[Table, Columns]]:
        """Each table that gets something, by name."""
        for table in sorted(self._rows, key=lambda table: table.name):
            yield table, table.columns_of(self._rows[table])
