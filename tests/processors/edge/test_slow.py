from hypothesis import given
from hypothesis import strategies as st

from processors.edge.slow import BURST_S, MOST_UNSENT, STALL_S, Pace

TICK = 0.25


def cut_at(samples: list[tuple[int, int, int]]) -> float | None:
    """When a connection of these (sent, unsent, behind) is cut, looked at every TICK."""
    pace = Pace(0.0)
    for number, sample in enumerate(samples, 1):
        if pace.too_slow(number * TICK, *sample):
            return number * TICK
    return None


def test_what_is_sent_at_once_is_never_slow() -> None:
    assert cut_at([(0, 0, 0)] * 400) is None


def test_nothing_leaves_for_ten_seconds() -> None:
    at = cut_at([(0, 1, 0)] * 400)
    assert at is not None
    assert STALL_S <= at <= STALL_S + 2 * TICK


def test_any_progress_counts() -> None:
    assert cut_at([(sent, 1000, 0) for sent in range(400)]) is None


def test_too_much_waits_for_longer_than_a_burst() -> None:
    at = cut_at([(sent, 1000, MOST_UNSENT) for sent in range(400)])
    assert at is not None
    assert BURST_S <= at <= BURST_S + 2 * TICK


def test_a_burst_is_no_slowness() -> None:
    burst = [(sent, 60_000, MOST_UNSENT) for sent in range(int(BURST_S / TICK) - 1)]
    assert cut_at([*burst, (9, 0, 0)] * 20) is None


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, MOST_UNSENT // 2), st.integers(0, MOST_UNSENT // 2))))
def test_a_reader_that_moves_within_the_bound_is_kept(samples: list[tuple[int, int, int]]) -> None:
    total, moved = 0, []
    for step, unsent, behind in samples:
        total += step
        moved.append((total, unsent, behind))
    assert cut_at(moved) is None
