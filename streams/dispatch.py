"""Dispatch: calls the provider for each order of the journal, and closes the connection when the journal says so."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from connectors.kafka.follow import (
    AIOKafkaConsumer,
    CommitFailedError,
    ConsumerRebalanceListener,
    TopicPartition,
    assigned_reader,
    group_reader,
)
from connectors.kafka.writer import AsyncWriter
from connectors.policies import Policies
from connectors.providers import ProviderClient
from processors.codec import CHUNK_PREFIX, BadRecord, decode, encode
from processors.dispatch.fold import Abort, DispatchFold, Orphan, Start
from processors.events import Event, GivenUp, RunEnded, RunError
from processors.record import Record
from processors.remembered import REMEMBER_MS
from streams.runs import Runs
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

LINGER_MS = 0.5
COMMIT_EVERY_S = 1.0


class Lane:
    """One partition of the journal: its fold, and how far it has been read."""

    def __init__(self, number: int, committed: int, start: int, live_from: int) -> None:
        self.number = number
        self.fold = DispatchFold()
        self.committed = self.flushed = committed
        self.position = start
        self.live_from = live_from

    def take(self, messages: Sequence[Any]) -> list[Start | Abort]:
        """Feed the fold; what lies before the committed offset is only remembered."""
        todo: list[Start | Abort] = []
        for message in messages:
            if message.value is not None and message.value.startswith(CHUNK_PREFIX):
                self.fold.saw_chunk((message.key or b"").decode(errors="replace"), message.offset, message.timestamp)
                continue
            event = _read(message)
            if event is None:
                continue
            if message.offset < self.committed:
                self.fold.remember(event)
            else:
                todo += self.fold.fold([Record(message.offset, message.timestamp, event)])
        self.position = messages[-1].offset + 1
        return todo


class DispatchStage(ConsumerRebalanceListener):  # type: ignore[misc]
    """Feeds each partition's fold, starts and aborts the runs it names."""

    def __init__(self, context: Context, writer: AsyncWriter, runs: Runs) -> None:
        self._context = context
        self._writer = writer
        self._runs = runs
        self._reader: AIOKafkaConsumer
        self._lanes: dict[int, Lane] = {}
        self._tails: set[asyncio.Task[None]] = set()
        self._last_commit = 0.0
        self._broken: BaseException | None = None

    async def run(self, stopping: Stopping) -> None:
        """Work until asked to stop; then finish what is open, or end it at once."""
        settings = self._context.settings
        self._reader = await group_reader(settings.kafka, "dispatch", self._context.member, settings.fetch_wait_ms)
        self._reader.subscribe(["journal"], listener=self)
        ready = False
        while not stopping.asked:
            await self._cycle()
            if not ready and self._lanes and all(lane.fold.live for lane in self._lanes.values()):
                ready = True
                self._context.announce_ready()
        await self._commit()
        if not stopping.now:
            await self._drain(stopping)
        await self._end_everything(give_up=stopping.now)
        await self._reader.stop()

    async def _cycle(self) -> None:
        batches = await self._reader.getmany(timeout_ms=200, max_records=2000)
        self._writer.check()
        if self._broken is not None:
            raise self._broken
        for partition, messages in batches.items():
            lane = self._lanes.get(partition.partition)
            if lane is not None:
                self._do(lane.take(messages))
        for lane in self._lanes.values():
            if not lane.fold.live and lane.position >= lane.live_from:
                self._do(lane.fold.go_live())
            self._end_orphans(lane.fold)
        if time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
            await self._commit()

    def _do(self, todo: list[Start | Abort]) -> None:
        for item in todo:
            if isinstance(item, Abort):
                self._runs.abort(item)
            else:
                self._runs.start(item)

    def _end_orphans(self, fold: DispatchFold) -> None:
        if not fold.live:
            return
        for orphan in fold.orphans(time.time() * 1000):
            log.warning("run %s of request %s is nobody's any more", orphan.run, orphan.id)
            self._writer.send("journal", orphan.id, encode(_interrupted(orphan)))

    async def _commit(self) -> None:
        self._last_commit = time.monotonic()
        offsets = {}
        now_ms = time.time() * 1000
        for number, lane in self._lanes.items():
            if lane.fold.live:
                lane.fold.forget(now_ms)
            floor = lane.fold.floor()
            offset = lane.position if floor is None else floor
            if offset > lane.flushed:
                offsets[number] = offset
        if not offsets:
            return
        try:
            await self._reader.commit({TopicPartition("journal", number): at for number, at in offsets.items()})
        except CommitFailedError:  # a rebalance was quicker; whoever has the partition now reads from before
            return
        for number, at in offsets.items():
            self._lanes[number].flushed = at

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Fold each partition anew, from so far back that every closed request is remembered."""
        try:
            await self._assign(assigned)
        except Exception as error:  # aiokafka would only log it
            self._broken = error

    async def _assign(self, assigned: list[TopicPartition]) -> None:
        ends = await self._reader.end_offsets(assigned)
        begins = await self._reader.beginning_offsets(assigned)
        for partition in assigned:
            kept, begin = await self._reader.committed(partition) or 0, begins[partition]
            if kept < begin:
                log.error("journal[%d]: offsets %d to %d are lost", partition.partition, kept, begin)
            committed = max(kept, begin)
            start = await self._memory_start(partition, begin, committed)
            self._lanes[partition.partition] = Lane(partition.partition, committed, start, ends[partition])
            self._reader.seek(partition, start)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Commit how far we are. Runs that go on here are still to be stopped by the journal, so it is read on."""
        if self._lanes:
            await self._commit()
        gone = [self._lanes.pop(partition.partition) for partition in revoked if partition.partition in self._lanes]
        if self._runs.count:
            self._follow(gone)

    def _follow(self, lanes: list[Lane]) -> None:
        """Read partitions on, outside the group, until the runs that are under way now have ended."""
        if not lanes:
            return
        task = asyncio.create_task(self._tail(lanes, self._runs.under_way()))
        self._tails.add(task)
        task.add_done_callback(self._tail_ended)

    async def _tail(self, lanes: list[Lane], runs: set[str]) -> None:
        settings = self._context.settings
        by_number = {lane.number: lane for lane in lanes}
        positions: dict[tuple[str, int], int | None] = {("journal", lane.number): lane.position for lane in lanes}
        reader = await assigned_reader(
            settings.kafka, self._context.member + "-tail", positions, settings.fetch_wait_ms
        )
        try:
            while runs & self._runs.under_way():
                batches = await reader.getmany(timeout_ms=100, max_records=2000)
                for partition, messages in batches.items():
                    todo = by_number[partition.partition].take(messages)
                    self._do([item for item in todo if isinstance(item, Abort)])
        finally:
            await reader.stop()

    def _tail_ended(self, task: "asyncio.Task[None]") -> None:
        self._tails.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()

    async def _memory_start(self, partition: TopicPartition, begin: int, committed: int) -> int:
        if self._context.settings.embedded:
            return begin  # no look-up by time there
        since = int(time.time() * 1000) - REMEMBER_MS
        found = (await self._reader.offsets_for_times({partition: since}))[partition]
        return committed if found is None else min(committed, max(begin, found.offset))

    async def _drain(self, stopping: Stopping) -> None:
        """Take no new order and finish the open runs, outside the group: a successor may take our place at once."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await self._reader.stop()
        self._follow(lanes)
        self._context.announce_ready(draining=True)
        give_up = time.monotonic() + self._context.settings.drain_s
        log.info("draining %d runs", self._runs.count)
        while self._runs.count and time.monotonic() < give_up and not stopping.now and self._broken is None:
            await asyncio.wait(self._tails, timeout=0.05)

    async def _end_everything(self, *, give_up: bool) -> None:
        """What is open ends as `shutdown`. Orders nobody calls are given up, unless a successor will call them."""
        await self._runs.shut_down()
        for tail in list(self._tails):
            tail.cancel()
        await asyncio.gather(*self._tails, return_exceptions=True)
        for lane in self._lanes.values() if give_up else ():
            for order in lane.fold.unstarted():
                event = GivenUp(order.id, order.tenant, order.attempt, "shutdown")
                self._writer.send("journal", order.id, encode(event))
        await self._writer.aclose()


def _read(message: Any) -> Event | None:
    """An event of the journal; bad records are the guard's to dead-letter."""
    try:
        event: Event = decode("journal", message.value, message.headers)
    except BadRecord:
        return None
    return event


def _interrupted(orphan: Orphan) -> RunEnded:
    error = RunError("interrupted", "the process that called the provider is gone")
    return RunEnded(orphan.id, orphan.tenant, orphan.attempt, orphan.run, orphan.target, chunks=0, error=error)


async def main(context: Context) -> None:
    """Run the stage until a signal."""
    stopping = Stopping().listen()
    policies = Policies(context.settings.kafka)
    await asyncio.to_thread(policies.wait_current)
    writer = AsyncWriter(context.settings.kafka, context.member, LINGER_MS)
    async with ProviderClient() as client:
        runs = Runs(client, policies, writer, context.settings.simulated)
        with contextlib.closing(policies):
            await DispatchStage(context, writer, runs).run(stopping)
