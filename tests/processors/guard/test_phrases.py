"""Phrases are found however the text is cut, and nothing of one is released before."""

import itertools
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.guard.phrases import GuardedText, Match, Phrases, normalise

PHRASES = ["зимний план", "café crème", "bad phrase", "проект полночь", "bad", "x ray", "a b a c", "秘密"]
WORDS = [
    "bad",
    "BAD",
    "phrase",
    "Phrase",
    "проект",
    "Полночь",
    "x",
    "ray",
    "a",
    "b",
    "c",
    "badly",
    "秘",
    "密",
    "ёж",
    "ﬁn",
]
BORDERS = [" ", "  ", "-", "\n", "—", ", «", "\u200b", "\u0301", ""]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts that nearly or wholly hold phrases."""
    words = draw(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BORDERS)), max_size=12))
    return "".join(word + border for word, border in words)


def read(phrases: Phrases, pieces: list[str]) -> tuple[list[str], list[Match]]:
    """Feed pieces; what was released after each, and all that was found."""
    text = GuardedText(phrases)
    fed = [text.feed(piece) for piece in pieces] + [text.finish()]
    return [free for free, _ in fed], sorted(match for _, found in fed for match in found)


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a bad phrase here", ["bad", "bad phrase"]),
        ("BAD—Phrase", ["BAD", "BAD—Phrase"]),
        ("badly phrased", []),
        ("embad phrase", []),
        ("Проект «Полночь».", ["Проект «Полночь"]),
        ("проекты полночь", []),
        ("b\u200bad", ["b\u200bad"]),
        ("这是秘密。", ["秘密"]),
        ("a b a b a c", ["a b a c"]),
        ("bad", ["bad"]),
        ("", []),
        (unicodedata.normalize("NFD", "Зимний план"), [unicodedata.normalize("NFD", "Зимний план")]),
        ("зимний план", ["зимний план"]),
        (unicodedata.normalize("NFD", "café crème"), [unicodedata.normalize("NFD", "café crème")]),
    ],
)
def test_finds_whole_words(text: str, found: list[str]) -> None:
    _, matches = read(Phrases(PHRASES), [text])
    assert sorted(text[m.start : m.end] for m in matches) == sorted(found)


@given(texts(), st.lists(st.integers(0, 200), max_size=12))
@example("a b a b a c", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_any_cut_finds_and_releases_the_same(text: str, places: list[int]) -> None:
    phrases = Phrases(PHRASES)
    whole, matches = read(phrases, [text])
    pieces, again = read(phrases, cut(text, places))
    assert "".join(pieces) == "".join(whole) == text
    assert again == matches


@given(texts(), st.lists(st.integers(0, 200), max_size=12))
def test_nothing_of_a_phrase_is_released_before_it_is_found(text: str, places: list[int]) -> None:
    guarded = GuardedText(Phrases(PHRASES))
    for piece in [*cut(text, places), None]:
        before = guarded.released
        _, found = guarded.feed(piece) if piece is not None else guarded.finish()
        assert all(match.start >= before for match in found)


@given(texts())
def test_ordinary_text_is_not_held_back(text: str) -> None:
    """What is held can still become a phrase: some continuation completes one that begins in it."""
    guarded = GuardedText(Phrases(PHRASES))
    guarded.feed(text)
    if guarded.pending:
        held_from = guarded.released
        endings = []
        for phrase in PHRASES:
            for cut_at in range(len(phrase) + 1):
                probe = GuardedText(Phrases(PHRASES))
                found = probe.feed(text + phrase[cut_at:])[1] + probe.finish()[1]
                endings += [m for m in found if m.start == held_from]
        assert endings


def test_control_a_guard_without_hold_back_would_leak() -> None:
    """The property above can fail: releasing each piece as it comes lets a cut phrase out."""
    released_at_once = "a ba"
    guarded = GuardedText(Phrases(PHRASES))
    held, _ = guarded.feed(released_at_once)
    assert held == "a " != released_at_once


def test_a_phrase_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="no letter or digit"):
        Phrases(["…"])


def test_normalised_form() -> None:
    assert normalise("  Ёлки-ПАЛКИ ") == " елки палки "


def test_the_memory_of_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.guard.phrases._MEMORY", 8)
    phrases = Phrases(PHRASES)
    for number in range(100):
        phrases.step(phrases.start, f"word{number}")
    assert len(phrases._memory) <= 8
