from hypothesis import given
from hypothesis import strategies as st

from processors.edge.buffer import RECORD_OVERHEAD, Buffers, StreamBuffer
from processors.events import End, Opened, Tokens
from processors.identity import uuid7

MANY, WIDE = 1000, 1 << 40


def name(number: int) -> str:
    return uuid7(1_800_000_000_000 + number, bytes(9) + bytes([number]))


def text(number: int, seq: int, tenant: str = "demo") -> Tokens:
    return Tokens(name(number), tenant, seq, f"t{seq}")


def end(number: int, seq: int) -> End:
    return End(name(number), "demo", seq, "completed", "stop")


def seqs(buffer: StreamBuffer, begin: int = 0) -> list[int]:
    return [item.event.seq for item in buffer.since(begin, MANY, WIDE)]


def squeeze(buffers: Buffers, limit: int = 0) -> None:
    """From the next record on there is this much room."""
    buffers._limit = buffers._sweep_at = limit


def filled(limit: int, streams: int, length: int, size: int = 100) -> Buffers:
    buffers = Buffers(limit)
    for number in range(streams):
        for seq in range(length):
            buffers.take(text(number, seq), 0, size)
    return buffers


def test_records_are_kept_in_order_and_repeats_dropped() -> None:
    buffers = Buffers(WIDE)
    assert buffers.take(Opened(name(1), "demo", cached=True), 5, 10) is None
    for seq in (0, 1, 0, 1, 2):
        buffers.take(text(1, seq), 6, 10)
    buffer = buffers.get(name(1))
    assert buffer is not None
    assert (seqs(buffer), seqs(buffer, 2), buffer.cached, buffer.first_offset) == ([0, 1, 2], [2], True, 5)


def test_a_stream_first_seen_in_its_middle_covers_only_the_rest() -> None:
    buffers = Buffers(WIDE)
    buffers.take(text(1, 4), 9, 10)
    buffer = buffers.get(name(1))
    assert buffer is not None
    assert (buffer.covers(3), buffer.covers(4), seqs(buffer, 4)) == (False, True, [4])
    assert buffer.first_offset is None  # a reader sent there would be told of a gap


def test_a_hole_leaves_what_follows() -> None:
    buffers = Buffers(WIDE)
    buffers.take(text(1, 0), 0, 10)
    buffers.take(text(1, 3), 1, 10)
    buffer = buffers.get(name(1))
    assert buffer is not None
    assert (buffers.holes, buffer.base_seq, seqs(buffer, 0)) == (1, 3, [3])


def test_another_tenants_record_is_not_taken() -> None:
    buffers = Buffers(WIDE)
    buffers.expect(name(1), "demo")
    assert buffers.take(text(1, 0, tenant="other"), 0, 10) is None


def test_ended_streams_go_first_the_oldest_end_first() -> None:
    buffers = filled(WIDE, streams=4, length=2)
    for number in (2, 0, 3):
        buffers.take(end(number, 2), 7, 100)
    squeeze(buffers, buffers.kept)
    buffers.take(text(1, 2), 0, 100)
    assert name(2) not in buffers.streams
    assert name(3) in buffers.streams
    trace = buffers.trace(name(2))
    assert trace is not None
    assert (trace.tenant, trace.first_offset) == ("demo", 0)


class Taker:
    """A reader that has taken everything before a place."""

    def __init__(self, next_seq: int) -> None:
        self.next_seq = next_seq

    def notify(self) -> None: ...


def test_what_a_reader_has_still_to_take_is_kept() -> None:
    buffers = filled(WIDE, streams=3, length=3)
    buffers.take(end(0, 3), 0, 100)
    buffers.streams[name(0)].takers.append(Taker(0))
    buffers.streams[name(1)].takers += [Taker(4), Taker(2)]
    squeeze(buffers)
    buffers.take(text(1, 3), 0, 100)
    assert [seqs(buffers.streams[name(number)], 0) for number in (0, 1)] == [[0, 1, 2, 3], [2, 3]]
    assert name(2) not in buffers.streams


def test_a_memory_full_of_what_is_read_is_not_swept_for_every_record() -> None:
    buffers = filled(10_000, streams=1, length=1)
    buffers.streams[name(0)].takers.append(Taker(0))
    swept = 0

    def count() -> None:
        nonlocal swept
        swept += 1

    sweep = buffers._make_room
    buffers._make_room = lambda: (count(), sweep())[1]  # type: ignore[method-assign, func-returns-value]
    for seq in range(1, 300):
        buffers.take(text(0, seq), 0, 100)
    assert len(buffers.streams[name(0)].items) == 300
    assert 0 < swept <= buffers.kept / 1000


def test_a_live_stream_without_readers_loses_its_records_but_not_its_place() -> None:
    buffers = filled(WIDE, streams=2, length=3)
    squeeze(buffers, RECORD_OVERHEAD * 7)
    buffers.take(text(1, 3), 0, 100)
    buffer = buffers.get(name(0))
    assert buffer is not None
    assert (buffer.base_seq, buffer.covers(2), buffer.covers(3)) == (3, False, True)


def test_an_unopened_stream_is_forgotten_without_trace() -> None:
    buffers = Buffers(WIDE)
    buffers.expect(name(1), "demo")
    buffers.forget_unopened(name(1))
    assert (buffers.get(name(1)), buffers.trace(name(1)), buffers.kept) == (None, None, 0)


def test_what_ended_and_was_dropped_is_not_begun_anew_by_a_repeat() -> None:
    buffers = filled(WIDE, streams=1, length=1)
    buffers.take(end(0, 1), 0, 100)
    squeeze(buffers)
    buffers.take(text(1, 0), 0, 100)
    assert buffers.take(text(0, 0), 0, 100) is None
    assert name(0) not in buffers.streams


def test_memory_of_names_is_bounded_and_says_how_far_it_reaches() -> None:
    buffers = Buffers(0, traces=2)
    for number in range(4):
        buffers.take(text(number, 0), 0, 10)
        buffers.take(end(number, 1), 0, 10)
    assert not buffers.remembers(name(1))
    assert buffers.remembers(name(2))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400), st.sampled_from("tttte")), max_size=200))
def test_the_bytes_stay_within_the_limit_and_the_sum_is_right(steps: list[tuple[int, int, str]]) -> None:
    limit = 6000
    buffers = Buffers(limit)
    places: dict[int, int] = {}
    for number, size, kind in steps:
        seq = places.get(number, 0)
        places[number] = seq + 1
        buffers.take(text(number, seq) if kind == "t" else end(number, seq), 0, size)
        assert buffers.kept <= limit
        assert buffers.kept == sum(buffer.kept for buffer in buffers.streams.values())
        for buffer in buffers.streams.values():
            assert seqs(buffer, buffer.base_seq) == list(range(buffer.base_seq, buffer.next_seq))


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(0, 30), st.integers(1, 10), st.integers(1, 300))
def test_pieces_add_up_to_the_whole(sizes: list[int], begin: int, most: int, most_bytes: int) -> None:
    buffer = StreamBuffer(name(1), "demo")
    buffers = Buffers(WIDE)
    for seq, size in enumerate(sizes):
        buffer = buffers.take(text(1, seq), 0, size) or buffer
    place, found = begin, []
    while piece := buffer.since(place, most, most_bytes):
        assert len(piece) <= most
        assert sum(item.size for item in piece[:-1]) < most_bytes
        found += [item.event.seq for item in piece]
        place += len(piece)
    assert found == list(range(begin, len(sizes)))
    assert buffer.waiting(begin) == sum(sizes[begin:])
