"""What the guard keeps for each open stream: one partition's fold with the starter policy, no broker, one process.

`bench.memory` weighs the whole process; this one says what a stream's part of it is, of what it consists, and whether
it grows while streams go on to 10,000 characters, come and go. Nothing is kept for the cache: no request has a cache
key. Half of the answers are Russian; a tenth of their words are numbers.
"""

import gc
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import msgspec

from bench.answers import vocabulary
from bench.common import check, say
from bench.guard import START_MS
from connectors.policy_file import load_policy
from processors.events import Chunk, Decision, Event, Order, RunEnded, RunStarted, Scored, Target, TimedOut
from processors.guard.fold import PartitionFold
from processors.guard.release import NO_REACTION
from processors.guard.rules import CompiledRules
from processors.identity import partition_of, uuid7
from processors.policy import ClassifierRules, Effective, LabelRule
from processors.record import Record
from processors.times import from_ms

STREAMS, CHUNKS, EVERY, WORDS = 10_000, 180, 30, 8
"""A chunk has so many words, some 58 characters: what is kept does not depend on how a text is cut."""
GROWTH = 1.1
"""What memory may grow by over the second half of the streams."""
POLICY = Path(__file__).parents[1] / "rules" / "starter.yaml"
TARGET = Target("simulated", "story")
PAGE_KB = 4
_NOT_OURS = (type, ModuleType, FunctionType, msgspec.Raw)


class Guard:
    """A fold, and the streams open in it."""

    def __init__(self, effective: Effective, compiled: CompiledRules) -> None:
        self.fold = PartitionFold(0, 4, lambda version, tenant: (effective, compiled))
        self._version = effective.version
        self._chance = random.Random(1)
        self._said = [drawn(self._chance, language) for language in ("en", "ru")]
        self._offset = self._seed = 0
        self._next: dict[str, int] = {}
        self.now_ms = START_MS

    def open(self, count: int) -> None:
        """Begin streams, each from bytes of its own, as records come from the broker."""
        for _ in range(count):
            name = self._name()
            until = from_ms(self.now_ms + 120_000)
            order = Order(TARGET, until, until)
            decision = Decision(name, "demo", 1, self._version, "h" * 32, order, "assistant", from_ms(self.now_ms))
            self._take(decision, RunStarted(name, "demo", 1, f"run-{name}", TARGET))
            self._next[name] = 0

    def say(self, chunks: int) -> None:
        """Each open stream goes on, in turn."""
        for _ in range(chunks):
            for name, n in self._next.items():
                self._take(
                    Chunk(name, "demo", f"run-{name}", n, self._chance.choice(self._said[int(name[-1], 16) % 2]))
                )
                self._next[name] = n + 1
            self.now_ms += 20
            self._score()

    def end(self, count: int) -> None:
        """The oldest end."""
        for name in [*self._next][:count]:
            chunks = self._next.pop(name)
            self._take(RunEnded(name, "demo", 1, f"run-{name}", TARGET, chunks, "stop"))
            self._score()
        self.fold.kept(self.fold.to_keep(0))

    def tick(self) -> int:
        """The clock's questions, read back; returns how many streams they closed."""
        before = self.fold.open_streams
        for item in self.fold.tick(self.now_ms):
            check(isinstance(item.event, TimedOut), f"asked {item.event}")
            self._take(item.event)
        for name, chunks in self._next.items():
            self._take(RunEnded(name, "demo", 1, f"run-{name}", TARGET, chunks, "stop"))
        return before - self.fold.open_streams

    def _score(self) -> None:
        """A classifier's answers to what it was asked."""
        while self.fold.windows:
            asked = self.fold.windows.pop()
            self._take(Scored(asked.id, "demo", asked.run, asked.at, {"harmful": 0.1}, "m"))

    def _take(self, *events: Event) -> None:
        for event in events:
            read = msgspec.json.decode(msgspec.json.encode(event), type=type(event))
            self.fold.fold([Record(self._offset, self.now_ms, read)])
            self._offset += 1

    def _name(self) -> str:
        while True:
            name = uuid7(START_MS, self._seed.to_bytes(10, "big"))
            self._seed += 1
            if partition_of(name, 4) == 0:
                return name


def drawn(chance: random.Random, language: str, count: int = 4000) -> list[str]:
    """Chunks of some words each, most of them with a number."""
    words, weights = vocabulary(language)
    said = chance.choices(["".join(word) for word in words], weights, k=count * WORDS)
    lines = ["".join(said[at : at + WORDS]) for at in range(0, len(said), WORDS)]
    return [f"{line} {chance.randint(0, 9999)}" if chance.random() < 0.8 else line for line in lines]


