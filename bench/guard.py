"""What the guard costs a chunk in CPU, against a bare loop that decodes, scans and encodes the same records.

Both scan with the same phrases and give back the same text; without a broker, so the figure is the guard's own.
"""

import random
import sys

from bench.common import interleaved, report
from processors.codec import decode, encode
from processors.events import Chunk, Decision, Event, Order, RunEnded, RunStarted, Target, Tokens
from processors.guard.automaton import State
from processors.guard.fold import PartitionFold
from processors.guard.rules import CompiledRules
from processors.identity import partition_of, uuid7
from processors.policy import VersionedPolicy, parse_policy
from processors.record import Record
from processors.times import from_ms

START_MS = 1_795_400_000_000
STREAMS, CHUNKS = 200, 100
WORDS = [
    *("the", "river", "keeps", "its", "own", "time", "and", "every", "boat", "that", "passes", "learns", "it"),
    *("слово", "дело", "работа", "проект", "система", "ответ", "запрос", "сервер", "поток", "модель", "журнал"),
]
"""Some begin a phrase, so that text is held back as in earnest."""


def make_policy() -> VersionedPolicy:
    """2,000 phrases, half of them Russian."""
    phrases = [f"слово{n} фраза{n % 7}" for n in range(1000)] + [f"word{n} phrase{n % 11}" for n in range(1000)]
    return parse_policy(
        {
            "version": 1,
            "providers": {"p": {"base_url": "http://127.0.0.1:1"}},
            "routes": {"m": [{"provider": "p", "model": "m"}]},
            "tenants": {"demo": {}},
            "rules": [{"id": "r", "kind": "phrase", "phrases": phrases, "action": "stop"}],
        }
    )


def journal(version: str, start_ms: int, streams: int, chunks: int, partitions: frozenset[int]) -> list[Event]:
    """Events of streams of these partitions that run side by side."""
    chance = random.Random(start_ms)
    ids: list[str] = []
    seed = 0
    while len(ids) < streams:
        candidate = uuid7(start_ms, seed.to_bytes(10, "big"))
        seed += 1
        if partition_of(candidate, 4) in partitions:
            ids.append(candidate)
    until = from_ms(start_ms + 120_000)
    target = Target("p", "m")
    opening: list[Event] = []
    for name in ids:
        order = Order(target, until, until)
        opening.append(Decision(name, "demo", 1, version, "h", order, "m", from_ms(start_ms)))
        opening.append(RunStarted(name, "demo", 1, "run-" + name, target))
    said = [Chunk(name, "demo", "run-" + name, n, " " + chance.choice(WORDS)) for n in range(chunks) for name in ids]
    closing = [RunEnded(name, "demo", 1, "run-" + name, target, chunks, "stop") for name in ids]
    return [*opening, *said, *closing]


class Bare:
    """Decode, scan, encode: the least that anything which moderates chunks has to do."""

    def __init__(self, policy: VersionedPolicy) -> None:
        effective = policy.effective("demo")
        assert effective is not None
        self._automaton = CompiledRules(effective).answer.automaton
        self._states: dict[str, State] = {}

    def forget(self) -> None:
        """Begin with new streams."""
        self._states.clear()

    def take(self, raw: bytes) -> tuple[str, bytes] | None:
        """Id and encoded tokens of a chunk; nothing for other records."""
        event = decode("journal", raw)
        if not isinstance(event, Chunk):
            return None
        state = self._states.get(event.id, self._automaton.start)
        self._states[event.id] = self._automaton.walk(state, event.text).state
        return event.id, encode(Tokens(event.id, event.tenant, event.n, event.text))


def main() -> None:
    """Measure, and check that both release the same text."""
    policy = make_policy()
    effective = policy.effective("demo")
    assert effective is not None
    compiled = CompiledRules(effective)
    records = [encode(event) for event in journal(policy.version, START_MS, STREAMS, CHUNKS, frozenset({0}))]
    written: dict[str, list[bytes]] = {}

    loop = Bare(policy)

    def bare() -> int:
        loop.forget()
        written["bare"] = [taken[1] for taken in map(loop.take, records) if taken is not None]
        return STREAMS * CHUNKS

    def guard() -> int:
        fold = PartitionFold(0, 4, lambda version, tenant: (effective, compiled))
        out = []
        for start in range(0, len(records), 500):
            batch = records[start : start + 500]
            events = [Record(start + n, START_MS, decode("journal", raw)) for n, raw in enumerate(batch)]
            out += [encode(item.event) for item in fold.fold(events)[0] if item.topic == "tokens"]
        written["guard"] = out
        return STREAMS * CHUNKS

    times = interleaved({"bare decode, scan, encode": bare, "guard": guard})
    if texts(written["bare"]) != texts(written["guard"]):
        sys.exit("the guard released another text than came")
    report("guard, CPU a chunk", times, "bare decode, scan, encode")


def texts(records: list[bytes]) -> dict[str, str]:
    """The text of each stream."""
    found: dict[str, str] = {}
    for raw in records:
        event = decode("tokens", raw)
        if isinstance(event, Tokens):
            found[event.id] = found.get(event.id, "") + event.text
    return found


if __name__ == "__main__":
    main()
