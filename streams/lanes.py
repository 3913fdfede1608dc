"""Dispatch's reading of the journal: each partition's fold, fed in a thread of its own.

An asyncio client took more CPU to read dispatch's own chunks back than the provider calls did; librdkafka hands them
over in batches for 1 µs each. The folds live in the thread; what they ask for is handed to the loop.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaException, Message

from connectors.kafka.batches import PAUSED_S, BatchReader, FixedReader, Partition, by_partition, place_of
from connectors.kafka.snapshots import TOPIC as SNAPSHOTS
from connectors.kafka.snapshots import read_snapshots
from connectors.kafka.writer import Writer
from connectors.marks import Marks
from processors.codec import CHUNK_PREFIX, BadRecord, decode, encode
from processors.dispatch.fold import Abort, DispatchFold, Orphan, Settled, Start
from processors.events import Event, GivenUp, RunAlive, RunEnded, RunError
from processors.poison import Fate
from processors.record import Record
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

COMMIT_EVERY_S = 1.0
LOOK_EVERY_S = 0.1
"""How often silent runs are looked for among all that are open: an idle reader comes by as often."""
MOST = 2000
KEPT = "dispatch/"
"""What a lane has settled stands in `snapshots` under keys that begin so."""


class Seen(NamedTuple):
    """A sign of life of a run of this process was read: what stood before it in the journal has been, too."""

    run: str


Todo = Sequence[Start | Abort | Seen]
_decode_settled = msgspec.json.Decoder(Settled).decode


class Lane:
    """One partition of the journal: its fold, and how far it has been read."""

    def __init__(
        self, number: int, start: int, live_from: int, read_back: Callable[[str], None], ours: Container[str]
    ) -> None:
        """`read_back` is told the request of each chunk; `ours` are the runs of this process."""
        self.number = number
        self._read_back, self._ours = read_back, ours
        self.fold = DispatchFold()
        self.position = self.committed = start
        self.live_from = live_from

    def take(self, messages: Sequence[Message]) -> Todo:
        """Feed the fold with records of this partition."""
        todo: list[Start | Abort | Seen] = []
        for message in messages:
            value, offset, time_ms = message.value(), message.offset() or 0, message.timestamp()[1]
            if value is not None and value.startswith(CHUNK_PREFIX):
                request_id = (message.key() or b"").decode(errors="replace")
                self.fold.saw_chunk(request_id, offset, time_ms)
                self._read_back(request_id)
                continue
            event = _read(message)
            if event is not None:
                todo += self.fold.fold([Record(offset, time_ms, event)])
                if isinstance(event, RunAlive) and event.run in self._ours:
                    todo.append(Seen(event.run))
        self.position = (messages[-1].offset() or 0) + 1
        return todo


class Lanes:
    """The partitions this process owns. What it is given is called in the reading thread."""

    def __init__(
        self,
        context: Context,
        stopping: Stopping,
        do: Callable[[Todo], None],
        lost: Callable[[list[Lane]], None],
        read_back: Callable[[str], None],
        ours: Container[str],
    ) -> None:
        """`ours` are the runs of this process."""
        settings = context.settings
        self._context = context
        self._stopping = stopping
        self._do, self._lost, self._read_back, self._ours = do, lost, read_back, ours
        self._lanes: dict[Partition, Lane] = {}
        self._writer = Writer(settings.kafka, context.member)
        self._marks = Marks(context.mark_file)
        self._last_commit, self._last_look, self._last_read = 0.0, 0.0, time.monotonic()
        self._leaving = False
        self._reader = BatchReader(
            settings.kafka,
            "dispatch",
            context.member,
            ["journal"],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._gone,
            fetch_wait_ms=settings.fetch_wait_ms,
        )

    def run(self) -> list[Lane]:
        """Work until asked to stop, and leave the group; returns the partitions that were ours to the end."""
        ready = False
        while not self._stopping.asked and not self._leaving:
            self._cycle()
            if not ready and self._lanes and all(lane.fold.live for lane in self._lanes.values()):
                ready = True
                self._context.announce_ready()
        if self._stopping.asked:
            self._commit()
        kept, self._lanes = list(self._lanes.values()), {}
        self._reader.close()
        return kept

    def leave(self) -> None:
        """Let `run` end, without a commit unless a signal asked for it: something was not written."""
        self._leaving = True

    def give_up(self, lanes: list[Lane]) -> None:
        """End the orders that nobody calls any more."""
        for lane in lanes:
            for order in lane.fold.unstarted():
                event = GivenUp(order.id, order.tenant, order.attempt, "shutdown")
                self._writer.send("journal", order.id, encode(event))
        self._writer.flush()

    def _cycle(self) -> None:
        batch = self._reader.read(MOST, 0.1)
        self._note_pause()
        for partition, messages in by_partition(batch).items():
            lane = self._lanes.get(partition)
            if lane is None:  # it was revoked with this batch already in hand
                continue
            for fate, piece in self._marks.pieces(*partition, messages, place_of):
                if fate is Fate.TAKE:
                    self._ask(lane.take(piece))
                else:  # the guard ends its request, at its deadline at the latest
                    lane.position = (piece[0].offset() or 0) + 1
        self._writer.poll()
        for lane in self._lanes.values():
            if not lane.fold.live and lane.position >= lane.live_from:
                self._ask(lane.fold.go_live())
        now = time.monotonic()
        if now - self._last_look >= LOOK_EVERY_S:
            self._last_look = now
            self._end_orphans()
        if now - self._last_commit >= COMMIT_EVERY_S:
            self._commit()

    def _note_pause(self) -> None:
        """After a pause read up to now first: another may call what was ordered, and who seems silent may not be."""
        if time.monotonic() - self._last_read > PAUSED_S and self._lanes:
            for lane in self._lanes.values():
                lane.fold.live, lane.live_from = False, sys.maxsize
            try:
                ends = self._reader.ends(list(self._lanes))
            except KafkaException:  # the log is away; asked again at the next read
                return
            for partition, lane in self._lanes.items():
                lane.live_from = ends[partition]
        self._last_read = time.monotonic()

    def _ask(self, todo: Todo) -> None:
        if todo:
            self._do(todo)

    def _end_orphans(self) -> None:
        for lane in self._lanes.values():
            for orphan in lane.fold.orphans(time.time() * 1000, self._ours) if lane.fold.live else ():
                log.warning("run %s of request %s is nobody's any more", orphan.run, orphan.id)
                self._writer.send("journal", orphan.id, encode(_interrupted(orphan)))

    def _commit(self) -> None:
        """Keep what was settled, and commit how far a successor need not read. The second waits for the first."""
        self._last_commit = time.monotonic()
        offsets: dict[Partition, int] = {}
        for partition, lane in self._lanes.items():
            if lane.fold.live:
                lane.fold.forget(time.time() * 1000)
            settled = lane.fold.settled()
            if settled is not None:
                key = KEPT + uuid4().hex  # of its own: a list under an old key would replace what stands there
                self._writer.send(SNAPSHOTS, key, msgspec.json.encode(settled), partition=lane.number)
            floor = lane.fold.floor()
            offset = lane.position if floor is None else floor
            if offset > lane.committed:
                offsets[partition] = offset
        self._writer.flush()
        if offsets and self._reader.commit_if_it_can(offsets):
            for partition, offset in offsets.items():
                self._lanes[partition].committed = offset

    def _assigned(self, partitions: list[Partition]) -> None:
        began = time.monotonic()
        begins, committed = self._reader.begins(partitions), self._reader.committed(partitions)
        kept = read_snapshots(self._context.settings.kafka, [number for _, number in partitions], KEPT)
        ends = self._reader.ends(partitions)
        starts: dict[Partition, int] = {}
        for partition in partitions:
            at, begin = committed[partition].offset, begins[partition]
            if at < begin:
                log.error("journal[%d]: offsets %d to %d are lost", partition[1], at, begin)
            starts[partition] = max(at, begin)
            lane = self._lanes[partition] = Lane(
                partition[1], starts[partition], ends[partition], self._read_back, self._ours
            )
            for key, value in kept[partition[1]].items():
                try:
                    lane.fold.restore(_decode_settled(value))
                except Exception as error:  # whatever it was, a successor would meet it again and again
                    log.error("snapshots[%d], key %s: %s: %s", partition[1], key, type(error).__name__, error)
        self._reader.assign_at(starts)
        self._last_read = time.monotonic()
        at_offsets = ", ".join(f"{number}@{starts[topic, number]}" for topic, number in partitions)
        log.info("assigned %s in %.2f s", at_offsets, time.monotonic() - began)

    def _revoked(self, partitions: list[Partition]) -> None:
        """Commit how far we are, if we still may."""
        if not any(partition in self._lanes for partition in partitions):
            return
        try:
            self._commit()
        except KafkaException as error:  # whoever has the partitions now reads from before
            log.warning("not committed: %s", error.args[0].str())
        self._gone(partitions)

    def _gone(self, partitions: list[Partition]) -> None:
        """Runs that go on here are still to be stopped by the journal."""
        gone = [self._lanes.pop(partition) for partition in partitions if partition in self._lanes]
        if gone:
            self._lost(gone)


def follow(context: Context, lanes: list[Lane], do: Callable[[Todo], None], over: threading.Event) -> None:
    """Read partitions on, outside the group, until `over`: runs begun under them are still stopped by the journal."""
    offsets = {("journal", lane.number): lane.position for lane in lanes}
    reader = FixedReader(context.settings.kafka, context.member + "-tail", context.settings.fetch_wait_ms)
    reader.assign_at(offsets)
    by_number = {lane.number: lane for lane in lanes}
    try:
        while not over.is_set():
            for (_, number), messages in by_partition(reader.read(MOST, 0.1)).items():
                todo: Todo = [item for item in by_number[number].take(messages) if not isinstance(item, Start)]
                if todo:
                    do(todo)
    finally:
        reader.close()


def _read(message: Message) -> Event | None:
    """An event of the journal; bad records are the guard's to dead-letter."""
    try:
        event: Event = decode("journal", message.value(), message.headers())  # type: ignore[arg-type]
    except BadRecord:
        return None
    return event


def _interrupted(orphan: Orphan) -> RunEnded:
    error = RunError("interrupted", "the process that called the provider is gone")
    return RunEnded(orphan.id, orphan.tenant, orphan.attempt, orphan.run, orphan.target, chunks=0, error=error)
