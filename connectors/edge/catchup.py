"""The log side of an edge: a short-lived reader of one partition, for what is not in memory."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from connectors.edge.errors import ApiError, not_found, unavailable
from connectors.edge.hub import SKEW_MS, TOPIC, Hub
from connectors.edge.subscription import StreamOver, Subscription
from connectors.kafka.follow import AIOKafkaConsumer, TopicPartition, free_reader, stop_reader, unhurried
from processors.codec import BadRecord, decode
from processors.edge.buffer import Item
from processors.edge.cursor import BadCursor, Cursor
from processors.edge.reader import Gap, Reader, Step
from processors.events import Opened
from processors.identity import partition_of, uuid7_time

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Readers that search or catch up at the same time; more wait for their turn, up to TURN_S."""
TURN_S = 5.0
MOST = 512
"""Readers of the log in all: those that have caught up follow live streams of other edges' partitions."""
CONNECT_S = 5.0
POLL_MS = 200
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Search:
    """Where in the log a reader begins, and until when (monotonic seconds) it waits for a stream to appear."""

    cursor: Cursor | None = None
    until: float = 0.0


class CatchUp:
    """Reads streams from the log until memory has the rest, or they end."""

    def __init__(self, bootstrap: str, client_id: str, hub: Hub, fetch_wait_ms: int, look_up_by_time: bool) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._hub = hub
        self._fetch_wait_ms = fetch_wait_ms
        self._look_up_by_time = look_up_by_time
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}
        self.begun = 0

    async def begin(self, subscription: Subscription, search: Search) -> None:
        """Return once the stream is found to be the tenant's; its records follow into the subscription.

        Raises:
            ApiError: 404 for a foreign or unknown id, 503 where the log cannot be read now.
            BadCursor: the cursor's place in the log is not the stream's.
        """
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(subscription, search, found))
        self._tasks[subscription] = task
        try:
            await found
        except BaseException:
            self.cancel(subscription)
            raise

    def cancel(self, subscription: Subscription) -> None:
        """Stop reading for a subscription, if it is still read for."""
        task = self._tasks.pop(subscription, None)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """Stop reading for all."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, subscription: Subscription, search: Search, found: "asyncio.Future[None]") -> None:
        try:
            async with self._turn() as caught_up, self._consumer() as consumer:
                self.begun += 1
                await self._read(consumer, _Place(subscription, search), found, caught_up)
        except asyncio.CancelledError:
            found.cancel()
            raise
        except Exception as error:
            failure = _explained(error, subscription.id)
            if found.done():
                subscription.fail(failure)
            else:
                found.set_exception(failure)
        finally:
            self._tasks.pop(subscription, None)

    async def _read(
        self,
        consumer: AIOKafkaConsumer,
        place: "_Place",
        found: "asyncio.Future[None]",
        caught_up: Callable[[], None],
    ) -> None:
        """Push record by record until memory takes over or the stream ends."""
        subscription, reader = place.subscription, place.reader
        await unhurried(self._seek(consumer, place))
        while not reader.ended:
            if not found.done() and self._judge(place):
                found.set_result(None)
            if found.done() and self._hub.take_over(subscription, reader.next_seq, place.position):
                return
            if place.position >= place.end:
                caught_up()
            items = place.take(await _fetch(consumer, place))
            if items:
                subscription.push(items)
                await subscription.room()
        if not place.told_end:
            raise StreamOver
        if not found.done():
            found.set_result(None)

    def _judge(self, place: "_Place") -> bool:
        """Whether the stream is the tenant's; not before it is known.

        Raises:
            ApiError: 404, the whole log was read in vain, and the wait is over.
        """
        if place.reader.known:
            return True
        if place.position < place.end or time.monotonic() < place.search.until:
            return False
        buffer = self._hub.get(place.subscription.id)
        if buffer is None or buffer.reader.tenant != place.subscription.tenant:
            raise not_found(place.subscription.id)
        place.reader.next_seq = buffer.base_seq  # the log keeps less than memory does
        place.subscription.push([Gap(buffer.base_seq)])
        return True

    async def _seek(self, consumer: AIOKafkaConsumer, place: "_Place") -> None:
        """Where to begin, and where the log ends now."""
        partition = TopicPartition(TOPIC, partition_of(place.subscription.id, self._hub.partitions))
        begin = (await consumer.beginning_offsets([partition]))[partition]
        place.end = (await consumer.end_offsets([partition]))[partition]
        place.position = max(begin, await self._wanted(consumer, partition, place, begin))
        place.partition = partition
        consumer.assign([partition])
        consumer.seek(partition, place.position)

    async def _wanted(self, consumer: AIOKafkaConsumer, partition: Any, place: "_Place", begin: int) -> int:
        request_id, cursor = place.subscription.id, place.search.cursor
        trace = self._hub.buffers.trace(request_id)
        if cursor is not None:
            if cursor.offset >= place.end:
                raise BadCursor("the cursor points beyond the log")
            return cursor.offset
        if trace is not None and trace.first_offset is not None:
            return trace.first_offset
        if not self._look_up_by_time:
            return begin
        since = int(uuid7_time(request_id).timestamp() * 1000) - SKEW_MS
        at = (await consumer.offsets_for_times({partition: max(0, since)}))[partition]
        return place.end if at is None else int(at.offset)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Callable[[], None]]:
        """Held while there is much to read; gives what ends it early."""
        if len(self._tasks) > MOST:
            raise _busy()
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise _busy() from None
        held = [self._turns]

        def over() -> None:
            if held:
                held.pop().release()

        try:
            yield over
        finally:
            over()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with asyncio.timeout(CONNECT_S):
            consumer = await free_reader(self._bootstrap, self._client_id, self._fetch_wait_ms)
        try:
            yield consumer
        finally:
            await stop_reader(consumer)


class _Place:
    """How far a reader of the log has come."""

    def __init__(self, subscription: Subscription, search: Search) -> None:
        self.subscription = subscription
        self.search = search
        self.reader = Reader(subscription.id, subscription.tenant, subscription.next_seq)
        self.partition: Any = None
        self.position = 0
        self.end = 0
        self.told_end = False
        self._key = subscription.id.encode()

    def take(self, records: list[Any]) -> list[Item | Gap]:
        """What is new of the stream.

        Raises:
            BadCursor: the record at the cursor's offset is another stream's.
        """
        items: list[Item | Gap] = []
        for record in records:
            self.position = record.offset + 1
            if record.key == self._key:
                self._take(record, items)
            elif self.search.cursor is not None and record.offset == self.search.cursor.offset:
                raise BadCursor("the cursor points to another stream's record")
        return items

    def _take(self, record: Any, items: list[Item | Gap]) -> None:
        try:
            event = decode(TOPIC, record.value, record.headers)
        except BadRecord as error:
            log.error("tokens[%d] at %d cannot be read: %s", record.partition, record.offset, error)
            return
        step = self.reader.take(event)
        if isinstance(event, Opened) and self.reader.known:
            self.subscription.cached = event.cached
        if step is Step.HOLE:
            items.append(self.reader.reopen(event.seq))
            step = self.reader.take(event)
        if step is Step.DELIVER:
            items.append(Item(event, record.offset, len(record.value)))
            self.told_end = self.reader.ended


async def _fetch(consumer: AIOKafkaConsumer, place: _Place) -> list[Any]:
    batches = await consumer.getmany(place.partition, timeout_ms=POLL_MS, max_records=BATCH)
    records: list[Any] = batches.get(place.partition, [])
    return records


def _explained(error: Exception, request_id: str) -> Exception:
    """The error as its reader is told."""
    if isinstance(error, ApiError | BadCursor | StreamOver):
        return error
    log.error("reading the log for stream %s failed: %r", request_id, error)
    return unavailable("log_unreachable", "the log cannot be read now; try again")


def _busy() -> ApiError:
    return unavailable("busy", "too many readers of stored streams; try again")
