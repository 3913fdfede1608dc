"""What an edge keeps of the streams in its partitions: a bounded memory of recent records, by request id.

When the bytes run out, ended streams that nobody reads go first, oldest end first; then the records of live streams
that nobody reads, oldest first, and their names; last, what all readers of a stream have taken. What a reader has
still to take is never dropped. What has gone is read from the log.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from processors.edge.reader import Reader, Released, Step
from processors.events import Opened
from processors.identity import uuid7_time

RECORD_OVERHEAD = 250
"""Bytes that a decoded record takes beside its text, and a stream beside its records."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """A released record, its offset in the log, and its size there in bytes."""

    event: Released
    offset: int
    size: int


class Taker(Protocol):
    """A reader of a buffer: `next_seq` is what it takes next."""

    next_seq: int

    def notify(self) -> None:
        """There is more."""


class StreamBuffer:
    """The records of one stream from `base_seq` on, and who takes from it."""

    __slots__ = ("base_seq", "cached", "first_offset", "items", "kept", "reader", "takers", "total")

    def __init__(self, request_id: str, tenant: str, base_seq: int = 0) -> None:
        self.reader = Reader(request_id, tenant, base_seq)
        self.base_seq = base_seq
        self.items: list[Item] = []
        self.takers: list[Taker] = []
        self.total = 0
        self.kept = RECORD_OVERHEAD
        self.cached = False
        self.first_offset: int | None = None

    @property
    def next_seq(self) -> int:
        return self.reader.next_seq

    def covers(self, seq: int) -> bool:
        """Whether every record from `seq` on is here or still to come."""
        return self.base_seq <= seq

    def since(self, seq: int, most: int, most_bytes: int) -> list[Item]:
        """Up to `most` records from `seq` on, and hardly more than `most_bytes` of them."""
        at = max(0, seq - self.base_seq)
        items = self.items[at : at + most]
        size = 0
        for count, item in enumerate(items, 1):
            size += item.size
            if size >= most_bytes:
                return items[:count]
        return items

    def waiting(self, seq: int) -> int:
        """Bytes of the records from `seq` on."""
        return sum(item.size for item in self.items[max(0, seq - self.base_seq) :])

    def append(self, item: Item) -> int:
        """Keep a record the reader has delivered; returns the bytes it takes."""
        self.items.append(item)
        self.total += item.size
        self.kept += item.size + RECORD_OVERHEAD
        return item.size + RECORD_OVERHEAD

    def drop_taken(self) -> int:
        """Forget what no taker needs, all of it where there is none; returns the bytes freed."""
        return self.drop_before(min((taker.next_seq for taker in self.takers), default=self.next_seq))

    def drop_before(self, seq: int) -> int:
        """Forget the records before `seq`; returns the bytes freed."""
        count = min(max(0, seq - self.base_seq), len(self.items))
        freed = sum(item.size + RECORD_OVERHEAD for item in self.items[:count])
        del self.items[:count]
        self.base_seq += count
        self.kept -= freed
        return freed


class Trace(NamedTuple):
    """What is left of a stream whose records were dropped: whose it was, and where it began in the log, if that was
    seen."""

    tenant: str
    first_offset: int | None


class Buffers:
    """All streams of an edge, within `limit` bytes."""

    def __init__(self, limit: int, traces: int = 100_000) -> None:
        self.streams: dict[str, StreamBuffer] = {}
        self.kept = 0
        self.holes = 0
        self._limit = limit
        self._sweep_at = limit
        self._most_traces = traces
        self._ended: dict[str, None] = {}
        self._traces: dict[str, Trace] = {}
        self._forgotten_ms = -1.0

    def get(self, request_id: str) -> StreamBuffer | None:
        return self.streams.get(request_id)

    def trace(self, request_id: str) -> Trace | None:
        """What is known of a stream that was dropped."""
        return self._traces.get(request_id)

    def remembers(self, request_id: str) -> bool:
        """Whether a stream of this id that was ever taken must still be here, or have left a trace."""
        return _id_ms(request_id) > self._forgotten_ms

    def expect(self, request_id: str, tenant: str, base_seq: int = 0) -> StreamBuffer:
        """The stream of this id, made if need be: about to begin, or read elsewhere up to `base_seq`."""
        buffer = self.streams.get(request_id)
        if buffer is None:
            buffer = self.streams[request_id] = StreamBuffer(request_id, tenant, base_seq)
            self.kept += buffer.kept
        return buffer

    def forget_unopened(self, request_id: str) -> None:
        """Drop a stream of which nothing was ever seen: its request was not published."""
        buffer = self.streams.get(request_id)
        if buffer is not None and not buffer.reader.known and not buffer.takers:
            self._remove(buffer)

    def take(self, event: Opened | Released, offset: int, size: int) -> StreamBuffer | None:
        """Put a record where it belongs; the stream, if it has something new for its readers."""
        buffer = self.streams.get(event.id) or self._first(event)
        if buffer is None:
            return None
        step = buffer.reader.take(event)
        begins = buffer.reader.known and (isinstance(event, Opened) or event.seq == 0)
        if buffer.first_offset is None and begins:
            buffer.first_offset = offset
        if isinstance(event, Opened):
            buffer.cached = buffer.cached or event.cached
            return None
        if step is Step.HOLE:
            self._reopen(buffer, event.seq)
            step = buffer.reader.take(event)
        if step is not Step.DELIVER:
            return None
        self._keep(buffer, Item(event, offset, size))
        return buffer

    def _keep(self, buffer: StreamBuffer, item: Item) -> None:
        self.kept += buffer.append(item)
        if buffer.reader.ended:
            self._ended[buffer.reader.id] = None
        if self.kept > self._sweep_at:
            self._make_room()

    def _first(self, event: Opened | Released) -> StreamBuffer | None:
        if event.id in self._traces:
            return None  # dropped before: what remains is read from the log
        base = 0 if isinstance(event, Opened) else event.seq
        return self.expect(event.id, event.tenant, base)

    def _reopen(self, buffer: StreamBuffer, seq: int) -> None:
        self.holes += 1
        self.kept -= buffer.drop_before(buffer.next_seq)
        buffer.reader.reopen(seq)
        buffer.base_seq = seq

    def _make_room(self) -> None:
        """Down to nine tenths, or as far as it goes, so that a full memory is not swept for every record."""
        goal = self._limit * 9 // 10
        ended = [self.streams[request_id] for request_id in self._ended]
        idle = [buffer for buffer in self.streams.values() if not buffer.takers]
        steps: tuple[tuple[Callable[[StreamBuffer], None], list[StreamBuffer]], ...] = (
            (self._remove, [buffer for buffer in ended if not buffer.takers]),
            (self._strip, idle),
            (self._remove, idle),
            (self._strip, list(self.streams.values())),
        )
        for free, buffers in steps:
            for buffer in buffers:
                if self.kept <= goal:
                    break
                if buffer.reader.id in self.streams:
                    free(buffer)
        self._sweep_at = max(self._limit, self.kept + self._limit // 10)

    def _strip(self, buffer: StreamBuffer) -> None:
        self.kept -= buffer.drop_taken()

    def _remove(self, buffer: StreamBuffer) -> None:
        request_id = buffer.reader.id
        del self.streams[request_id]
        self._ended.pop(request_id, None)
        self.kept -= buffer.kept
        if buffer.reader.known:
            self._leave_trace(request_id, Trace(buffer.reader.tenant, buffer.first_offset))

    def _leave_trace(self, request_id: str, trace: Trace) -> None:
        self._traces[request_id] = trace
        if len(self._traces) > self._most_traces:
            oldest = next(iter(self._traces))
            del self._traces[oldest]
            self._forgotten_ms = max(self._forgotten_ms, _id_ms(oldest))


def _id_ms(request_id: str) -> float:
    try:
        return uuid7_time(request_id).timestamp() * 1000
    except ValueError:
        return -1.0