def resident_kb() -> float:
    """Resident memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KB


def characters(guard: Guard) -> int:
    """Of an open stream, on average."""
    seen = [stream._release.seen_chars for stream in guard.fold._open.values()]
    return round(sum(seen) / len(seen))


def parts(guard: Guard, shared: list[object], sample: int = 200) -> Counter[str]:
    """Bytes of a stream by the class that holds them: what can be reached from it and not from what all share."""
    seen = {id(one) for root in shared for one in reached(root, set())}
    bytes_by_owner: Counter[str] = Counter()
    streams = list(guard.fold._open.values())[:sample]
    for stream in streams:
        for owner, one in owned(stream, seen, "Stream"):
            bytes_by_owner[owner] += sys.getsizeof(one)
    return Counter({owner: round(size / len(streams)) for owner, size in bytes_by_owner.items()})


def owned(root: object, seen: set[int], owner: str) -> Iterator[tuple[str, object]]:
    """Objects under a root, each once, with the class of the project that holds it."""
    if id(root) in seen or isinstance(root, _NOT_OURS):
        return
    seen.add(id(root))
    kind = type(root)
    owner = kind.__name__ if kind.__module__.startswith("processors") else owner
    yield owner, root
    for one in gc.get_referents(root):
        yield from owned(one, seen, owner)


def reached(root: object, seen: set[int]) -> Iterator[object]:
    """Everything under a root."""
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _NOT_OURS):
            continue
        seen.add(id(one))
        yield one
        waiting += gc.get_referents(one)


def measure(case: str, effective: Effective, streams: int) -> None:
    """One set of rules: a stream's memory as it goes on, as others come and go, and when all fall silent."""
    compiled = CompiledRules(effective)
    warm = Guard(effective, compiled)
    warm.open(50)
    warm.say(CHUNKS)
    guard = Guard(effective, compiled)
    before = resident_kb()
    guard.open(streams)
    per_stream = [(resident_kb() - before) / streams]
    for _ in range(CHUNKS // EVERY):
        guard.say(EVERY)
        per_stream.append((resident_kb() - before) / streams)
    flat = per_stream[-1] <= GROWTH * per_stream[len(per_stream) // 2]
    by_chunks = [round(kb, 2) for kb in per_stream]
    say(
        "guard, memory a stream",
        case,
        "KB",
        [per_stream[-1]],
        characters=characters(guard),
        by_chunks=by_chunks,
        flat=flat,
    )
    waves = []
    for _ in range(3):
        guard.end(streams // 4)
        guard.open(streams // 4)
        guard.say(EVERY // 2)
        waves.append(round((resident_kb() - before) / streams, 2))
    check(guard.fold.open_streams == streams, f"{guard.fold.open_streams} streams are open")
    say("guard, as streams come and go", case, "KB", [waves[-1]], by_wave=waves)
    stopped = sum(stream.closed for stream in guard.fold._open.values())
    check(not stopped, f"{stopped} streams were stopped: they hold no text any more")
    by_part = parts(guard, [effective, compiled, guard.fold._out, guard.fold._effective])
    say("guard, objects of a stream", case, "KB", [by_part.total() / 1024], bytes=dict(by_part.most_common(12)))
    guard.now_ms += 61_000
    closed = guard.tick()
    say("guard, silent streams closed", case, "", [closed], of=streams)
    check(closed == streams, f"{streams - closed} silent streams stay open")


def main() -> None:
    """`python -m bench.guard_memory [STREAMS]`."""
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else STREAMS
    found = load_policy(POLICY).effective("demo")
    assert found is not None
    found = msgspec.structs.replace(found, limits=msgspec.structs.replace(found.limits, max_output_tokens=100_000))
    plain = msgspec.structs.replace(found, degeneration=NO_REACTION, classifier=ClassifierRules())
    loops = msgspec.structs.replace(found, classifier=ClassifierRules())
    labels = found.classifier.labels or {"harmful": LabelRule(above=0.9)}
    found = msgspec.structs.replace(found, classifier=msgspec.structs.replace(found.classifier, labels=labels))
    scored = msgspec.structs.replace(found, degeneration=NO_REACTION)
    cases = {"rules": plain, "rules, degeneration": loops, "rules, classifier": scored, "all": found}
    for case, effective in cases.items():
        child = os.fork()  # memory that one case gave back would be taken by the next
        if child == 0:
            measure(case, effective, streams)
            os._exit(0)
        check(os.waitpid(child, 0)[1] == 0, case)


if __name__ == "__main__":
    main()
