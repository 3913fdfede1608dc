"""What the guard costs a chunk in CPU, against a bare loop that decodes, scans and encodes the same records.

Both scan with the same automaton; without a broker, so the figure is the guard's own. Each part is measured alone, too.
`bench.guard_kafka` is the same on Apache Kafka. With `profile CASE`: where the time of a case goes.
"""

import cProfile
import gc
import pstats
import sys
from collections.abc import Callable
from itertools import islice

from bench.answers import CASES, Answer, answers, check_found, check_released, ids, journal, make_policy
from bench.common import check, interleaved, report
from processors.codec import decode, encode
from processors.events import Chunk, Tokens
from processors.guard.automaton import State
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import VersionedPolicy
from processors.record import Record
from streams.scoring import Scoring
from streams.settings import load_settings

START_MS = 1_795_400_000_000
STREAMS, CHUNKS, BATCH = 200, 100, 500


class Bare:
    """Decode, scan, encode: the least that anything which moderates chunks has to do."""

    def __init__(self, policy: VersionedPolicy) -> None:
        effective = policy.effective("demo")
        assert effective is not None
        self._automaton = CompiledRules(effective).answers["en"].automaton
        self._states: dict[str, State] = {}
        self.found = 0
        """Matches seen, as far as an automaton knows."""

    def forget(self) -> None:
        """Begin with new streams."""
        self._states.clear()
        self.found = 0

    def take(self, raw: bytes) -> tuple[str, bytes] | None:
        """Id and encoded tokens of a chunk; nothing for other records."""
        event = decode("journal", raw)
        if not isinstance(event, Chunk):
            return None
        walk = self._automaton.walk(self._states.get(event.id, self._automaton.start), event.text)
        self._states[event.id] = walk.state
        if walk.ended:
            self.found += 1
        return event.id, encode(Tokens(event.id, event.tenant, event.n, event.text))


class Guard:
    """The guard's fold with what its stage does for it, in batches as they come from a broker."""

    def __init__(self, case: str, said: dict[str, Answer]) -> None:
        self.parts = CASES[case]
        self._said = said
        policy = make_policy(self.parts)
        effective = policy.effective("demo")
        assert effective is not None
        self._lives = effective, CompiledRules(effective)
        self._scoring = Scoring(load_settings().classifier)
        self._records = [encode(event) for event in journal(policy, START_MS, said)]
        self._written: list[tuple[str, bytes]] = []

    def run(self) -> int:
        """Everything once; returns how many chunks that was."""
        fold = PartitionFold(0, 4, lambda version, tenant: self._lives)
        out: list[tuple[str, bytes]] = []
        scored: list[Record] = []
        raws, offset = iter(self._records), 0
        while batch := [*islice(raws, BATCH)]:
            events = [*scored, *(Record(offset + n, START_MS, decode("journal", raw)) for n, raw in enumerate(batch))]
            offset += len(batch)
            out += _encoded(fold.fold(events)[0])
            scored = self._scored(fold, offset)
        out += _encoded(fold.fold(scored)[0])
        self._written = out
        return sum(len(answer.pieces) for answer in self._said.values())

    def check(self) -> None:
        """Raises Wrong where what was written last is not what was planted."""
        check_released(self._said, self.parts, (raw for topic, raw in self._written if topic == "tokens"))
        check_found(self._said, self.parts, (raw for topic, raw in self._written if topic == "verdicts"))

    def _scored(self, fold: PartitionFold, offset: int) -> list[Record]:
        windows = fold.windows[:]
        fold.windows.clear()
        fold.bookings.clear()
        return [Record(offset, START_MS, one) for one in self._scoring.scored(windows)] if windows else []


def _encoded(outputs: list[Out]) -> list[tuple[str, bytes]]:
    return [(item.topic, encode(item.event)) for item in outputs]


def bare_loop(said: dict[str, Answer]) -> Callable[[], int]:
    """The baseline, with the rules and the records of case `rules`."""
    policy = make_policy(CASES["rules"])
    records = [encode(event) for event in journal(policy, START_MS, said)]
    loop = Bare(policy)

    def run() -> int:
        loop.forget()
        taken = [encoded for encoded in map(loop.take, records) if encoded is not None]
        check(loop.found > 0, "the bare loop found nothing")
        return len(taken)

    return run


def profile(case: str, said: dict[str, Answer], lines: int = 25) -> None:
    """Where the time of a case goes."""
    guard, profiler = Guard(case, said), cProfile.Profile()
    guard.run()
    profiler.runcall(guard.run)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(lines)


def main() -> None:
    """`python -m bench.guard [profile CASE]`: measure, and check that each case did what was to be done."""
    said = dict(zip(ids(START_MS, STREAMS, frozenset({0})), answers(1, STREAMS, CHUNKS), strict=True))
    if sys.argv[1:2] == ["profile"]:
        profile(sys.argv[2], said)
        return
    guards = {case: Guard(case, said) for case in CASES}
    bare = "bare decode, scan, encode"
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # as the stage has it
    times = interleaved({bare: bare_loop(said)} | {case: guard.run for case, guard in guards.items()})
    for guard in guards.values():
        guard.check()
    report("guard, CPU a chunk", times, bare)


if __name__ == "__main__":
    main()
