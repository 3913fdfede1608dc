"""Dispatch: calls the provider for each order of the journal, and closes the connection when the journal says so."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from connectors.kafka.follow import (
    AIOKafkaConsumer,
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


class DispatchStage(ConsumerRebalanceListener):  # type: ignore[misc]
    """Feeds each partition's fold, starts and aborts the runs it names."""

    def __init__(self, context: Context, writer: AsyncWriter, runs: Runs) -> None:
        self._context = context
        self._writer = writer
        self._runs = runs
        self._reader: AIOKafkaConsumer
        self._folds: dict[int, DispatchFold] = {}
        self._committed: dict[int, int] = {}
        self._flushed: dict[int, int] = {}
        self._position: dict[int, int] = {}
        self._live_from: dict[int, int] = {}
        self._last_commit = 0.0
        self._draining = False
        self._broken: Exception | None = None

    async def run(self, stopping: Stopping) -> None:
        """Work until asked to stop; then finish what is open, or end it at once."""
        settings = self._context.settings
        self._reader = await group_reader(settings.kafka, "dispatch", self._context.member, settings.fetch_wait_ms)
        self._reader.subscribe(["journal"], listener=self)
        ready = False
        while not stopping.asked:
            await self._cycle(200)
            if not ready and self._folds and all(fold.live for fold in self._folds.values()):
                ready = True
                self._context.announce_ready()
        if not stopping.now:
            await self._drain(stopping)
        await self._end_everything()
        await self._commit()
        await self._reader.stop()

    async def _cycle(self, wait_ms: int) -> None:
        batches = await self._reader.getmany(timeout_ms=wait_ms, max_records=2000)
        self._writer.check()
        if self._broken is not None:
            raise self._broken
        for partition, messages in batches.items():
            if partition.partition in self._folds:
                self._take(partition.partition, messages)
        for number, fold in self._folds.items():
            if not fold.live and self._position[number] >= self._live_from[number]:
                self._do(fold.go_live())
            self._end_orphans(fold)
        if time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
            await self._commit()

    def _take(self, number: int, messages: Sequence[Any]) -> None:
        fold, committed = self._folds[number], self._committed[number]
        todo: list[Start | Abort] = []
        for message in messages:
            if message.value is not None and message.value.startswith(CHUNK_PREFIX):
                fold.saw_chunk(
                    message.key.decode(errors="replace") if message.key else "", message.offset, message.timestamp
                )
                continue
            event = _read(message)
            if event is None:
                continue
            if message.offset < committed:
                fold.remember(event)
            else:
                todo += fold.fold([Record(message.offset, message.timestamp, event)])
        self._position[number] = messages[-1].offset + 1
        self._do(todo)

    def _do(self, todo: list[Start | Abort]) -> None:
        for item in todo:
            if isinstance(item, Abort):
                self._runs.abort(item)
            elif not self._draining:
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
        for number, fold in self._folds.items():
            if fold.live:
                fold.forget(now_ms)
            floor = fold.floor()
            offset = self._position[number] if floor is None else floor
            if offset > self._flushed[number]:
                offsets[TopicPartition("journal", number)] = self._flushed[number] = offset
        if offsets and not self._draining:
            await self._reader.commit(offsets)

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
            committed = max(await self._reader.committed(partition) or 0, begins[partition])
            start = await self._memory_start(partition, begins[partition], committed)
            number = partition.partition
            self._folds[number] = DispatchFold()
            self._committed[number] = self._flushed[number] = committed
            self._position[number] = start
            self._live_from[number] = ends[partition]
            self._reader.seek(partition, start)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Commit how far we are, and forget."""
        if self._folds:
            await self._commit()
        for partition in revoked:
            self._folds.pop(partition.partition, None)

    async def _memory_start(self, partition: TopicPartition, begin: int, committed: int) -> int:
        if self._context.settings.embedded:
            return begin  # no look-up by time there
        since = int(time.time() * 1000) - REMEMBER_MS
        found = (await self._reader.offsets_for_times({partition: since}))[partition]
        return committed if found is None else min(committed, max(begin, found.offset))

    async def _drain(self, stopping: Stopping) -> None:
        """Take no new order and finish the open runs, still obeying the journal but outside the group: a successor
        may take our place in it at once."""
        await self._commit()
        self._draining = True
        await self._reader.stop()
        positions: dict[tuple[str, int], int | None] = {("journal", n): self._position[n] for n in self._folds}
        settings = self._context.settings
        self._reader = await assigned_reader(settings.kafka, self._context.member, positions, settings.fetch_wait_ms)
        give_up = time.monotonic() + settings.drain_s
        log.info("draining %d runs", self._runs.count)
        while self._runs.count and time.monotonic() < give_up and not stopping.now:
            await self._cycle(100)

    async def _end_everything(self) -> None:
        """What is open ends as `shutdown`. Orders nobody calls are given up, unless a successor will call them."""
        await self._runs.shut_down()
        if not self._draining:
            for fold in self._folds.values():
                for order in fold.unstarted():
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
