"""The sink: every event into ClickHouse, each counted once.

Records are gathered into batches; a batch is flushed as `processors.sink.pending` tells: notes, inserts, commit. The
inserts run in a thread, so that the next batch gathers meanwhile and Kafka is polled however long ClickHouse takes.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from confluent_kafka import Message

from connectors.clickhouse.client import ClickHouse, ClickHouseFailed
from connectors.clickhouse.inserter import Insert, Inserter, Insertion
from connectors.clickhouse.migrate import migrate
from connectors.kafka.batches import BatchReader, by_partition, place_of
from connectors.kafka.dead_letters import TOPIC as DEAD_LETTERS
from connectors.kafka.dead_letters import dead_letter_headers
from connectors.kafka.writer import Writer
from connectors.marks import Marks
from processors.poison import Fate, verdict
from processors.sink.batch import Batch
from processors.sink.pending import Committed, Partition, Ranges, notes_of, token_of
from processors.sink.progress import Progress
from processors.sink.rows import Records
from streams.runtime import Context, Stopping
from streams.topology import load

log = logging.getLogger(__name__)

STAGE = "sink"
READ_MOST = 500
"""Records taken at once: more of them do not fit into a core's cache, and cost a third more (`bench.sink`)."""
WAIT_S = 0.05
DRAIN_S, FLUSH_S = 2.0, 1.0
"""How long a stopping sink reads on, and how much longer it waits for ClickHouse."""
LEAVE_S = 2.0
"""How long a flush under way keeps partitions that another worker is to have."""
PATIENCE_S = 1.0
"""How long a full batch waits for the one before it without pausing; a pause throws away what is fetched already."""


@dataclass(frozen=True)
class Bounds:
    """When a batch is flushed: its first record has waited so long, or it holds so much."""

    wait_s: float = 1.0
    records: int = 50_000
    bytes: int = 16 << 20


@dataclass(frozen=True)
class Flight:
    """A flush whose inserts are under way."""

    ranges: Ranges
    batch: Batch
    insertion: Insertion
    since: float


FETCH_WAIT_MS, FETCH_LEAST_BYTES = 200, 1 << 18
"""Nobody waits for the sink: it fetches lumps, which spares the broker a request for every few records."""


