"""How much planted personal data is masked, and how little else, by the guard as it runs: streamed in random pieces.

At least 99 % of each kind in Russian and in English sentences, and wrapped as answers wrap values (Markdown, JSON,
quotes, brackets); at most 1 % of look-alikes. `test_personal.py` judges single decisions.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from processors.guard.personal import DETECTORS
from processors.guard.rules import RuleSet
from processors.guard.text import Found, GuardedText, Placeholders
from processors.rule import Rule
from tests.processors.guard.carriers import CARRIERS, LABELS, WRAPPERS
from tests.processors.guard.disguises import DATA_DISGUISES
from tests.processors.guard.planted import FINDS, INNOCENT, MAKERS, Planted, Rng, innocent, planted

COUNT = 100
MANY = 400
"""Of look-alikes, as one of a few kinds is wrong once in 200."""


@cache
def rules(without: str = "") -> RuleSet:
    """All detectors, or all but one."""
    names = tuple(name for name in DETECTORS if name != without)
    return RuleSet([Rule("personal", "detector", category="personal", action="mask", detectors=names)])


def streamed(text: str, rng: Rng, judged: RuleSet) -> tuple[str, list[Found]]:
    """What is released of a text that comes in pieces of 1 to 12 characters, and what was found."""
    guarded = GuardedText(judged, Placeholders())
    released: list[str] = []
    found: list[Found] = []
    at = 0
    while at < len(text):
        size = rng.randrange(1, 13)
        free, more = guarded.feed(text[at : at + size])
        released.append(free)
        found += more
        at += size
    free, more = guarded.finish()
    return "".join([*released, free]), [*found, *more]


def withheld(one: Planted, rng: Rng, judged: RuleSet) -> bool:
    """Nothing of the value is released, and what stands around it is."""
    released, found = streamed(one.text, rng, judged)
    places = {place for span in found for place in range(span.start, span.end)}
    whole = set(range(one.start, one.end)) <= places
    assert not whole or one.text[one.start : one.end] not in released
    return whole


def share(examples: Iterable[Planted], judged: RuleSet) -> float:
    rng = random.Random(1)
    short = (one for number, one in enumerate(examples) if len(one.text) < 200 or number % 10 == 0)  # few PEM keys
    caught = [withheld(one, rng, judged) for one in short]
    return sum(caught) / len(caught)


def language(carrier: str) -> str:
    return "ru" if re.search("[а-яё]", carrier, re.I) else "en"


def carried(kind: str, spoken: str) -> Iterator[Planted]:
    """Of those that `planted` makes, the ones whose sentence is of a language."""
    in_language = [carrier for carrier in CARRIERS[kind] if language(carrier) == spoken]
    rng = Rng(f"{kind}{spoken}")
    for _ in range(COUNT if in_language else 0):
        before, after = rng.choice(in_language).split("{}")
        value = MAKERS[kind](rng)
        yield Planted(before + value + after, FINDS.get(kind, kind), len(before), len(before) + len(value))


def wrapped(kind: str) -> Iterator[Planted]:
    """Under a label, wrapped in every way in turn."""
    rng = Rng(f"wrapped {kind}")
    for number in range(COUNT):
        label = rng.choice(LABELS[kind])
        before, after = WRAPPERS[number % len(WRAPPERS)].replace("{label}", label).split("{}")
        value = MAKERS[kind](rng)
        yield Planted(before + value + after, FINDS.get(kind, kind), len(before), len(before) + len(value))


@pytest.mark.parametrize("kind", MAKERS)
def test_planted_data_is_masked(kind: str) -> None:
    assert share(planted(kind, COUNT, seed=7), rules()) >= 0.99


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("spoken", ["ru", "en"])
def test_in_either_language(kind: str, spoken: str) -> None:
    examples = [*carried(kind, spoken)]
    assert not examples or share(examples, rules()) >= 0.99


@pytest.mark.parametrize("kind", LABELS)
def test_however_an_answer_wraps_it(kind: str) -> None:
    assert share(wrapped(kind), rules()) >= 0.99


def disguised(kind: str) -> Iterator[Planted]:
    """In each disguise in turn."""
    disguises = [*DATA_DISGUISES.values()]
    for number, one in enumerate(planted(kind, COUNT, seed=8)):
        value = disguises[number % len(disguises)](one.text[one.start : one.end])
        yield Planted(one.text[: one.start] + value + one.text[one.end :], one.name, one.start, one.start + len(value))


@pytest.mark.parametrize("kind", MAKERS)
def test_in_disguise(kind: str) -> None:
    assert share(disguised(kind), rules()) >= 0.99


@pytest.mark.parametrize("kind", INNOCENT)
def test_look_alikes_are_released(kind: str) -> None:
    rng = random.Random(2)
    texts = [*innocent(kind, MANY, seed=7)]
    changed = Counter(streamed(text, rng, rules())[0] != text for text in texts)
    assert changed[True] <= 0.01 * len(texts)


def test_control_without_its_detector_it_is_not_caught() -> None:
    assert share(planted("snils", COUNT), rules(without="snils")) < 0.2
    assert share(planted("email", COUNT), rules(without="email")) < 0.2


def test_control_a_random_number_that_a_word_speaks_for_is_masked() -> None:
    """So the look-alikes pass for what they are, and not because nothing is found among them."""
    text = "Мой ИНН 7707083893, заказ 7707083893."
    assert streamed(text, random.Random(3), rules())[0] == "Мой ИНН [INN_1], заказ 7707083893."
