"""Reading Kafka from asyncio, with aiokafka."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

log = logging.getLogger(__name__)

T = TypeVar("T")

__all__ = [
    "AIOKafkaConsumer",
    "TopicPartition",
    "free_reader",
    "stop_reader",
]


_send = AIOKafkaConnection.send


def _send_or_close(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """What uvloop says of a closed connection is an error of the connection.

    asyncio's transports drop what is written after the close; uvloop's raise a RuntimeError, which ends the client's
    fetching for good without a word to whoever reads (aiokafka issue 1038, open in 0.14).
    """
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"{self}: {error}") from error


AIOKafkaConnection.send = _send_or_close


async def free_reader(bootstrap: str, client_id: str, fetch_wait_ms: int = 500) -> AIOKafkaConsumer:
    """A started reader outside any group that has no partitions yet: its caller asks for offsets, then assigns.

    `fetch_wait_ms` bounds a fetch that finds nothing: a broker wakes it for new data, the embedded one does not.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=fetch_wait_ms,
        max_partition_fetch_bytes=4 << 20,
        check_crcs=False,
        metadata_max_age_ms=30_000,
    )
    try:
        await unhurried(consumer.start())
    except BaseException:  # a cancelled start, too, has connections to close
        await stop_reader(consumer)
        raise
    return consumer


async def unhurried(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; when cancelled let it come to its end first, for up to a second.

    aiokafka, cancelled while it connects, forgets the connection and leaves it open.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=1.0)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # looked at, so that nobody reports it
        raise


async def stop_reader(consumer: AIOKafkaConsumer) -> None:
    """Stop a reader, also one whose broker is gone: its own `stop` then raises the cancellation of its own tasks."""
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping})
    if not stopping.cancelled() and stopping.exception() is not None:
        log.warning("stopping a reader: %r", stopping.exception())