class Sink:
    """One member of the group. `step` is its whole loop, all in the caller's thread but the inserts."""

    def __init__(
        self,
        kafka: str,
        house: ClickHouse,
        member: str,
        topics: Sequence[str],
        judged: Sequence[str],
        marks: Marks,
        *,
        group: str = STAGE,
        bounds: Bounds | None = None,
        on_assigned: Callable[[], None] = lambda: None,
    ) -> None:
        """`judged` are the topics whose bad records this stage dead-letters. `house` is this object's from now on."""
        self.inserted = 0
        """Records that are done with."""
        self._bounds = bounds or Bounds()
        self._judged = frozenset(judged)
        self._on_assigned = on_assigned
        self._kafka, self._member, self._marks = kafka, member, marks
        self._inserter = Inserter(house)
        self._progress = Progress()
        self._batch, self._since = Batch(self._judged), 0.0
        self._flight: Flight | None = None
        self._paused = False
        self._reader = BatchReader(
            kafka,
            group,
            member,
            list(topics),
            on_assign=self._assigned,
            on_revoke=lambda _: self.leave(),
            on_lost=lambda _: self._forget(),
            fetch_wait_ms=FETCH_WAIT_MS,
            fetch_least_bytes=FETCH_LEAST_BYTES,
        )

    @property
    def held(self) -> int:
        """Records taken and not inserted yet: at most two batches."""
        return self._batch.records + (self._flight.batch.records if self._flight else 0)

    def step(self, wait_s: float = WAIT_S) -> None:
        """Take what there is, waiting up to `wait_s` for it, and flush what is due.

        Raises:
            LogLost, KafkaException, DeliveryFailed: the process must end; the next one finds its place.
        """
        ends = self._land()
        if self._flight is None and self._due():
            self._launch(ends)
        elif ends:
            self._reader.commit(ends)
        if self._flight is not None and (self._full() or self._progress.replay):
            self._hold(self._flight, wait_s)
        else:
            self._resume()
            self._read(self._until_due(wait_s))

    def drain(self) -> bool:
        """Read on to where the log ends now, flush, commit. False where that was not done in time."""
        begun = time.monotonic()
        log_ends = self._reader.ends(list(self._progress.places))
        while time.monotonic() < begun + DRAIN_S and self._behind(log_ends):
            self.step()
        while time.monotonic() < begun + DRAIN_S + FLUSH_S:
            ends = self._land()
            if ends:
                self._reader.commit(ends)
            elif self._flight is not None:
                self._flight.insertion.wait(WAIT_S)
            elif self._progress.repeated or (self._batch.records and self._progress.replay is None):
                self._launch({})
            else:
                break
        return self.held == 0 and not self._behind(log_ends)

    def close(self) -> None:
        """Leave. What is not committed will be read again."""
        self._forget()
        self._reader.close()
        self._inserter.close()

    def leave(self) -> None:
        """The partitions go to others, perhaps to several, of whom none could repeat a flush of all under its token:
        what is under way is ended first."""
        if self._flight is not None:
            self._flight.insertion.wait(LEAVE_S)
            if ends := self._land():
                self._reader.commit_if_it_can(ends)
        self._forget()

    def token(self, ranges: Ranges) -> str:
        """The name of a flush."""
        return token_of(ranges)

    def notes(self, ranges: Ranges, token: str) -> dict[Partition, str]:
        """What is committed beside the unchanged offsets before a flush."""
        return notes_of(ranges, token)

    def _behind(self, ends: dict[Partition, int]) -> bool:
        places = self._progress.places
        return any(places.get(partition, end) < end for partition, end in ends.items())

    # reading

    def _read(self, wait_s: float) -> None:
        messages = self._reader.read(READ_MOST, wait_s)  # may call `_assigned` and `_forget`
        if messages and not self._batch.records:
            self._since = time.monotonic()
        for (topic, partition), found in by_partition(messages).items():
            taken = found[self._progress.take((topic, partition), [*map(Message.offset, found)])]  # type: ignore[list-item]
            for fate, piece in self._marks.pieces(topic, partition, taken, place_of) if taken else ():
                records = _records(partition, piece)
                if fate is Fate.TAKE:
                    self._batch.extend(topic, records)
                else:
                    self._batch.pass_over(topic, next(records.each()), verdict())

    def _until_due(self, wait_s: float) -> float:
        """No longer than the first record at hand may wait."""
        if not self._batch.records or self._flight is not None:
            return wait_s
        return min(wait_s, max(0.0, self._since + self._bounds.wait_s - time.monotonic()))

    def _hold(self, flight: Flight, wait_s: float) -> None:
        """There is nothing to do but wait for ClickHouse; if it takes long, stay in the group meanwhile."""
        flight.insertion.wait(wait_s)
        if not self._paused and time.monotonic() - flight.since > PATIENCE_S:
            log.warning("ClickHouse is slow or away; reading pauses")
            self._reader.pause(list(self._progress.places))
            self._paused = True
        if self._paused:
            self._read(0.0)

    def _resume(self) -> None:
        if self._paused:
            self._reader.resume(list(self._progress.places))
            self._paused = False

    def _assigned(self, partitions: list[Partition]) -> None:
        self._forget()
        found = self._reader.committed(partitions)
        offsets = {partition: item.offset for partition, item in found.items()}
        self._progress.assigned({key: Committed(item.offset, item.metadata or "") for key, item in found.items()})
        self._reader.assign_at(offsets)
        self._paused = True  # perhaps: who knows what the client remembers of a partition it had before
        self._on_assigned()

    def _forget(self) -> None:
        """The partitions are gone. Their records are read again, by us or by others, and a flush is repeated there."""
        if self._flight is not None:
            self._flight.insertion.abandoned.set()
        self._flight, self._batch, self._paused = None, Batch(self._judged), False
        self._progress.revoked()

    # flushing

    def _due(self) -> bool:
        if self._progress.replay:
            return self._progress.repeated
        waited = time.monotonic() - self._since >= self._bounds.wait_s
        return self._full() or (waited and self._batch.records > 0)

    def _full(self) -> bool:
        return self._batch.records >= self._bounds.records or self._batch.bytes >= self._bounds.bytes

    def _launch(self, ends: dict[Partition, int]) -> None:
        """Note what will be inserted, then begin to insert it. `ends` of the flush before are committed along."""
        ranges, batch = self._progress.ranges(), self._batch
        token = self.token(ranges)
        starts = {partition: span.start for partition, span in ranges.items()}
        self._reader.commit(ends | starts, self.notes(ranges, token))
        self._dead_letter(batch)
        inserts = (Insert(table.log, table.columns, table.types, columns) for table, columns in batch.columns())
        self._flight = Flight(ranges, batch, self._inserter.begin(inserts, token), time.monotonic())
        self._batch = Batch(self._judged)

    def _land(self) -> dict[Partition, int]:
        """The ends to commit, if there is a flush under way of which all is inserted."""
        flight = self._flight
        if flight is None or not flight.insertion.wait():
            return {}
        self._flight = None
        self.inserted += flight.batch.records
        for (topic, code), count in flight.batch.skipped.items():
            log.warning("%s: passed over %s records (%s), which their own stage judges", topic, count, code)
        if self._progress.landed(flight.ranges):
            self._resume()
            for partition, place in self._progress.places.items():
                self._reader.seek(partition, place)
        return {partition: span.end for partition, span in flight.ranges.items()}

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self._kafka, self._member)

    def _dead_letter(self, batch: Batch) -> None:
        for bad in batch.bad:
            log.warning("%s[%s]@%s: %s", bad.topic, bad.partition, bad.offset, bad.error)
            headers = dead_letter_headers(bad.topic, bad.partition, bad.offset, bad.timestamp_ms, STAGE, bad.error)
            self._writer.send(DEAD_LETTERS, bad.key.decode(errors="replace") if bad.key else None, bad.value, headers)
        if batch.bad:
            self._writer.flush()


