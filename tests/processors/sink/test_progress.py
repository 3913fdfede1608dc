"""The protocol as a whole, simulated: crashes anywhere, other partitions after them, a table that drops known tokens.

The control runs the same crashes without notes: records are then inserted twice, so the check can see it.
"""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sink.pending import Committed, Partition, Range, Ranges, notes_of, token_of
from processors.sink.progress import Progress

Record = tuple[Partition, int]
PARTITIONS: list[Partition] = [("journal", 0), ("journal", 1), ("tokens", 0)]


@dataclass
class World:
    """Kafka's committed offsets with metadata, and a ClickHouse table with its window of tokens."""

    ends: dict[Partition, int]
    notes: bool = True
    committed: dict[Partition, Committed] = field(
        default_factory=lambda: {item: Committed(0, "") for item in PARTITIONS}
    )
    rows: list[Record] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def insert(self, token: str, rows: list[Record]) -> None:
        if token not in self.tokens:
            self.tokens.add(token)
            self.rows += rows

    def commit(self, offsets: dict[Partition, int], metadata: dict[Partition, str]) -> None:
        for partition, offset in offsets.items():
            self.committed[partition] = Committed(offset, metadata.get(partition, "") if self.notes else "")


class Crash(Exception):
    pass


@dataclass
class Member:
    """Reads its partitions in turns of drawn lengths; crashes at the drawn step, if it gets there."""

    world: World
    mine: list[Partition]
    turns: list[int]
    crash_at: int
    steps: int = 0
    batch: list[Record] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    def run(self) -> None:
        self.progress.assigned({item: self.world.committed[item] for item in self.mine})
        where = dict(self.progress.places)
        for turn in [*self.turns, *[3] * 100]:
            if self.progress.replay is None and all(self.progress.places[p] >= self.world.ends[p] for p in self.mine):
                break
            for partition in self.mine:
                self._read(partition, where, turn)
            if self.progress.repeated or (self.progress.replay is None and self.batch):
                where = self._flush(where)
        assert self.progress.places == {item: self.world.ends[item] for item in self.mine}

    def _read(self, partition: Partition, where: dict[Partition, int], most: int) -> None:
        offsets = range(where[partition], self.world.ends[partition])[:most]
        where[partition] += len(offsets)
        self.batch += [(partition, offset) for offset in offsets[self.progress.take(partition, offsets)]]

    def _flush(self, where: dict[Partition, int]) -> dict[Partition, int]:
        ranges, rows = self.progress.ranges(), self.batch
        token, self.batch = token_of(ranges), []
        self._step()
        self.world.commit({item: span.start for item, span in ranges.items()}, notes_of(ranges, token))
        self._step()
        self.world.insert(token, rows)
        self._step()
        self.world.commit({item: span.end for item, span in ranges.items()}, {})
        self._step()
        return dict(self.progress.places) if self.progress.landed(ranges) else where

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crash


Life = tuple[list[Partition], list[int], int]


def live(world: World, lives: list[Life]) -> None:
    """Members one after the other, the last of which has all partitions and comes to the end."""
    for mine, turns, crash_at in lives:
        try:
            Member(world, mine, turns, crash_at).run()
        except Crash:
            continue
    Member(world, PARTITIONS, [], 0).run()


MINE = st.sets(st.sampled_from(PARTITIONS), min_size=1).map(sorted)
LIVES = st.lists(st.tuples(MINE, st.lists(st.integers(1, 5), max_size=6), st.integers(1, 12)), max_size=6)
ENDS = st.fixed_dictionaries({item: st.integers(0, 20) for item in PARTITIONS})


@settings(max_examples=300)
@given(ends=ENDS, lives=LIVES)
def test_every_record_is_inserted_once_whenever_the_process_dies(ends: dict[Partition, int], lives: list[Life]) -> None:
    world = World(ends)
    live(world, [(PARTITIONS, turns, crash_at) for _, turns, crash_at in lives])
    assert sorted(world.rows) == every_record(ends)


@settings(max_examples=300)
@given(ends=ENDS, lives=LIVES)
def test_no_record_is_lost_however_the_partitions_are_divided(ends: dict[Partition, int], lives: list[Life]) -> None:
    """A flush of which another has a part cannot be repeated: its records may come twice, and the views count once."""
    world = World(ends)
    live(world, lives)
    assert sorted(set(world.rows)) == every_record(ends)


def test_two_flushes_that_died_at_once_are_both_repeated() -> None:
    """Two members leave notes on partitions of their own, and one successor takes them all."""
    world = World(dict.fromkeys(PARTITIONS, 4))
    live(world, [(PARTITIONS[:1], [2], 2), (PARTITIONS[1:], [2], 2)])
    assert sorted(world.rows) == every_record(world.ends)


def every_record(ends: dict[Partition, int]) -> list[Record]:
    return sorted((item, offset) for item, end in ends.items() for offset in range(end))


def test_control_without_notes_the_same_crash_inserts_twice() -> None:
    for notes, copies in ((True, 1), (False, 2)):
        world = World(dict.fromkeys(PARTITIONS, 4), notes=notes)
        live(world, [(PARTITIONS, [2], 3)])  # dies between insert and commit, then reads in other turns
        assert world.rows.count((PARTITIONS[0], 0)) == copies


def test_a_range_that_compaction_has_thinned_out_is_repeated_with_what_is_left() -> None:
    ranges: Ranges = {PARTITIONS[0]: Range(2, 6)}
    progress = Progress()
    progress.assigned({PARTITIONS[0]: Committed(2, notes_of(ranges, token_of(ranges))[PARTITIONS[0]])})
    assert progress.take(PARTITIONS[0], [3, 9]) == slice(0, 1)  # 4 to 8 are gone; 9 is for later
    assert progress.repeated
    assert progress.ranges() == ranges
    assert progress.landed(ranges)
    assert progress.take(PARTITIONS[0], [9]) == slice(0, 1)


def test_records_of_partitions_that_are_gone_are_not_taken() -> None:
    progress = Progress()
    progress.assigned({PARTITIONS[0]: Committed(0, "")})
    assert progress.take(PARTITIONS[0], [0]) == slice(0, 1)
    assert progress.take(PARTITIONS[0], [0, 1]) == slice(1, 2)
    progress.revoked()
    assert progress.take(PARTITIONS[0], [2]) == slice(0)
    assert progress.ranges() == {}
