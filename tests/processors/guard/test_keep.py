"""What the guard keeps: a rebuild from it releases the same, and nothing that stands there does harm."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.codec import encode
from processors.events import Decision, Event
from processors.guard.fold import PartitionFold
from processors.guard.keep import CLOSED, OPEN, REST
from processors.record import Record
from tests.faults.fuzz import Fuzzer
from tests.processors.guard.test_fold import ELSEWHERE, POLICY, A, B, C, journals, new_fold, outcome_of
from tests.samples import START_MS, cancel, decision, records, run


def test_the_floor_follows_the_oldest_open_request() -> None:
    subject = new_fold()
    all_records = records([decision(A), *run(A, ["x"]), decision(B), decision(C), *run(C, ["y"], "run-c")])
    subject.fold(all_records)
    assert subject.floor(9) == 4
    Log().commit(subject, before=5, position=9)
    assert subject.floor(9) == 5
    assert isinstance(all_records[4].event, Decision)
    assert subject.open_streams == 1


def test_a_rebuild_commits_nothing_that_it_has_not_read() -> None:
    """A is kept up to offset 3, and a rebuild begins at 1, where B stands: A's snapshot says nothing of B."""
    subject, log = new_fold(), Log()
    started, chunk, _ = run(A, ["x"])
    subject.fold(records([decision(A), decision(B), started, chunk]))
    assert log.commit(subject, before=1, position=4) == 1
    assert log.restored().floor(1) == 1


@pytest.mark.parametrize("wrong", ["x", A.upper(), ELSEWHERE])
def test_what_is_kept_of_an_id_that_cannot_be_here_is_refused(wrong: str) -> None:
    """Else each successor would meet it again, at its first tick."""
    kept = one_of_each()
    assert kept.keys() == {CLOSED + "4", REST, OPEN + A}
    for key, value in kept.items():
        fresh = new_fold()
        fresh.restore(key, value)  # the control
        fresh.tick(START_MS)
        with pytest.raises(ValueError, match=re.escape(repr(wrong))):
            new_fold().restore(key, value.replace(A.encode(), wrong.encode()).replace(B.encode(), wrong.encode()))


def one_of_each() -> dict[str, bytes]:
    """What is kept of a request while it is open and once it is closed, and of a cancel before its decision."""
    subject, (started, chunk, ended) = new_fold(), run(A, ["x"])
    subject.fold(records([decision(A), started, chunk, cancel(B)]))
    kept = subject.to_keep(9)
    subject.fold(records([ended], first_offset=4))
    return {item.key: item.value for item in kept + subject.to_keep(0) if item.value is not None}


def harmed(seed: int, count: int) -> list[bytes]:
    """Mutated snapshots that a fold takes and then cannot go on with."""
    fuzzer, chance, found = Fuzzer(seed, POLICY.version, lambda: START_MS), random.Random(seed), []
    kept = list(one_of_each().items())
    for _ in range(count):
        key, whole = chance.choice(kept)
        value, subject = fuzzer.broken(whole) or b"", new_fold()
        try:
            subject.restore(key, value)
        except Exception:  # refused, which is right
            continue
        try:
            subject.tick(START_MS + 1e7)
            subject.fold(records([*run(A, ["x"]), cancel(A), decision(A), decision(B)], first_offset=5))
            subject.tick(START_MS + 1e8)
            subject.to_keep(9)
        except Exception:
            found.append(value)
    return found


def test_no_snapshot_that_is_taken_does_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert harmed(7, 2000) == []
    monkeypatch.setattr(PartitionFold, "_expect", lambda *_: None)
    assert harmed(7, 2000), "the control"


def test_the_list_of_closed_requests_is_written_before_their_snapshots_are_forgotten() -> None:
    """A crash may come between any two of these records, and a request known to neither would begin anew."""
    subject = new_fold()
    started, chunk, ended = run(A, ["x"])
    all_records = records([decision(A), started, chunk, ended])
    subject.fold(all_records[:3])
    Log().commit(subject, before=3, position=3)
    subject.fold(all_records[3:])
    kept = [(item.key, item.value is None) for item in subject.to_keep(0)]
    assert kept == [("guard/closed/3", False), (f"guard/open/{A}", True)]


class Log:
    """The snapshots topic: the newest value of each key."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def commit(self, subject: PartitionFold, before: int, position: int) -> int:
        """What the stage does: keep, then commit the floor; returns it."""
        written = subject.to_keep(before)
        for item in written:
            if item.value is None:
                self.values.pop(item.key, None)
            else:
                self.values[item.key] = item.value
        subject.kept(written)
        return subject.floor(position)

    def restored(self) -> PartitionFold:
        subject = new_fold()
        for key, value in self.values.items():
            subject.restore(key, value)
        return subject


@given(journals(), st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40), st.booleans()), max_size=6))
def test_killed_and_rebuilt_at_any_points_it_releases_the_same(
    events: list[Event], steps: list[tuple[int, int, bool]]
) -> None:
    """Each step folds some records, keeps those open since before some offset and commits; some steps are kills."""
    all_records = records(events)
    log, subject, written = Log(), new_fold(), []
    position = committed = 0
    for count, before, killed in steps:
        written += subject.fold(all_records[position : position + count])[0]
        position = min(position + count, len(all_records))
        if killed:
            subject, position = log.restored(), committed
        else:
            committed = log.commit(subject, before, position)
    written += subject.fold(all_records[position:])[0]
    straight = outcome_of(new_fold().fold(all_records)[0])
    once = {name: {encode(event): event for event in seen} for name, seen in outcome_of(written).items()}
    found = {name: list(seen.values()) for name, seen in once.items()}
    assert found.keys() == straight.keys()
    for name, expected in straight.items():
        if name[0] == "answers":  # a restored request's answer is not for the cache, so it may be written both ways
            assert {event.id for event in found[name]} == {event.id for event in expected}
        else:
            assert found[name] == expected


def test_control_without_what_was_kept_a_rebuild_would_begin_a_closed_request_anew() -> None:
    subject, log = new_fold(), Log()
    subject.fold(records([decision(A), *run(A, ["x"])]))
    assert log.commit(subject, 0, 4) == 4
    again = [Record(4, START_MS + 50, decision(A))]
    assert log.restored().fold(again)[0] == []
    assert new_fold().fold(again)[0] != []
