"""Answers, what is planted in them, and policies that find it: what the guard's benchmarks scan.

What a reader is to get follows from what was planted, not from what a guard made of it. Words are drawn as in language,
few of them often and many seldom, so that what remembers pieces of text is not flattered.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bench.common import check
from processors.codec import decode
from processors.events import Chunk, Decision, End, Event, Leased, Order, RunEnded, RunStarted, Summary, Target, Tokens
from processors.events.facts import Verdict
from processors.guard.personal import DETECTORS
from processors.identity import partition_of, uuid7
from processors.policy import VersionedPolicy, parse_policy
from processors.times import from_ms

RULES = ("words", "expressions", "personal", "limits")
CASES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    **{part: (part,) for part in (*RULES, "loops", "classifier")},
    "rules": RULES,
    "all": (*RULES, "loops", "classifier"),
}
"""Each part alone, what a policy of rules has, and all of it. `words` are phrases and lemmas."""

_SYLLABLES = {
    "en": "the of and to in is that for it as with his on be at by had not are but from or have an they which one",
    "ru": "и в не на что он как по но из у за от так о же для ты вы мы то бы до при вот под раз ком про дел сто",
}
_PHRASE_STARTS = {"en": ("word", "wording"), "ru": ("слово", "проект", "слова")}
_NUMBERS = ("7", "12", "40", "2.5", "1995", "30 %", "(1)", "3:00")
_BUDGET = "day"
_GRANTED = 10**6


class Planted(NamedTuple):
    """Pieces of text; where the part is on that finds them, `rule` tells of them and `masked` stands in their place."""

    pieces: tuple[str, ...]
    part: str = ""
    rule: str = ""
    masked: str = ""


class Answer(NamedTuple):
    """What a provider says, in order."""

    planted: tuple[Planted, ...]

    @property
    def pieces(self) -> list[str]:
        return [piece for one in self.planted for piece in one.pieces]

    def read(self, parts: tuple[str, ...]) -> str:
        """What a reader gets of it."""
        return "".join(one.masked if one.part in parts else "".join(one.pieces) for one in self.planted)

    def found(self, parts: tuple[str, ...]) -> dict[str, int]:
        """How many verdicts by rule."""
        return Counter(one.rule for one in self.planted if one.part in parts)


def make_policy(parts: tuple[str, ...]) -> VersionedPolicy:
    """Of 2,000 patterns, half of them Russian, those of these parts; the classifier's scores count for nothing."""
    labels = {name: {"above": 1, "action": "stop"} for name in ("harmful", "toxicity")}
    limits: dict[str, object] = {"max_output_tokens": 100_000}
    loops = "stop" if "loops" in parts else "ignore"
    budget = {"id": _BUDGET, "window": "day", "timezone": "UTC", "tokens": 10**12}
    if "limits" in parts:
        limits |= {"max_cost": 1000, "max_seconds": 250}
    return parse_policy(
        {
            "version": 1,
            "providers": {"p": {"base_url": "http://127.0.0.1:1"}},
            "routes": {"m": [{"provider": "p", "model": "m"}]},
            "tenants": {"demo": {}},
            "rules": [rule for part in parts for rule in _rules(part)],
            "limits": limits,
            "prices": {"currency": "RUB", "per_million": {"input": 120, "output": 480, "cached": 60}},
            "budgets": [budget] if "limits" in parts else [],
            "degeneration": dict.fromkeys(("exact", "counting", "run", "drift"), loops),
            "classifier": {"labels": labels if "classifier" in parts else {}},
        }
    )


def phrases() -> list[str]:
    """Of two words each."""
    return [f"слово{n} фраза{n % 7}" for n in range(600)] + [f"word{n} phrase{n % 11}" for n in range(800)]


def lemmas() -> list[str]:
    """Russian ones of two words."""
    return [f"проект{_letters(n)} скрытый" for n in range(400)]


def forms(lemma: str) -> list[list[str]]:
    """A lemma's words, each in its forms."""
    first, second = lemma.split()
    return [
        [first + end for end in ("", "а", "у", "ом", "е")],
        [second[:-2] + end for end in ("ый", "ого", "ому", "ым")],
    ]


def expressions() -> list[str]:
    """Regular expressions."""
    return [rf"\bx{n}-\d{{2,6}}[a-f]+\b" for n in range(200)]


def _rules(part: str) -> list[dict[str, object]]:
    inflected = [forms(lemma) for lemma in lemmas()]
    codes: dict[str, object] = {"id": "codes", "kind": "regex", "patterns": expressions(), "category": "competitors"}
    personal: dict[str, object] = {"id": "personal", "kind": "detector", "detectors": sorted(DETECTORS)}
    rules: dict[str, list[dict[str, object]]] = {
        "words": [
            {"id": "phrases", "kind": "phrase", "phrases": phrases(), "action": "mask", "category": "secrets"},
            {"id": "lemmas", "kind": "lemma", "phrases": lemmas(), "forms": inflected, "action": "flag"},
        ],
        "expressions": [codes | {"action": "mask"}],
        "personal": [personal | {"action": "mask"}],
    }
    return rules.get(part, [])


def answers(seed: int, count: int, chunks: int) -> list[Answer]:
    """So many answers, English and Russian, of about so many chunks."""
    chance = random.Random(seed)
    words = {language: vocabulary(language) for language in _SYLLABLES}
    return [_answer(chance, *words["en" if n % 2 else "ru"], chunks) for n in range(count)]


