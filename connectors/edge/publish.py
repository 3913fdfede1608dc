"""What an edge writes: requests, and to the journal the coming and going of readers and the cancels of clients."""

import asyncio
import logging
import os
import time
from datetime import UTC, datetime

from connectors.edge.errors import ApiError, NotSent, unavailable
from connectors.kafka.writer import AsyncWriter, DeliveryFailed, Headers
from processors.codec import VERSION_HEADERS, encode
from processors.edge.submission import Submission
from processors.events import Cancel, EdgeRef, EdgeStarted, Joined, Left
from processors.identity import partition_of, uuid7

log = logging.getLogger(__name__)

ACK_S = 5.0
"""How long a client waits for the log to take its request; after that the log counts as unreachable."""


class Publisher:
    """Writes for one incarnation of an edge, in the order of the calls."""

    def __init__(
        self, writer: AsyncWriter, edge: EdgeRef, partitions: int, owned: frozenset[int], ack_s: float = ACK_S
    ) -> None:
        self.edge = edge
        self.partitions = partitions
        self.owned = owned
        self.reachable = True
        self._writer = writer
        self._ack_s = ack_s

    def draw_id(self) -> str:
        """A fresh request id, in a partition that this edge reads."""
        unix_ms = time.time_ns() // 1_000_000
        while True:
            request_id = uuid7(unix_ms, os.urandom(10))
            if partition_of(request_id, self.partitions) in self.owned:
                return request_id

    async def started(self) -> None:
        """Tell every partition that older incarnations of this edge have no readers any more.

        Raises:
            DeliveryFailed: the log did not take it.
        """
        event = encode(EdgeStarted(self.edge))
        sent = [
            self._writer.deliver("journal", None, event, partition=partition) for partition in range(self.partitions)
        ]
        await asyncio.gather(*sent)

    async def request(self, submission: Submission) -> None:
        """Publish a request; returns once the log has it.

        Raises:
            NotSent: the log is known to be away.
            ApiError: 503, the log did not answer in time; whether it will still take the request is unknown.
        """
        self.check_reachable()
        request = submission.request
        headers = cloud_headers(request.id, self.edge.instance)
        await self._acknowledged(self._writer.deliver("requests", request.id, submission.value, headers))

    async def cancel(self, request_id: str, tenant: str) -> None:
        """End a request at its client's wish; raises as `request`."""
        self.check_reachable()
        event = encode(Cancel(request_id, tenant))
        await self._acknowledged(self._writer.deliver("journal", request_id, event))

    def joined(self, request_id: str, tenant: str) -> None:
        """This edge has its first reader of the stream."""
        self._tell(request_id, encode(Joined(request_id, tenant, self.edge)))

    def left(self, request_id: str, tenant: str) -> None:
        """This edge has lost its last one."""
        self._tell(request_id, encode(Left(request_id, tenant, self.edge)))

    def check_reachable(self) -> None:
        """Fail at once while an earlier record still waits for the log, instead of queueing behind it.

        Raises:
            NotSent: it does.
        """
        if not self.reachable:
            raise NotSent

    def _tell(self, request_id: str, event: bytes) -> None:
        """Nobody waits for it; a record that is lost ends the process (AsyncWriter.failure)."""
        self._writer.deliver("journal", request_id, event).add_done_callback(_note)

    async def _acknowledged(self, sent: "asyncio.Future[int]") -> None:
        try:
            async with asyncio.timeout(self._ack_s):
                await asyncio.shield(sent)
        except TimeoutError:
            self.reachable = False
            sent.add_done_callback(self._answered)
            raise _unreachable() from None
        except DeliveryFailed as error:
            log.error("the log did not take a record: %s", error)
            raise _unreachable() from None

    def _answered(self, sent: "asyncio.Future[int]") -> None:
        self.reachable = not sent.cancelled() and sent.exception() is None


def cloud_headers(request_id: str, instance: str) -> Headers:
    """CloudEvents attributes of a request, and the version by which every reader of ours judges a record."""
    at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", request_id.encode()),
        ("ce_type", b"sluice.request"),
        ("ce_source", f"/edge/{instance}".encode()),
        ("ce_time", at.encode()),
        *VERSION_HEADERS,
    ]


def _note(sent: "asyncio.Future[int]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        log.error("the log did not take a reader's coming or going: %s", sent.exception())


def _unreachable() -> ApiError:
    return unavailable("log_unreachable", "the log cannot be reached; try again")