def _records(partition: int, messages: Sequence[Message]) -> Records:
    return Records(
        partition,
        [*map(Message.offset, messages)],  # type: ignore[list-item]
        [time_ms for _, time_ms in map(Message.timestamp, messages)],
        [*map(Message.key, messages)],
        [*map(Message.headers, messages)],  # type: ignore[list-item]
        [*map(Message.value, messages)],
    )


def main(context: Context) -> None:
    """Run until a signal asks to stop; then take what stands in the log, within a bound, and leave."""
    asked = threading.Event()
    stopping = Stopping().listen(asked.set)
    house = ClickHouse(context.settings.clickhouse)
    if not _migrated(house, asked):
        return
    stage = load().stages[STAGE]
    kafka = context.settings.kafka
    marks = Marks(context.mark_file)
    ready = context.announce_ready
    sink = Sink(kafka, house, context.member, stage.reads, stage.dead_letters, marks, on_assigned=ready)
    while not stopping.asked:
        sink.step()
    if not sink.drain():
        log.warning("stopped before everything was in ClickHouse; the rest is in the log and will be read again")
    sink.close()


def _migrated(house: ClickHouse, asked: threading.Event) -> bool:
    """Bring the tables up to date, waiting for ClickHouse if need be; False if asked to stop meanwhile."""
    pause_s = 0.1
    while not asked.is_set():
        try:
            for name in migrate(house):
                log.info("applied %s", name)
            return True
        except ClickHouseFailed as error:
            log.warning("ClickHouse: %s; again in %s s", error, pause_s)
            asked.wait(pause_s)
            pause_s = min(2 * pause_s, 5.0)
    return False
