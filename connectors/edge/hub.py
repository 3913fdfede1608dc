"""The live side of an edge: one reader over its partitions of `tokens`, and the streams it has in memory."""

import asyncio
import logging
import time
from typing import Any

from connectors.edge.subscription import Subscription
from connectors.kafka.follow import AIOKafkaConsumer, TopicPartition, free_reader, stop_reader
from processors.codec import BadRecord, decode
from processors.edge.buffer import Buffers, StreamBuffer
from processors.identity import partition_of, uuid7_time

log = logging.getLogger(__name__)

TOPIC = "tokens"
MEMORY = 64 << 20
"""Bytes of streams kept, the live ones included."""
BATCH = 2000
BUSY, GATHER_S = 8, 0.003
"""A fetch costs 200 µs however little it brings. With so many streams in one, the next may gather for a moment."""
RECENT_S = 30.0
"""How far back in the log a hub begins: after an edge's death its readers come back all at once, to streams that its
successor so has in memory already. A reader of its own for each would cost 10 to 50 ms of CPU."""
MOST_RECENT = 20_000
"""Records read back of a partition at most, for the port opens only then."""
SKEW_MS = 300_000
"""How far an id's time may lie from its records' (admission refuses more)."""


class Hub:
    """Streams in memory, and who waits for them."""

    def __init__(self, partitions: int, owned: frozenset[int], memory: int = MEMORY) -> None:
        self.partitions = partitions
        self.owned = owned
        self.buffers = Buffers(memory)
        self.records = 0
        self.bad_records = 0
        self._awaited: dict[str, list[asyncio.Event]] = {}
        self._began: dict[int, int] = {}
        self._began_ms = 0.0
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self, bootstrap: str, client_id: str, fetch_wait_ms: int, recent_s: float) -> None:
        """Read what has come in the last `recent_s` seconds; what is submitted after this returns is seen from its
        beginning."""
        consumer = self._consumer = await free_reader(bootstrap, client_id, fetch_wait_ms)
        partitions = [TopicPartition(TOPIC, number) for number in sorted(self.owned)]
        ends = await consumer.end_offsets(partitions)
        begins = await _recent(consumer, ends, recent_s) if recent_s else ends
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, begins[partition])
            self._began[partition.partition] = begins[partition]
        self._began_ms = time.time() * 1000
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            await self._read(consumer)

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            Exception: whatever the client cannot mend by itself, such as a piece of log that is gone.
        """
        assert self._consumer is not None
        while True:
            if await self._read(self._consumer) >= BUSY:
                await asyncio.sleep(GATHER_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> int:
        """Take what a fetch brings; returns how many streams it touched."""
        batches = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        touched: dict[str, StreamBuffer] = {}
        for records in batches.values():
            for record in records:
                buffer = self.take(record)
                if buffer is not None:
                    touched[record.key] = buffer
        for buffer in touched.values():
            for taker in buffer.takers:
                taker.notify()
        return len(touched)

    async def stop(self) -> None:
        """Stop reading."""
        if self._consumer is not None:
            await stop_reader(self._consumer)

    async def reachable(self, within_s: float) -> bool:
        """Whether the broker answers."""
        if self._consumer is None:
            return False
        try:
            async with asyncio.timeout(within_s):
                await self._consumer.end_offsets([TopicPartition(TOPIC, min(self.owned))])
        except Exception:
            return False
        return True

    def take(self, record: Any) -> StreamBuffer | None:
        """Put one record where it belongs; the stream, if its readers have something new."""
        self.records += 1
        try:
            event = decode(TOPIC, record.value, record.headers)
        except BadRecord as error:
            self.bad_records += 1
            log.error("tokens[%d] at %d cannot be read: %s", record.partition, record.offset, error)
            return None
        buffer = self.buffers.take(event, record.offset, len(record.value))
        for waiting in self._awaited.get(event.id, ()) if self._awaited else ():
            waiting.set()
        return buffer

    def get(self, request_id: str) -> StreamBuffer | None:
        """The stream, if it is in memory."""
        return self.buffers.get(request_id)

    def expect(self, request_id: str, tenant: str) -> StreamBuffer:
        """A stream about to be submitted here."""
        return self.buffers.expect(request_id, tenant)

    def attach(self, subscription: Subscription, buffer: StreamBuffer) -> None:
        """Let a reader take from a stream, which is kept for it."""
        buffer.takers.append(subscription)
        subscription.attach(buffer)

    def detach(self, subscription: Subscription) -> None:
        """The reader is gone."""
        buffer = subscription.buffer
        if buffer is not None:
            subscription.buffer = None
            buffer.takers.remove(subscription)

    def take_over(self, subscription: Subscription, next_seq: int, position: int) -> bool:
        """Whether this reader, who has read the log up to `position`, has all the rest from memory; then it has."""
        buffer = self.get(subscription.id)
        if buffer is None and self._saw_nothing_since(subscription.id, position):
            buffer = self.buffers.expect(subscription.id, subscription.tenant, next_seq)
        if buffer is None or not buffer.covers(next_seq):
            return False
        self.attach(subscription, buffer)
        return True

    def owns(self, request_id: str) -> bool:
        """Whether the stream's partition is read here."""
        return partition_of(request_id, self.partitions) in self.owned

    def never_began(self, request_id: str) -> bool:
        """Whether a stream that is not in memory certainly has no record in the log."""
        recent = uuid7_time(request_id).timestamp() * 1000 - SKEW_MS > self._began_ms
        untraced = self.buffers.trace(request_id) is None and self.buffers.remembers(request_id)
        return self.owns(request_id) and recent and untraced

    async def wait_known(self, request_id: str, within_s: float) -> None:
        """Wait for the first record of a stream, at most so long."""
        event = asyncio.Event()
        waiting = self._awaited.setdefault(request_id, [])
        waiting.append(event)
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            waiting.remove(event)
            if not waiting:
                del self._awaited[request_id]

    def _saw_nothing_since(self, request_id: str, position: int) -> bool:
        """Whether no record of it has come since this hub began, from where on `position` was read elsewhere."""
        began = self._began.get(partition_of(request_id, self.partitions))
        unseen = self.buffers.trace(request_id) is None and self.buffers.remembers(request_id)
        return began is not None and position >= began and unseen


async def _recent(consumer: AIOKafkaConsumer, ends: dict[Any, int], recent_s: float) -> dict[Any, int]:
    """Where to begin so far back, but not more than MOST_RECENT records."""
    since = int((time.time() - recent_s) * 1000)
    at = await consumer.offsets_for_times(dict.fromkeys(ends, since))
    return {
        partition: end if at[partition] is None else max(at[partition].offset, end - MOST_RECENT)
        for partition, end in ends.items()
    }
