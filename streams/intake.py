"""Admission's reading: requests and outcomes, in batches that a thread of its own hands over to the loop.

An asyncio client took twice the CPU for a small batch, and brought it 0.4 ms later (see `connectors/edge/hub.py`).
"""

import asyncio
import threading
import time
from typing import NamedTuple

from confluent_kafka import Message

from connectors.kafka.batches import BatchReader, Partition, by_partition
from streams.runtime import Context, Stopping

READ_MOST, READ_S = 500, 0.2
AHEAD = 2
"""Batches read that wait to be decided."""
COMMIT_EVERY_S = 1.0
"""What is read again after a crash is decided again, and counts once."""
LEAVE_S = 2.0


class Taken(NamedTuple):
    """A batch, partition by partition."""

    messages: dict[Partition, list[Message]]
    noted: dict[Partition, int]
    """Where it is noted as decided: nobody looks there any more once its partitions have gone."""


class Intake:
    """A member of the group `admission`; to be made in the loop that is to decide."""

    def __init__(self, context: Context, stopping: Stopping) -> None:
        settings = context.settings
        self._context, self._stopping = context, stopping
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[Taken | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD)
        self._leaving = threading.Event()
        self._decided: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._last_commit = 0.0
        self._reader = BatchReader(
            settings.kafka,
            "admission",
            context.member,
            ["requests", "outcomes"],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._forget,
            fetch_wait_ms=settings.fetch_wait_ms,
        )

    def run(self) -> None:
        """In a thread: read until asked to stop, or told to leave; then commit what has been decided by then.

        Raises:
            LogLost, KafkaException: as `BatchReader.read` does.
        """
        try:
            while not (self._stopping.asked or self._leaving.is_set()):
                self._cycle()
        finally:
            self._loop.call_soon_threadsafe(self._batches.put_nowait, None)
        self._leaving.wait(LEAVE_S)
        self._commit()
        self._reader.close()

    async def next(self) -> Taken | None:
        """What is to be decided next; None when nothing more is read."""
        return await self._batches.get()

    def decided(self, taken: Taken) -> None:
        """All that follows from a batch stands in the log."""
        for partition, messages in taken.messages.items():
            taken.noted[partition] = (messages[-1].offset() or 0) + 1
        self._room.release()

    def leave(self) -> None:
        """Nothing more will be decided."""
        self._leaving.set()

    def _cycle(self) -> None:
        if self._room.acquire(timeout=READ_S):
            batch = self._reader.read(READ_MOST, READ_S)
            if batch:
                taken = Taken(by_partition(batch), self._decided)
                self._loop.call_soon_threadsafe(self._batches.put_nowait, taken)
            else:
                self._room.release()
        if time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        self._last_commit = time.monotonic()
        fresh = {name: offset for name, offset in self._decided.copy().items() if offset > self._committed.get(name, 0)}
        if fresh and self._reader.commit_if_it_can(fresh):
            self._committed |= fresh

    def _assigned(self, partitions: list[Partition]) -> None:
        if partitions:
            self._context.announce_ready()

    def _revoked(self, partitions: list[Partition]) -> None:
        self._commit()
        self._forget(partitions)

    def _forget(self, _: list[Partition]) -> None:
        self._decided, self._committed = {}, {}
