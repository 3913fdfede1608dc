"""Who is passed over: each record that kills, and no other unless it was alone under the mark at two deaths."""

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.poison import REMEMBERED, Fate, Piece, Span, Suspects, cut, died, survived, touches

Died = Callable[[Suspects, Span], Suspects]
AT_MS = 1_795_400_000_000


def span(first: int, end: int, partition: int = 0) -> Span:
    return Span("journal", partition, first, end, AT_MS + first)


def places(first: int, end: int) -> list[tuple[int, int]]:
    return [(offset, AT_MS + offset) for offset in range(first, end)]


class Reader:
    """Reads a log from its beginning in every life, as a stage does whose oldest request is open."""

    def __init__(self, log: int, killers: dict[int, int], batch: int, kills: list[int], died: Died = died) -> None:
        """`killers`: offset → the highest fate that it kills (0 taking, 1 also ending). `kills`: pieces until the next
        kill from outside."""
        self.log, self.killers, self.batch, self.kills, self.died = log, killers, batch, kills, died
        self.suspects = Suspects()
        self.deaths_alone: Counter[int] = Counter()
        self.deaths = 0
        self.left: Span | None = None

    def read(self) -> dict[int, Fate]:
        """What became of each record in the life that came to the end."""
        while True:
            fates: dict[int, Fate] = {}
            if all(self._take(first, fates) for first in range(0, self.log, self.batch)):
                return fates
            assert self.left is not None
            self.deaths += 1
            if self.left.alone:
                self.deaths_alone[self.left.first] += 1
            self.suspects = msgspec.json.decode(msgspec.json.encode(self.died(self.suspects, self.left)), type=Suspects)

    def _take(self, first: int, fates: dict[int, Fate]) -> bool:
        whole = span(first, min(first + self.batch, self.log))
        if not touches(self.suspects, whole):
            pieces = [Piece(0, whole.end - first, Fate.TAKE)]
        else:
            pieces = cut(self.suspects, whole, places(first, whole.end))
        for start, stop, fate in pieces:
            self.left = span(first + start, first + stop)
            if self._killed(fate):
                return False
            fates |= dict.fromkeys(range(first + start, first + stop), fate)
        self.suspects = survived(self.suspects, whole)
        return True

    def _killed(self, fate: Fate) -> bool:
        assert self.left is not None
        reach = [Fate.TAKE, Fate.END, Fate.BURY].index(fate)
        if any(reach <= self.killers.get(offset, -1) for offset in range(self.left.first, self.left.end)):
            return True
        if self.kills:
            self.kills[0] -= 1
            if self.kills[0] < 0:
                self.kills.pop(0)
                return True
        return False


def check(reader: Reader) -> None:
    """Every killer is passed over, and nobody else who was not alone at two deaths."""
    kills = len(reader.kills)
    fates = reader.read()
    assert sorted(fates) == list(range(reader.log))
    passed = {offset for offset, fate in fates.items() if fate is not Fate.TAKE}
    assert passed <= {offset for offset, deaths in reader.deaths_alone.items() if deaths >= 2}
    assert passed >= set(reader.killers)
    if kills < 2:
        assert passed == set(reader.killers)
    assert reader.deaths <= 4 * len(reader.killers) + kills
    for offset, reach in reader.killers.items():
        assert kills or fates[offset] is (Fate.END, Fate.BURY)[reach]


@given(
    log=st.integers(1, 40),
    killers=st.dictionaries(st.integers(0, 39), st.integers(0, 1), max_size=4),
    batch=st.integers(1, 20),
    kills=st.lists(st.integers(0, 30), max_size=6),
)
def test_who_kills_is_passed_over_and_who_does_not_is_not(
    log: int, killers: dict[int, int], batch: int, kills: list[int]
) -> None:
    check(Reader(log, {offset: reach for offset, reach in killers.items() if offset < log}, batch, kills))


def test_the_check_finds_one_who_is_passed_over_without_having_been_alone() -> None:
    """The control: deaths in a whole batch counted against its first record."""

    def hasty(suspects: Suspects, mark: Span) -> Suspects:
        first = Span(mark.topic, mark.partition, mark.first, mark.first + 1, mark.at_ms)
        return died(suspects, first)

    with pytest.raises(AssertionError):
        check(Reader(10, {}, 5, [0, 0], hasty))


def test_one_strike_is_forgiven_to_who_is_then_taken() -> None:
    suspects = survived(died(Suspects(), span(7, 8)), span(5, 9))
    assert suspects == Suspects()


def test_another_log_at_the_same_offset_is_not_meant() -> None:
    """Topics made anew count from 0 again."""
    suspects = died(died(Suspects(), span(7, 8)), span(7, 8))
    assert [piece.fate for piece in cut(suspects, span(7, 8), [(7, AT_MS + 7)])] == [Fate.END]
    assert [piece.fate for piece in cut(suspects, span(7, 8), [(7, AT_MS + 99)])] == [Fate.TAKE]


def test_others_are_not_touched() -> None:
    suspects = died(Suspects(), span(10, 20))
    assert not touches(suspects, span(0, 10))
    assert touches(suspects, span(19, 30))
    assert not touches(suspects, span(10, 20, partition=1))


def test_a_span_that_was_never_read_again_is_forgotten() -> None:
    suspects = died(Suspects(), span(10, 20))
    assert touches(suspects, span(20, 21))
    assert not survived(suspects, span(20, 21))


def test_the_newest_are_remembered() -> None:
    suspects = Suspects()
    for offset in range(REMEMBERED + 1):
        suspects = died(suspects, span(offset, offset + 1))
    assert len(suspects.strikes) == REMEMBERED
    assert suspects.strikes[-1] == (span(REMEMBERED, REMEMBERED + 1), 1)
