"""Readers of streams: who follows what, from memory or from the log, and what the journal is told of it."""

import asyncio
import time
from dataclasses import dataclass

from connectors.edge.catchup import CatchUp, Search
from connectors.edge.errors import ApiError, not_found
from connectors.edge.hub import Hub
from connectors.edge.publish import Publisher
from connectors.edge.subscription import StreamOver, Subscription
from processors.edge.cursor import Cursor
from processors.identity import uuid7_time

LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader begins: after a cursor, or at a seq."""

    next_seq: int = 0
    cursor: Cursor | None = None


def after(cursor: Cursor) -> Place:
    """The place that follows a cursor."""
    return Place(cursor.seq + 1, cursor)


class Streams:
    """Opens and closes subscriptions, and counts the readers of each stream on this edge."""

    def __init__(self, hub: Hub, catchup: CatchUp, publisher: Publisher) -> None:
        self._hub = hub
        self._catchup = catchup
        self._publisher = publisher
        self._readers: dict[str, int] = {}
        self._open: set[Subscription] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open(self) -> int:
        """Readers now."""
        return len(self._open)

    async def idle(self) -> None:
        """Wait until there is no reader."""
        await self._idle.wait()

    def submitting(self, request_id: str, tenant: str) -> Subscription:
        """A reader of a stream that is about to be submitted here; it counts as joined without a word."""
        subscription = Subscription(request_id, tenant)
        self._hub.attach(subscription, self._hub.expect(request_id, tenant))
        self._count(subscription)
        return subscription

    def not_submitted(self, subscription: Subscription) -> None:
        """The log did not take the request, or not in time: its reader leaves, and its id is unknown again."""
        self.leave(subscription)
        self._hub.buffers.forget_unopened(subscription.id)

    async def follow(self, request_id: str, tenant: str, place: Place, wait_s: float = 0.0) -> Subscription:
        """A reader of a stream that exists, or begins within `wait_s`.

        Raises:
            ApiError: 404 for a foreign or unknown id, 503 where the log cannot be read.
            BadCursor: the cursor's place in the log is not the stream's.
            StreamOver: the place lies after the stream's end.
        """
        subscription = Subscription(request_id, tenant, place.next_seq)
        await self._find(subscription, Search(place.cursor, time.monotonic() + wait_s))
        if self._count(subscription) == 1:
            self._publisher.joined(request_id, tenant)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """The reader is gone; the journal is told when it was the last one of a stream that goes on."""
        if subscription not in self._open:
            return
        buffer = subscription.buffer
        over = subscription.ended or (buffer is not None and buffer.reader.ended)
        self._release(subscription)
        self._open.remove(subscription)
        if not self._open:
            self._idle.set()
        left = self._readers[subscription.id] = self._readers[subscription.id] - 1
        if not left:
            del self._readers[subscription.id]
            if not over:
                self._publisher.left(subscription.id, subscription.tenant)

    async def check_owner(self, request_id: str, tenant: str, wait_s: float = 0.0) -> None:
        """Return if the stream is the tenant's.

        Raises:
            ApiError: 404 otherwise, 503 where the log cannot be read.
        """
        trace = self._hub.buffers.trace(request_id)
        if trace is not None and trace.tenant == tenant:
            return
        subscription = Subscription(request_id, tenant)
        try:
            await self._find(subscription, Search(until=time.monotonic() + wait_s))
        except StreamOver:
            return
        finally:
            self._release(subscription)

    def fail_all(self, failure: ApiError) -> None:
        """Tell every reader that nothing more will come from here."""
        for subscription in list(self._open):
            subscription.fail(failure)

    async def _find(self, subscription: Subscription, search: Search) -> None:
        """Attach to memory where it has what is wanted, else begin to read the log."""
        _check_id(subscription.id)
        buffer = self._hub.get(subscription.id)
        if buffer is None and self._hub.never_began(subscription.id):
            await self._hub.wait_known(subscription.id, search.until - time.monotonic())
            buffer = self._hub.get(subscription.id)
            if buffer is None:
                raise not_found(subscription.id)
        if buffer is not None and buffer.reader.tenant != subscription.tenant:
            await asyncio.sleep(max(0.0, search.until - time.monotonic()))  # as long as for one that is unknown
            raise not_found(subscription.id)
        if buffer is None or not buffer.covers(subscription.next_seq):
            await self._catchup.begin(subscription, search)
        elif buffer.reader.ended and subscription.next_seq >= buffer.next_seq:
            raise StreamOver
        else:
            self._hub.attach(subscription, buffer)

    def _count(self, subscription: Subscription) -> int:
        self._open.add(subscription)
        self._idle.clear()
        readers = self._readers[subscription.id] = self._readers.get(subscription.id, 0) + 1
        return readers

    def _release(self, subscription: Subscription) -> None:
        self._catchup.cancel(subscription)
        self._hub.detach(subscription)


def _check_id(request_id: str) -> None:
    """What is no id of ours is an unknown one."""
    try:
        uuid7_time(request_id)
    except (ValueError, OverflowError):
        raise not_found(request_id) from None
