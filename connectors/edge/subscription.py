"""One reader of one stream: what it takes next, from the live buffer or from the log, and what it waits for."""

import asyncio
from collections.abc import Callable

from processors.edge.buffer import Item, StreamBuffer
from processors.edge.reader import Gap, Released
from processors.events import End

MOST_AT_ONCE = 256
"""Records taken at once: a long backlog is sent in pieces, each as the socket makes room."""
MOST_BYTES = 64 * 1024
BACKLOG = 1024
"""Records read ahead from the log for one reader."""


class StreamOver(Exception):
    """A reader's place lies after the end of its stream: there is nothing to deliver, now or ever."""


class Subscription:
    """A place in a stream. `notify` is called whenever there may be something to `take`, also a failure.

    Live records come from a shared buffer by position, so that a reader costs nothing while it waits. What the
    buffer does not hold is pushed by whoever reads the log for it.
    """

    def __init__(self, request_id: str, tenant: str, next_seq: int = 0) -> None:
        self.id = request_id
        self.tenant = tenant
        self.next_seq = next_seq
        self.ended = False
        self.cached = False
        self.failure: Exception | None = None
        self.buffer: StreamBuffer | None = None
        self.notify: Callable[[], None] = _nothing
        self._pushed: list[Item | Gap] = []
        self._room = asyncio.Event()
        self._room.set()
        self._mark = 0

    def attach(self, buffer: StreamBuffer) -> None:
        """Take from the live buffer from now on; what was pushed is taken first."""
        self.buffer = buffer
        self._mark = buffer.total
        self.notify()

    def push(self, items: list[Item | Gap]) -> None:
        """Add what was read from the log."""
        self._pushed += items
        if len(self._pushed) >= BACKLOG:
            self._room.clear()
        self.notify()

    async def room(self) -> None:
        """Wait until the reader has taken what was pushed."""
        await self._room.wait()

    def fail(self, failure: Exception) -> None:
        """Nothing more will come, and this is why."""
        if self.failure is None and not self.ended:
            self.failure = failure
        self._room.set()
        self.notify()

    def take(self) -> list[Item | Gap]:
        """What is there, in order; empty where the reader has to wait.

        Raises:
            StreamOver: the stream ended before this place.
            Exception: the failure, once all before it was taken.
        """
        if self.ended:
            return []
        items = self._take_pushed() or self._take_live()
        if items:
            last = items[-1]
            self.ended = isinstance(last, Item) and isinstance(last.event, End)
        elif self.failure is not None:
            raise self.failure
        return items

    def has_more(self) -> bool:
        """Whether `take` would give something, or raise, at once."""
        if self._pushed or self.failure is not None:
            return True
        return self.buffer is not None and (self.buffer.next_seq > self.next_seq or self.buffer.reader.ended)

    def behind(self) -> int:
        """Bytes that came since the reader attached and that it has not taken. A backlog is no slowness of its own."""
        if self.buffer is None:
            return 0
        return min(self.buffer.total - self._mark, self.buffer.waiting(self.next_seq))

    def _take_pushed(self) -> list[Item | Gap]:
        if not self._pushed:
            return []
        items, self._pushed = self._pushed[:MOST_AT_ONCE], self._pushed[MOST_AT_ONCE:]
        if len(self._pushed) < BACKLOG:
            self._room.set()
        last = items[-1]
        self.next_seq = last.oldest_seq if isinstance(last, Gap) else last.event.seq + 1
        return items

    def _take_live(self) -> list[Item | Gap]:
        buffer = self.buffer
        if buffer is None:
            return []
        if buffer.next_seq <= self.next_seq:
            if buffer.reader.ended:
                raise StreamOver
            return []
        if buffer.base_seq > self.next_seq:  # a hole in the log itself: records of a reader are never dropped here
            self.next_seq = buffer.base_seq
            return [Gap(buffer.base_seq)]
        items: list[Item | Gap] = [*buffer.since(self.next_seq, MOST_AT_ONCE, MOST_BYTES)]
        self.next_seq += len(items)
        self.cached = buffer.cached
        return items


class Awaited:
    """For a connection that carries one stream: wait for the next records of a subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._waiter: asyncio.Future[None] | None = None
        subscription.notify = self.wake

    def wake(self) -> None:
        """Something may be there."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> list[Item | Gap]:
        """What is there, waiting until something is; raises as `take`."""
        while True:
            items = self.subscription.take()
            if items:
                return items
            await self.pause()

    async def pause(self) -> None:
        """Wait until woken."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def records(items: list[Item | Gap]) -> list[Released] | None:
    """The records alone; None where there is a gap among them."""
    found = [item.event for item in items if isinstance(item, Item)]
    return found if len(found) == len(items) else None


def _nothing() -> None:
    pass
