"""Whatever the log repeats and wherever a reader begins, it is given each record once, in order, without a hole."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.edge.reader import Gap, Reader, Released, Step
from processors.events import End, Opened, Tokens

ID = "0192d2c0-0000-7000-8000-000000000001"


def stream(length: int) -> list[Released]:
    """A stream of so many records, the end included."""
    return [Tokens(ID, "demo", seq, f"t{seq}") for seq in range(length - 1)] + [
        End(ID, "demo", length - 1, "completed", "stop")
    ]


@st.composite
def logs(draw: st.DrawFn) -> tuple[int, list[Opened | Released]]:
    """A log of one stream as a guard that crashes and begins again at earlier places would write it."""
    length = draw(st.integers(1, 12))
    crashes = draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4))
    records: list[Opened | Released] = []
    reached = 0
    for begin, stop in [*crashes, (draw(st.integers(0, 12)), length)]:
        first = min(begin, reached)
        records += [Opened(ID, "demo")] * (first == 0) + stream(length)[first:stop]
        reached = max(reached, min(stop, length))
    return length, records


def read(reader: Reader, records: Sequence[Opened | Released]) -> list[Released | Gap]:
    out: list[Released | Gap] = []
    for record in records:
        step = reader.take(record)
        if step is Step.HOLE:
            assert not isinstance(record, Opened)
            out.append(reader.reopen(record.seq))
            step = reader.take(record)
        if step is Step.DELIVER:
            assert not isinstance(record, Opened)
            out.append(record)
    return out


@given(logs(), st.data())
def test_repeats_are_dropped(log: tuple[int, list[Opened | Released]], data: st.DataObject) -> None:
    length, records = log
    begin = data.draw(st.integers(0, length - 1))
    reader = Reader(ID, "demo", begin)
    assert read(reader, records) == stream(length)[begin:]
    assert reader.ended


@given(logs(), st.data())
def test_a_reader_can_be_resumed_anywhere(log: tuple[int, list[Opened | Released]], data: st.DataObject) -> None:
    """By the cursor of what it saw last: the record after that offset, wherever in the repeats it lies."""
    length, records = log
    cut = data.draw(st.integers(0, len(records)))
    first = Reader(ID, "demo")
    before = read(first, records[:cut])
    resumed = Reader(ID, "demo", first.next_seq)
    assert before + read(resumed, records[cut:]) == stream(length)


@given(logs(), st.data())
def test_a_hole_is_never_silent(log: tuple[int, list[Opened | Released]], data: st.DataObject) -> None:
    """The log has lost its beginning: what is missing is told before what follows."""
    _, records = log
    begin = data.draw(st.integers(0, len(records)))
    seen = -1
    for item in read(Reader(ID, "demo"), records[begin:]):
        if isinstance(item, Gap):
            assert item.oldest_seq > seen + 1
            seen = item.oldest_seq - 1
        else:
            assert item.seq == seen + 1
            seen = item.seq


@given(logs())
def test_other_requests_and_tenants_are_not_taken(log: tuple[int, list[Opened | Released]]) -> None:
    _, records = log
    for reader in (Reader("other", "demo"), Reader(ID, "other")):
        assert read(reader, records) == []
        assert not reader.known


def test_a_hole_does_not_move_the_reader() -> None:
    reader = Reader(ID, "demo", 2)
    late = Tokens(ID, "demo", 5, "x")
    assert [reader.take(late), reader.take(late)] == [Step.HOLE, Step.HOLE]
    assert reader.next_seq == 2


def test_an_end_before_the_place_says_that_nothing_will_come() -> None:
    reader = Reader(ID, "demo", 9)
    assert reader.take(End(ID, "demo", 4, "completed", "stop")) is Step.SKIP
    assert reader.ended


def test_only_a_real_gap_is_reopened() -> None:
    with pytest.raises(ValueError, match="no gap"):
        Reader(ID, "demo", 3).reopen(3)
