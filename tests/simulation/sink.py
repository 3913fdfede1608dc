"""The sink and ClickHouse in a simulated history: what streams/sink.py does around the bookkeeping of flushes."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processors.sink.batch import Batch
from processors.sink.pending import Committed, Ranges, notes_of, token_of
from processors.sink.progress import Progress
from processors.sink.rows import Records
from processors.sink.table import Columns, Table
from tests.simulation.log import PARTITIONS, Fenced, Place
from tests.simulation.worker import Worker

TOPICS = ("requests", "journal", "tokens", "outcomes", "answers", "verdicts", "dead-letters")
READS: tuple[Place, ...] = tuple((topic, number) for topic in TOPICS for number in range(PARTITIONS))
_MIGRATIONS = Path(__file__).parents[2] / "connectors" / "clickhouse" / "migrations"
_TABLES = "".join(path.read_text() for path in sorted(_MIGRATIONS.glob("*.sql")))
IDENTITY = {
    name: tuple(column.strip() for column in columns.split(","))
    for name, columns in re.findall(
        r"CREATE TABLE IF NOT EXISTS (\w+)_log\n.*?ORDER BY \(?([^()\n]+)\)?\n", _TABLES, re.DOTALL
    )
}
"""By table the columns that name an event: ClickHouse's sorting key."""


class House:
    """ClickHouse: drops an insert that comes twice under one token, and of rows of one identity shows the first."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._tokens: set[tuple[str, str]] = set()

    def insert(self, table: Table, columns: Columns, token: str) -> None:
        """One insert."""
        if self.is_known(table, token):
            return
        self._tokens.add((table.name, token))
        for row in zip(*columns, strict=True):
            self.rows[table.name].append(dict(zip(table.columns, row, strict=True)))

    def is_known(self, table: Table, token: str) -> bool:
        return (table.name, token) in self._tokens

    def view(self, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The rows as analysts see them, by identity."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self.rows[table]:
            identity = tuple(row[column] for column in IDENTITY[table])
            if identity not in found or row["log_offset"] < found[identity]["log_offset"]:
                found[identity] = row
        return found


class Sink(Worker):
    """A process of the stage: Sink. Inserts happen beside it, table by table, and outlive its loss of partitions."""

    group = "sink"

    def assigned(self) -> None:
        """Sink._assigned: a flush that was begun is repeated first."""
        self.progress = Progress()
        self.progress.assigned({place: self.found(place) for place in READS})
        self.batch = Batch(frozenset())
        self.flight: Ranges = {}
        self.inserts: Iterator[tuple[Table, Columns]] = iter(())
        self.token = ""
        self.inserted = False

    def found(self, place: Place) -> Committed:
        return Committed(*self.log.committed.get(("sink", place), (0, "")))

    def take(self, most: int) -> None:
        """Sink._read. One batch at a time waits for the one in flight."""
        for place, start in list(self.progress.places.items()):
            entries = self.log.read(place, start, most)
            taken = entries[self.progress.take(place, [item.offset for item in entries])]
            if taken:
                offsets, times_ms = [item.offset for item in taken], [item.time_ms for item in taken]
                nothing = [None] * len(taken)
                values = [item.value for item in taken]
                self.batch.extend(place[0], Records(place[1], offsets, times_ms, nothing, nothing, values))

    def launch(self) -> None:
        """Sink._launch: the note stands before anything is inserted."""
        if self.flight or not self.batch.records or (self.progress.replay and not self.progress.repeated):
            return
        ranges = self.progress.ranges()
        self.token = token_of(ranges)
        notes = notes_of(ranges, self.token)
        for place, span in ranges.items():
            self.commit_offset(place, span.start, notes[place])
        self.flight, self.inserts, self.inserted = ranges, self.batch.columns(), False
        self.batch = Batch(frozenset())
        self.may_crash("the sink has noted what it inserts")

    def insert(self, tables: int) -> None:
        """The inserter's thread: so many tables more."""
        if not self.flight:
            return
        for _ in range(tables):
            found = next(self.inserts, None)
            if found is None:
                self.inserted = True
                return
            self.world.house.insert(*found, self.token)

    def land(self) -> None:
        """Sink._land, and the commit of the ends."""
        if not self.flight or not self.inserted:
            return
        self.may_crash("the sink has inserted and not committed")
        self.progress.landed(self.flight)
        for place, span in self.flight.items():
            self.commit_offset(place, span.end)
        self.flight = {}

    def lost(self) -> None:
        """Its insert goes on; then it learns at its next commit that it is out."""
        self.insert(2)
        try:
            self.land()
            self.launch()
        except Fenced:
            self.ended = True
        self.ended = self.ended or not self.flight
