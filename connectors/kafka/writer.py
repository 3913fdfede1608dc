"""Writing to Kafka: one idempotent producer, partitioned as Kafka's own clients do it.

It lingers for nothing: librdkafka rounds a wait up to a millisecond, 2.2 ms of a first token's way through the stages
(`bench.path`, 1 stream). With one request under way at a time, what is written meanwhile leaves together.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.codec import VERSION_HEADERS

Headers = list[tuple[str, str | bytes | None]]
Report = Callable[[KafkaError | None, Message], None]
DELIVERY_TIMEOUT_S = 30.0
PACE_S = 0.005
"""At most so long a record sent `with_others` waits for them. A request, its answer and the reads it wakes cost some
300 µs of CPU whatever they carry: at 32 streams of 50 deltas a second, a request a delta took 1.5 times the CPU of the
whole path, and 3 ms instead of 5 a tenth more, with the same median of a chunk's time (`bench.path`)."""
FIRST_CONTACT_S = 1.0
"""Not longer, because an asyncio stage waits for it in its loop, and must be able to stop while a broker is away."""


class DeliveryFailed(Exception):
    """A record was not acknowledged. What was written is unknown, so the process must end without committing."""


class Writer:
    """For stages that run a plain loop: send many, then `flush` before what they caused may be written."""

    reports: ClassVar[dict[str, Any]] = {"delivery.report.only.error": True}
    """A report in Python for each record would cost as much as sending it; `flush` knows what is acknowledged."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._producer = Producer(producer_config(bootstrap, client_id) | self.reports)
        self.answers(FIRST_CONTACT_S)  # asked now, an idempotent producer's first record takes 60 ms, not 1 s
        self._failure: str | None = None

    def send(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        headers: Headers = VERSION_HEADERS,
        partition: int = -1,
        report: Report | None = None,
    ) -> None:
        """Queue a record; waits while the queue is full, which is how a slow broker holds its writers back.

        `report` is called in place of our own, which notes what is lost.
        """
        report = report or self._on_delivery
        while True:
            try:
                self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=report)
                return
            except BufferError:
                self._producer.poll(0.1)
                self.check()

    def flush(self) -> None:
        """Return when everything sent is acknowledged.

        Raises:
            DeliveryFailed: some record was not.
        """
        if self._producer.flush(DELIVERY_TIMEOUT_S):
            raise DeliveryFailed(f"not acknowledged within {DELIVERY_TIMEOUT_S} s")
        self.check()

    def poll(self) -> None:
        """Serve delivery reports without waiting."""
        self._producer.poll(0)
        self.check()

    @property
    def idle(self) -> bool:
        """Whether everything sent is acknowledged, or lost, just now."""
        return not len(self._producer)

    def answers(self, within_s: float) -> bool:
        """Whether the broker does."""
        try:
            self._producer.list_topics(timeout=within_s)
        except KafkaException:
            return False
        return True

    def check(self) -> None:
        """Raise DeliveryFailed if any record sent so far is known to be lost."""
        if self._failure is not None:
            raise DeliveryFailed(self._failure)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"{message.topic()}[{message.partition()}]: {error.str()}"


class AsyncWriter(Writer):
    """For asyncio stages: the same producer, its reports served by a thread of its own."""

    reports: ClassVar[dict[str, Any]] = {}

    def __init__(self, bootstrap: str, client_id: str) -> None:
        super().__init__(bootstrap, client_id)
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._waiting: list[tuple[str, str | None, bytes | None]] = []
        self._next_leave = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"{client_id}-reports", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        headers: Headers = VERSION_HEADERS,
        partition: int = -1,
        report: Report | None = None,
    ) -> None:
        """As `Writer` does it, behind those that wait."""
        self._leave()
        super().send(topic, key, value, headers, partition, report)

    def send_with_others(self, topic: str, key: str | None, value: bytes | None) -> None:
        """Queue a record that may wait for others, at most `PACE_S`; at once where none left within that time."""
        if not self._waiting:
            self._loop.call_at(max(self._next_leave, self._loop.time()), self._leave)
        self._waiting.append((topic, key, value))

    def deliver(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        headers: Headers = VERSION_HEADERS,
        partition: int = -1,
    ) -> "asyncio.Future[int]":
        """Queue a record; the future gives its offset once acknowledged, or raises DeliveryFailed."""
        future: asyncio.Future[int] = self._loop.create_future()

        def report(error: KafkaError | None, message: Message) -> None:
            self._on_delivery(error, message)
            self._loop.call_soon_threadsafe(_settle, future, error, message.offset())

        self.send(topic, key, value, headers, partition, report)
        return future

    async def failure(self) -> None:
        """Wait until a record is lost, then raise DeliveryFailed; a stage runs this beside its work."""
        await self._failed

    async def aclose(self) -> None:
        """Wait for what is queued, then stop the thread."""
        self._leave()
        await asyncio.to_thread(self.flush)
        self._closing.set()
        await asyncio.to_thread(self._thread.join)

    def _leave(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._next_leave = self._loop.time() + PACE_S
        for topic, key, value in waiting:
            super().send(topic, key, value)

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.05)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        super()._on_delivery(error, message)
        if error is not None:
            self._loop.call_soon_threadsafe(self._fail)

    def _fail(self) -> None:
        if not self._failed.done():
            self._failed.set_exception(DeliveryFailed(self._failure or "unknown"))
            self._failed.exception()  # read, so that an unawaited one is not reported a second time


def _settle(future: "asyncio.Future[int]", error: KafkaError | None, offset: int | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(-1 if offset is None else offset)
    else:
        future.set_exception(DeliveryFailed(error.str()))


def producer_config(bootstrap: str, client_id: str) -> dict[str, Any]:
    """What every producer of ours runs with: acknowledged by all, repeats dropped, the Java client's partitions.

    One request is under way at a time: what is written meanwhile goes with the next. Batches so grow with the load and
    cost a lone record nothing; with librdkafka's five, dispatch sent nearly one request a chunk (each carries one
    partition), at 128 streams 2.3 times the client's CPU.
    """
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": 0,
        "max.in.flight.requests.per.connection": 1,
        "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
        "message.max.bytes": 4 << 20,
        "socket.nagle.disable": True,
        "log_level": 3,
    }
