"""What the guard costs a chunk in CPU, against a bare loop that decodes, scans and encodes the same records.

Both scan with the same automaton and give back the same text; without a broker, so the figure is the guard's own.
`rules` are 2,000 phrases, lemmas and expressions with every detector of personal data, and limits of tokens, cost and
seconds; `loops` adds what watches for degeneration, `classifier` the built-in model, scored as in the stage.
"""

import random
import re
import sys
from collections.abc import Callable

from bench.common import interleaved, report
from connectors.simulated.texts import STORY, STORY_RU
from processors.codec import decode, encode
from processors.events import Chunk, Decision, Event, Order, RunEnded, RunStarted, Target, Tokens
from processors.guard.automaton import State
from processors.guard.fold import PartitionFold
from processors.guard.personal import DETECTORS
from processors.guard.rules import CompiledRules
from processors.identity import partition_of, uuid7
from processors.policy import VersionedPolicy, parse_policy
from processors.record import Record
from processors.times import from_ms
from streams.scoring import Scoring

START_MS = 1_795_400_000_000
STREAMS, CHUNKS = 200, 100
WORDS = [
    *("the", "river", "keeps", "its", "own", "time", "and", "every", "boat", "that", "passes", "learns", "it"),
    *re.findall(r"\w+[.,]?", STORY + STORY_RU),
    *("слово", "дело", "работа", "проект", "система", "ответ", "запрос", "сервер", "поток", "модель", "журнал"),
]
"""Some begin a phrase, so that text is held back as in earnest."""


PARTS = ("rules", "loops", "classifier")
"""What is measured, each with all before it."""


def make_policy(upto: str) -> VersionedPolicy:
    """2,000 patterns, half of them Russian, and the parts up to this one. Nothing in the texts is found."""
    phrases = [f"слово{n} фраза{n % 7}" for n in range(600)] + [f"word{n} phrase{n % 11}" for n in range(800)]
    lemmas = [f"проект{n} скрытый" for n in range(400)]
    forms = [[[word + end for end in ("", "а", "у", "ом", "е")] for word in lemma.split()] for lemma in lemmas]
    loops = "stop" if upto != "rules" else "ignore"
    labels = {name: {"above": 1, "action": "stop"} for name in ("harmful", "toxicity")} if upto == "classifier" else {}
    return parse_policy(
        {
            "version": 1,
            "providers": {"p": {"base_url": "http://127.0.0.1:1"}},
            "routes": {"m": [{"provider": "p", "model": "m"}]},
            "tenants": {"demo": {}},
            "rules": [
                {"id": "phrases", "kind": "phrase", "phrases": phrases, "action": "stop"},
                {"id": "lemmas", "kind": "lemma", "phrases": lemmas, "forms": forms, "action": "stop"},
                {"id": "codes", "kind": "regex", "patterns": [rf"\bx{n}-\d{{2,6}}[a-f]+\b" for n in range(200)]},
                {"id": "personal", "kind": "detector", "detectors": sorted(DETECTORS), "action": "mask"},
            ],
            "limits": {"max_output_tokens": 100_000, "max_cost": 1000, "max_seconds": 250},
            "degeneration": dict.fromkeys(("exact", "counting", "run", "drift"), loops),
            "classifier": {"labels": labels},
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
        self._automaton = CompiledRules(effective).answers["en"].automaton
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
    """Measure, and check that all release the same text."""
    policies = {part: make_policy(part) for part in PARTS}
    version = policies["rules"].version
    records = [encode(event) for event in journal(version, START_MS, STREAMS, CHUNKS, frozenset({0}))]
    written: dict[str, list[bytes]] = {}
    loop = Bare(policies["rules"])
    scoring = Scoring(None)

    def bare() -> int:
        loop.forget()
        written["bare"] = [taken[1] for taken in map(loop.take, records) if taken is not None]
        return STREAMS * CHUNKS

    def guard(part: str) -> Callable[[], int]:
        effective = policies[part].effective("demo")
        assert effective is not None
        lives = effective, CompiledRules(effective)

        def run() -> int:
            fold = PartitionFold(0, 4, lambda version, tenant: lives)
            out: list[bytes] = []
            scored: list[Record] = []
            for start in range(0, len(records), 500):
                batch = records[start : start + 500]
                events = scored + [Record(start + n, START_MS, decode("journal", raw)) for n, raw in enumerate(batch)]
                out += [encode(item.event) for item in fold.fold(events)[0] if item.topic == "tokens"]
                scored = [Record(start, START_MS, one) for one in scoring.scored(fold.windows)] if fold.windows else []
                fold.windows.clear()
            fold.fold(scored)
            written[part] = out
            return STREAMS * CHUNKS

        return run

    times = interleaved({"bare decode, scan, encode": bare} | {part: guard(part) for part in PARTS})
    for part in PARTS:
        if texts(written["bare"]) != texts(written[part]):
            sys.exit(f"the guard with {part} released another text than came")
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
