"""Where the sink stands in each of its partitions, and which record it takes next."""

from collections.abc import Mapping

from processors.sink.pending import Committed, Partition, Range, Ranges, Replay, replays


class Progress:
    """Pure bookkeeping of one assignment, from `assigned` to `revoked`.

    While a flush is repeated (`replay`), only records of its ranges are taken; all others are passed over, and read
    again once it is done: `landed` says when to go back to `places`.
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

    def take(self, partition: Partition, offset: int) -> bool:
        """Whether a record is to be taken now, in which case it counts as taken."""
        place = self.places.get(partition)
        if place is None or offset < place:
            return False  # revoked with this record already in hand, or read before a seek
        if self._replays and not self._in_replay(partition, offset):
            return False
        self.places[partition] = offset + 1
        return True

    def _in_replay(self, partition: Partition, offset: int) -> bool:
        span = self._replays[0].ranges.get(partition)
        if span is None:
            return False
        if offset < span.end:
            return True
        self.places[partition] = span.end  # the records before it are gone from a compacted topic
        return False

    def ranges(self) -> Ranges:
        """What has been taken and not committed."""
        return {
            partition: Range(start, self.places[partition])
            for partition, start in self._committed.items()
            if self.places[partition] > start
        }

    def landed(self, ranges: Ranges) -> bool:
        """These are inserted and committed. True where that was the last replay: read on from `places`."""
        self._committed.update({partition: span.end for partition, span in ranges.items()})
        if not self._replays:
            return False
        del self._replays[0]
        return not self._replays
