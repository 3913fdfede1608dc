"""The live side of an edge: one reader over its partitions of `tokens`, and the streams it has in memory.

The reader has a thread of its own and hands over what it has read: for small batches an asyncio client took twice the
CPU, and brought them 0.3 ms later.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from confluent_kafka import Message

from connectors.edge.subscription import Subscription
from connectors.kafka.batches import FixedReader, Partition
from processors.codec import BadRecord, decode
from processors.edge.buffer import Buffers, StreamBuffer
from processors.identity import partition_of, uuid7_time

log = logging.getLogger(__name__)

TOPIC = "tokens"
MEMORY = 64 << 20
"""Bytes of streams kept, the live ones included."""
BATCH, BATCHES = 2000, 4
"""Records read at once, and how many batches may wait for the loop."""
POLL_S = 0.5
BUSY, GATHER_S = 8, 0.003
"""A fetch costs as much however little it brings. With so many records in one, the next may gather for a moment."""
CLOSE_S = 2.0
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
        self._loop = asyncio.get_running_loop()
        self._reader: FixedReader | None = None
        self._thread: threading.Thread | None = None
        self._batches: deque[list[Message]] = deque()
        self._closing = threading.Event()
        self._failed: asyncio.Future[None] = self._loop.create_future()

    async def start(self, bootstrap: str, client_id: str, fetch_wait_ms: int, recent_s: float) -> None:
        """Read what has come in the last `recent_s` seconds; what is submitted after this returns is seen from its
        beginning."""
        reader = self._reader = FixedReader(bootstrap, client_id, fetch_wait_ms)
        partitions = [(TOPIC, number) for number in sorted(self.owned)]
        ends = await asyncio.to_thread(reader.ends, partitions)
        begins = await asyncio.to_thread(_recent, reader, ends, recent_s) if recent_s else dict(ends)
        reader.assign_at(begins)
        self._began = {number: offset for (_, number), offset in begins.items()}
        self._began_ms = time.time() * 1000
        while any(begins[partition] < ends[partition] for partition in partitions):
            batch = await asyncio.to_thread(reader.read, BATCH, POLL_S)
            self._take_all(batch)
            for message in batch:
                begins[TOPIC, message.partition() or 0] = (message.offset() or 0) + 1

    async def run(self) -> None:
        """Begin to read, in a thread that ends with `stop`; returns never.

        Raises:
            Exception: whatever the client cannot mend by itself, such as a piece of log that is gone.
        """
        assert self._reader is not None
        self._thread = threading.Thread(target=self._follow, args=(self._reader,), name="tokens", daemon=True)
        self._thread.start()
        await self._failed

    async def stop(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_S)
        elif self._reader is not None:
            self._reader.close()

    def take(self, message: Message) -> StreamBuffer | None:
        """Put one record where it belongs; the stream, if its readers have something new."""
        self.records += 1
        value, offset = message.value() or b"", message.offset() or 0
        try:
            event = decode(TOPIC, value, message.headers())  # type: ignore[arg-type]
        except BadRecord as error:
            self.bad_records += 1
            log.error("tokens[%s] at %d cannot be read: %s", message.partition(), offset, error)
            return None
        buffer = self.buffers.take(event, offset, len(value))
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

    def _follow(self, reader: FixedReader) -> None:
        """In a thread: read, and hand over to the loop."""
        try:
            while not self._closing.is_set():
                batch = reader.read(BATCH, POLL_S)
                if not batch:
                    continue
                while len(self._batches) >= BATCHES and not self._closing.is_set():
                    time.sleep(GATHER_S)
                self._batches.append(batch)
                self._loop.call_soon_threadsafe(self._take_batches)
                if len(batch) >= BUSY:
                    time.sleep(GATHER_S)
        except Exception as error:
            self._loop.call_soon_threadsafe(self._fail, error)
        finally:
            reader.close()

    def _take_batches(self) -> None:
        try:
            while self._batches:
                self._take_all(self._batches.popleft())
        except Exception as error:  # behind it, streams would have holes
            self._fail(error)

    def _take_all(self, batch: Sequence[Message]) -> None:
        for buffer in dict.fromkeys(map(self.take, batch)):
            for taker in buffer.takers if buffer else ():
                taker.notify()

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    def _saw_nothing_since(self, request_id: str, position: int) -> bool:
        """Whether no record of it has come since this hub began, from where on `position` was read elsewhere."""
        began = self._began.get(partition_of(request_id, self.partitions))
        unseen = self.buffers.trace(request_id) is None and self.buffers.remembers(request_id)
        return began is not None and position >= began and unseen


def _recent(reader: FixedReader, ends: dict[Partition, int], recent_s: float) -> dict[Partition, int]:
    """Where to begin so far back, but not more than MOST_RECENT records."""
    at = reader.offsets_at(list(ends), int((time.time() - recent_s) * 1000))
    return {partition: max(at.get(partition, end), end - MOST_RECENT) for partition, end in ends.items()}
