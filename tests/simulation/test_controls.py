"""Each of these mistakes breaks a promise, and the simulation must see it within so many histories."""

from collections.abc import Callable

import pytest

from processors.dispatch.fold import DispatchFold
from processors.events import RunStarted
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.stream import Stream
from tests.simulation import worker
from tests.simulation.choices import Choices
from tests.simulation.guard import Guard
from tests.simulation.history import Verdict, play, shortest
from tests.simulation.sink import House

Patch = pytest.MonkeyPatch
CRASHES = (5, 12)
"""How often a process dies where it may, for the frequent mistakes and for the rare ones."""


def the_snapshot_does_not_wait_for_what_it_stands_on(patch: Patch) -> None:
    flush = Guard.flush
    patch.setattr(Guard, "flush", lambda self, moment: moment == "guard has written" or flush(self, moment))


def the_offset_is_committed_before_the_snapshot_is_written(patch: Patch) -> None:
    def backwards(self: Guard, keep_open: bool) -> None:
        self.flush("guard has written")
        kept = [fold.to_keep(self.keep_before[number] if keep_open else 0) for number, fold in enumerate(self.folds)]
        for number, fold in enumerate(self.folds):
            fold.kept(kept[number])
            self.committed[number] = max(self.committed[number], fold.floor(self.position[number]))
            self.commit_offset(("journal", number), self.committed[number])
        self.may_crash("guard has committed")
        for number, items in enumerate(kept):
            for item in items:
                self.producer.send("snapshots", item.key, item.value, number)
        self.producer.flush()
        if keep_open:
            self.keep_before = self.position[:]

    patch.setattr(Guard, "commit", backwards)


def a_rebuilt_guard_commits_what_it_has_not_read(patch: Patch) -> None:
    def floor(self: PartitionFold, position: int) -> int:
        return min((stream.needed_from for stream in self._open.values()), default=position)

    patch.setattr(PartitionFold, "floor", floor)


def a_snapshot_is_forgotten_before_the_closed_are_listed(patch: Patch) -> None:
    to_keep = PartitionFold.to_keep
    patch.setattr(
        PartitionFold,
        "to_keep",
        lambda self, before: sorted(to_keep(self, before), key=lambda kept: kept.value is not None),
    )


def the_guard_forgets_closed_requests(patch: Patch) -> None:
    def close(self: PartitionFold, stream: Stream) -> None:
        del self._open[stream.id]
        if stream.kept_to is not None:
            self._forgotten.append(stream.id)

    patch.setattr(PartitionFold, "_close", close)


def a_replaced_guard_is_not_fenced(patch: Patch) -> None:
    def commit_offset(self: Guard, place: tuple[str, int], offset: int, metadata: str = "") -> None:
        if not self.zombie:
            self.log.committed["guard", place] = (offset, metadata)

    patch.setattr(Guard, "commit_offset", commit_offset)


def what_is_held_back_is_released_at_an_end(patch: Patch) -> None:
    end = Stream._end

    def release_first(self: Stream, *args: object, **kwargs: object) -> None:
        self._release.finish(0)
        end(self, *args, **kwargs)  # type: ignore[arg-type]

    patch.setattr(Stream, "_end", release_first)


def the_end_is_written_before_the_stop(patch: Patch) -> None:
    write = Guard.write

    def backwards(self: Guard, outputs: list[Out]) -> None:
        write(self, [out for out in outputs if out.topic != "journal"])
        self.producer.flush()
        write(self, [out for out in outputs if out.topic == "journal"])

    patch.setattr(Guard, "write", backwards)


def dispatch_ignores_the_run_of_another(patch: Patch) -> None:
    run_started = DispatchFold._run_started

    def only_ours(self: DispatchFold, request: object, event: RunStarted) -> list:
        return run_started(self, request, event) if request.mine else []  # type: ignore[arg-type, attr-defined]

    patch.setattr(DispatchFold, "_run_started", only_ours)


def dispatch_keeps_nothing_of_what_it_settled(patch: Patch) -> None:
    patch.setattr(DispatchFold, "settled", lambda self: None)


def a_slow_process_goes_on_with_what_its_successor_ended(patch: Patch) -> None:
    run_ended = DispatchFold._run_ended

    def in_silence(self: DispatchFold, *args: object) -> list:
        run_ended(self, *args)  # type: ignore[arg-type]
        return []

    patch.setattr(DispatchFold, "_run_ended", in_silence)


def clickhouse_takes_an_insert_twice(patch: Patch) -> None:
    patch.setattr(House, "is_known", lambda self, table, token: False)


MISTAKES: dict[Callable[[Patch], None], int] = {
    the_snapshot_does_not_wait_for_what_it_stands_on: 100,
    the_offset_is_committed_before_the_snapshot_is_written: 100,
    the_guard_forgets_closed_requests: 100,
    what_is_held_back_is_released_at_an_end: 100,
    the_end_is_written_before_the_stop: 100,
    dispatch_ignores_the_run_of_another: 100,
    dispatch_keeps_nothing_of_what_it_settled: 100,
    clickhouse_takes_an_insert_twice: 100,
}
RARE: dict[Callable[[Patch], None], int] = {
    a_slow_process_goes_on_with_what_its_successor_ended: 3000,
    a_rebuilt_guard_commits_what_it_has_not_read: 12_000,
    a_snapshot_is_forgotten_before_the_closed_are_listed: 3000,
    a_replaced_guard_is_not_fenced: 3000,
}
"""And within how many histories each is seen, from seed 0 on. The rare ones are looked for with `--full` only."""


def first_broken(within: int) -> tuple[int, Verdict]:
    for seed in range(within):
        verdict = play(Choices(seed))
        if verdict.broken is not None:
            return seed, verdict
    pytest.fail(f"not seen in {within} histories")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", MISTAKES | RARE, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_seen(
    mistake: Callable[[Patch], None], request: pytest.FixtureRequest, monkeypatch: Patch
) -> None:
    if mistake in RARE and not request.config.getoption("--full", default=False):
        pytest.skip("rare: looked for with --full; tests/processors holds the rule")
    monkeypatch.setattr(worker, "CRASH_ONE_IN", CRASHES[mistake in RARE])  # mistakes show in crashes: let there be many
    mistake(monkeypatch)
    seed, verdict = first_broken((MISTAKES | RARE)[mistake])
    print(f"seed {seed}: {verdict.broken}")


def test_a_failing_history_shrinks(monkeypatch: Patch) -> None:
    """To a few steps that still break the same promise, and break none without the mistake."""
    with monkeypatch.context() as patch:
        patch.setattr(worker, "CRASH_ONE_IN", CRASHES[False])
        the_snapshot_does_not_wait_for_what_it_stands_on(patch)
        _, verdict = first_broken(MISTAKES[the_snapshot_does_not_wait_for_what_it_stands_on])
        assert verdict.broken is not None
        steps, broken, told = shortest(verdict.steps, verdict.broken)
        assert broken.promise == verdict.broken.promise
        assert len(steps) <= 15
        assert "crash of guard: guard keeps" in told[-1]
    assert play(Choices(script=steps)).broken is None