def _answer(chance: random.Random, words: list[tuple[str, ...]], weights: list[float], chunks: int) -> Answer:
    said = [Planted(pieces) for pieces in chance.choices(words, weights, k=chunks * 4 // 5)]
    hits = _hits(chance)
    for hit, at in zip(hits, sorted(chance.sample(range(1, len(said)), len(hits)), reverse=True), strict=True):
        said.insert(at, hit)
    return Answer((*said, Planted((" end", "."))))


def _hits(chance: random.Random) -> list[Planted]:
    """Last first: the same address twice, a phrase, a code, a lemma."""
    n, lemma = chance.randrange(800), f" проект{_letters(chance.randrange(400))}ом скрытым"
    mail = Planted((f" ann{n}", "@exam", "ple.org"), "personal", "personal", " [EMAIL_1]")
    phrase = Planted((" wor", f"d{n}", " phr", f"ase{n % 11}"), "words", "phrases", " [SECRETS_1]")
    code = Planted((f" x{n % 200}", "-12", "34af"), "expressions", "codes", " [COMPETITORS_1]")
    return [mail, phrase, code, Planted((lemma[:9], lemma[9:]), "words", "lemmas", lemma), mail]


def vocabulary(language: str, size: int = 4000) -> tuple[list[tuple[str, ...]], list[float]]:
    """Words as pieces, the longer ones in two, and how often they come (Zipf, with numbers and stops among them)."""
    chance = random.Random(language)
    syllables = _SYLLABLES[language].split()
    drawn = ("".join(chance.choices(syllables, k=chance.choice((1, 2, 2, 3, 4)))) for _ in range(size))
    words = [*_PHRASE_STARTS[language], *drawn]
    chance.shuffle(words)
    for number, sign in enumerate((*_NUMBERS, ":")):
        words.insert(number * 20, sign)
    words = [".", ",", *words]
    pieces = [(word,) if len(word) == 1 and not word.isalnum() else _pieces(" " + word) for word in words]
    return pieces, [1 / (rank + 3) for rank in range(len(pieces))]


def _pieces(word: str) -> tuple[str, ...]:
    return (word[:5], word[5:]) if len(word) > 8 else (word,)


def _letters(number: int) -> str:
    return "".join("бвгджзклмн"[int(digit)] for digit in f"{number:03}")


def ids(start_ms: int, count: int, partitions: frozenset[int], of: int = 4) -> list[str]:
    """Request ids of these partitions."""
    found: list[str] = []
    seed = 0
    while len(found) < count:
        candidate = uuid7(start_ms, seed.to_bytes(10, "big"))
        seed += 1
        if partition_of(candidate, of) in partitions:
            found.append(candidate)
    return found


def journal(policy: VersionedPolicy, start_ms: int, said: Mapping[str, Answer]) -> list[Event]:
    """Events of requests whose answers run side by side."""
    until, target = from_ms(start_ms + 120_000), Target("p", "m")
    events: list[Event] = []
    for name in said:
        order = Order(target, until, until)
        events.append(Decision(name, "demo", 1, policy.version, "h", order, "m", from_ms(start_ms)))
        events.append(RunStarted(name, "demo", 1, "run-" + name, target))
        if policy.policy.budgets:
            events.append(Leased(name, "demo", {_BUDGET: _GRANTED}))
    pieces = {name: answer.pieces for name, answer in said.items()}
    for n in range(max(map(len, pieces.values()))):
        events += [Chunk(name, "demo", "run-" + name, n, of[n]) for name, of in pieces.items() if n < len(of)]
    events += [RunEnded(name, "demo", 1, "run-" + name, target, len(of), "stop") for name, of in pieces.items()]
    return events


def check_released(said: Mapping[str, Answer], parts: tuple[str, ...], raws: Iterable[bytes]) -> None:
    """Each answer is what a reader is to get, its records numbered without a gap, and ended as completed.

    Raises:
        Wrong: see above.
    """
    came: dict[str, list[Tokens | End]] = {name: [] for name in said}
    for raw in raws:
        event = decode("tokens", raw)
        if isinstance(event, Tokens | End):
            came[event.id].append(event)
    for name, events in came.items():
        check([event.seq for event in events] == [*range(len(events))], f"{name}: records are missing, or come twice")
        text = "".join(event.text for event in events if isinstance(event, Tokens))
        check(text == said[name].read(parts), f"{name}: {text!r} was released of {said[name].read(())!r}")
        check(isinstance(events[-1], End) and events[-1].status == "completed", f"{name}: ended as {events[-1]}")


def check_found(said: Mapping[str, Answer], parts: tuple[str, ...], raws: Iterable[bytes]) -> None:
    """Each finding has its verdict, and each request one summary that counts them.

    Raises:
        Wrong: see above.
    """
    told: dict[str, Counter[str]] = {name: Counter() for name in said}
    summed: dict[str, dict[str, int]] = {}
    for raw in raws:
        event = decode("verdicts", raw)
        if isinstance(event, Verdict):
            told[event.id][event.rule] += 1
        elif isinstance(event, Summary):
            check(event.id not in summed, f"{event.id}: two summaries")
            summed[event.id] = event.rules
            check(bool(event.scores) or "classifier" not in parts, f"{event.id}: nothing was scored; is there a model?")
    for name, answer in said.items():
        wanted = answer.found(parts)
        check(told[name] == wanted == summed.get(name), f"{name}: told {told[name]}, planted {wanted}")
