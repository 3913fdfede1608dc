"""Where the sink stands in each of its partitions, and which record it takes next."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from processors.sink.pending import Committed, Partition, Range, Ranges, Replay, replays


class Progress:
    """Pure bookkeeping of one assignment, from `assigned` to `revoked`.

    While a flush is repeated (`replay`), only records of its ranges are taken; all others are passed over, those of a
    further replay too, and read again once it is done: `landed` says when to go back to `places`.
    """

    def __init__(self) -> None:
        self.places: dict[Partition, int] = {}
        """The next offset to take."""
        self._committed: dict[Partition, int] = {}
        self._replays: list[Replay] = []

    def assigned(self, found: Mapping[Partition, Committed]) -> None:
        """Begin at the group's committed offsets, with the flushes that their notes tell of."""
        self._committed = {partition: item.offset for partition, item in found.items()}
        self.places = dict(self._committed)
        self._replays = replays(found)

    def revoked(self) -> None:
        """Forget everything: the partitions are someone else's, or will be given to us anew."""
        self.places, self._committed, self._replays = {}, {}, []

    @property
    def replay(self) -> Replay | None:
        """The flush to be repeated before anything else is taken."""
        return self._replays[0] if self._replays else None

    @property
    def repeated(self) -> bool:
        """Whether all of the replay's records have been taken."""
        replay = self.replay
        return replay is not None and all(self.places[item] >= span.end for item, span in replay.ranges.items())

    def take(self, partition: Partition, offsets: Sequence[int]) -> slice:
        """Which of these records, in the order of the log, are to be taken now; they count as taken."""
        place = self.places.get(partition)
        if place is None:
            return slice(0)  # revoked with these records already in hand
        first = bisect_left(offsets, place)  # those before it were read before a seek
        stop = self._replayed(partition, offsets, first) if self._replays else len(offsets)
        if first < stop:
            self.places[partition] = max(self.places[partition], offsets[stop - 1] + 1)
        return slice(first, stop)

    def _replayed(self, partition: Partition, offsets: Sequence[int], first: int) -> int:
        """Where the replay's records end, of those from `first` on."""
        span = self._replays[0].ranges.get(partition)
        if span is None:
            return first
        stop = bisect_left(offsets, span.end, first)
        if stop < len(offsets):
            self.places[partition] = span.end  # where the range's last records are gone from a compacted topic, too
        return stop

    def ranges(self) -> Ranges:
        """What has been taken and not committed."""
        return {
            partition: Range(start, self.places[partition])
            for partition, start in self._committed.items()
            if self.places[partition] > start
        }

    def landed(self, ranges: Ranges) -> bool:
        """These are inserted and committed. True where that was a replay: read on from `places`."""
        self._committed.update({partition: span.end for partition, span in ranges.items()})
        replayed = bool(self._replays)
        del self._replays[:1]
        return replayed
