"""Matches are found however the text is cut, nothing of one is released before, and a rebuild changes nothing."""

import itertools
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.guard.personal import DETECTORS
from processors.guard.regex import LONGEST
from processors.guard.rules import Pattern, RuleSet
from processors.guard.text import Found, GuardedText, Placeholders
from processors.rule import Rule

PHRASES = ("зимний план", "café crème", "bad phrase", "проект полночь", "bad", "x ray", "a b a c", "秘密", "сука")
MAIL = r"\b[a-z0-9.]{1,20}@[a-z0-9]{1,20}\.[a-z]{2,5}\b"
KEY = r"\bsk-[A-Za-z0-9]{8,}"
MASKS = RuleSet(
    [
        Rule("phrases", "phrase", category="bad", action="mask", phrases=PHRASES),
        Rule("kinds", "regex", category="key", action="mask", patterns=(MAIL, KEY)),
    ]
)
STOPS = RuleSet(
    [
        Rule("phrases", "phrase", category="bad", action="stop", phrases=PHRASES),
        Rule("kinds", "regex", category="key", action="mask", patterns=(MAIL, KEY)),
    ]
)
WORDS = [
    *(
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
    ),
    *("b4d", "bаd", "baaad", "sk-abcd1234", "sk-", "me@mail", ".ru", "ivan.p@ya.ru", "1234", "сyка", "cyka", "这"),
]
BORDERS = [" ", "  ", "-", "\n", "—", ", «", "\u200b", "\u0301", "", ".", "!", "$"]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Texts that nearly or wholly hold matches."""
    words = draw(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BORDERS)), max_size=12))
    return "".join(word + border for word, border in words)


class Read:
    """A text read to its end: what was released with each piece, and all that was found."""

    def __init__(self, rules: RuleSet, pieces: list[str], sentences: bool = False, rebuilt: bool = False) -> None:
        placeholders = Placeholders()
        self.text = GuardedText(rules, placeholders, sentences)
        self.freed: list[str] = []
        self.found: list[Found] = []
        for piece in pieces:
            if rebuilt:
                placeholders = Placeholders({name: [*known] for name, known in placeholders.numbers.items()})
                self.text = GuardedText.restore(rules, placeholders, self.text.snapshot(), sentences)
            if self.take(*self.text.feed(piece)):
                return
        self.take(*self.text.finish())

    def take(self, free: str, found: tuple[Found, ...]) -> bool:
        """Whether the text is to be stopped."""
        self.freed.append(free)
        self.found += found
        return any(one.pattern.rule.action == "stop" for one in found)

    @property
    def released(self) -> str:
        return "".join(self.freed)


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a bad phrase here", ["bad phrase", "bad"]),
        ("BAD—Phrase", ["BAD—Phrase", "BAD"]),
        ("badly phrased", []),
        ("embad phrase", []),
        ("Проект «Полночь».", ["Проект «Полночь"]),
        ("проекты полночь", []),
        ("b\u200bad", ["b\u200bad"]),
        ("это秘密。", ["秘密"]),
        ("a b a b a c", ["a b a c"]),
        ("bad", ["bad"]),
        ("", []),
        (nfd("Зимний план"), [nfd("Зимний план")]),
        (nfd("café crème"), [nfd("café crème")]),
        ("bad phrase™", ["bad phrase", "bad"]),
        ("这㊙密。", ["㊙密"]),
        ("write to me@mail.ru.", ["me@mail.ru"]),
        ("sk-abcd1234efgh, sk-short", ["sk-abcd1234efgh"]),
    ],
)
def test_finds_whole_words_and_longest_matches(text: str, found: list[str]) -> None:
    assert [one.text for one in Read(MASKS, [text]).found] == found


@pytest.mark.parametrize(
    "disguised",
    [
        *(
            "bаd",
            "b4d",
            "b@d",
            "baaad",
            "BΑD".replace("Α", "А"),
            "b.a.d",
            "b a d",
            "b\u200ba\u200cd",
            "ｂａｄ",
            "ba\u0301d",
        ),
        *("сyка", "cyka", "с у к а", "сууука", "су\u00adка"),
        *("ⓑⓐⓓ", "Ⓑad", "⒝ad", "b\u115fa\u3164d", "bad\u200bphrase", "b\u200bad\u200bphrase", "b a d\u200bphrase"),
        *("п р о е к т п о л н о ч ь", "проект п.о.л.н.о.ч.ь", "п-р-о-е-к-т  полночь", "п р 0 е к т полночь"),
    ],
)
def test_disguises_are_seen_through(disguised: str) -> None:
    assert [one.text for one in Read(MASKS, [f"it is {disguised} today"]).found] == [disguised]


@pytest.mark.parametrize(
    "innocent",
    [
        *("вad", "baad", "b4", "8ad5", "6 4 d", "сука-й", "рука", "as bads", "вада"),
        *("bad\u00adly", "im\u00adbad", "badⓛⓨ", "b a a a d", "ba d", "сук а", "b a", "a\u200bb"),
    ],
)
def test_ordinary_spelling_is_no_disguise(innocent: str) -> None:
    found = [one.text for one in Read(MASKS, [f"it is {innocent} today"]).found]
    assert found == (["сука"] if innocent == "сука-й" else ["вad"] if innocent == "вad" else [])


@given(texts(), st.lists(st.integers(0, 200), max_size=12), st.booleans(), st.booleans())
@example("a b a b a c", [1, 2, 3, 4, 5, 6, 7, 8, 9], False, False)
def test_any_cut_and_any_rebuild_finds_and_releases_the_same(
    text: str, places: list[int], sentences: bool, rebuilt: bool
) -> None:
    whole = Read(MASKS, [text], sentences)
    pieces = Read(MASKS, cut(text, places), sentences, rebuilt)
    assert (pieces.released, pieces.found) == (whole.released, whole.found)


@given(texts(), st.lists(st.integers(0, 200), max_size=12))
def test_what_is_released_with_what_is_withheld_is_the_text(text: str, places: list[int]) -> None:
    read = Read(MASKS, cut(text, places))
    rest = re.split(r"\[(?:BAD|KEY)_\d+\]", read.released)
    covered = [False] * len(text)
    for one in read.found:
        assert text[one.start : one.end] == one.text
        covered[one.start : one.end] = [True] * len(one.text)
    kept = [
        "".join(text[i] for i in run)
        for gone, run in itertools.groupby(range(len(text)), covered.__getitem__)
        if not gone
    ]
    assert "".join(rest) == "".join(kept)


@given(texts(), st.lists(st.integers(0, 200), max_size=12))
def test_nothing_of_a_match_is_released_before_it_is_one(text: str, places: list[int]) -> None:
    read = Read(MASKS, [*text])
    guarded, given_back = GuardedText(MASKS, Placeholders()), 0
    for piece in cut(text, places):
        guarded.feed(piece)
        given_back = guarded.released
        crossing = [one for one in read.found if one.start < given_back < one.end]
        assert crossing == []


@given(texts(), st.lists(st.integers(0, 200), max_size=12))
def test_a_stop_releases_only_what_stands_before_it(text: str, places: list[int]) -> None:
    whole = Read(STOPS, [text])
    read = Read(STOPS, cut(text, places))
    firsts = [one for one in read.found if one.pattern.rule.action == "stop"]
    assert bool(firsts) == any(one.pattern.rule.action == "stop" for one in whole.found)
    if firsts:
        start = min(one.start for one in firsts)
        assert len(re.sub(r"\[KEY_\d+\]", "", read.released)) <= start
        assert start == min(one.start for one in whole.found if one.pattern.rule.action == "stop")


def test_control_a_guard_without_hold_back_would_leak() -> None:
    """The properties above can fail: releasing each piece as it comes lets a cut phrase out."""
    released_at_once = "go ba"
    held, _ = GuardedText(MASKS, Placeholders()).feed(released_at_once)
    assert held == "go " != released_at_once


def test_ordinary_text_waits_for_nothing() -> None:
    guarded = GuardedText(RuleSet([Rule("r", "phrase", phrases=("bad phrase",))]), Placeholders())
    for word in ("Nothing ", "here ", "waits", " — ", "ничего, ", "совсем"):
        assert guarded.feed(word) == (word, ())


DETECTED = RuleSet([Rule("data", "detector", category="data", action="mask", detectors=tuple(sorted(DETECTORS)))])


def test_ordinary_words_wait_for_no_number() -> None:
    """Two letters of Russian plates are words, too."""
    guarded = GuardedText(DETECTED, Placeholders())
    for word in ("write ", "to ", "me ", "at ", "noon ", "и ", "не ", "на ", "то "):
        assert guarded.feed(word) == (word, ())


@pytest.mark.parametrize(("text", "found"), [("60MB and 60mb", []), ("поле Е6", []), ("b0mb, b@d", ["b0mb", "b@d"])])
def test_a_short_word_has_more_letters_than_signs_for_them(text: str, found: list[str]) -> None:
    """Else a number with its unit would be one."""
    rules = RuleSet([Rule("r", "phrase", category="bad", action="mask", phrases=("bomb", "bad", "её", "еб"))])
    assert [one.text for one in Read(rules, [text]).found] == found


TABLE = "".join(f"{n * n % 97:2} {n * 7 % 89} {n * n % 83}\n" for n in range(99)) + " 12 34 56x9-44 7 8\n"
NUMBERS = RuleSet(
    [Rule("runs", "regex", category="run", action="mask", patterns=(r"\b\d(?:\s{0,2}\d){5,20}x\d-\d\d",))]
)


@given(st.lists(st.integers(0, len(TABLE)), max_size=40), st.booleans())
def test_where_one_match_after_another_may_begin_only_those_are_held(places: list[int], rebuilt: bool) -> None:
    whole = Read(NUMBERS, [TABLE])
    assert [one.text[-6:] for one in whole.found] == ["6x9-44"]
    pieces = Read(NUMBERS, cut(TABLE, places), rebuilt=rebuilt)
    assert (pieces.released, pieces.found) == (whole.released, whole.found)


def test_a_table_of_numbers_comes_in_time() -> None:
    """Where a match is under way at every character, and none is one; else 865 of its 883 characters would be held."""
    guarded, held = GuardedText(NUMBERS, Placeholders()), []
    for character in TABLE:
        guarded.feed(character)
        held.append(len(guarded.pending))
    assert max(held) <= 96


SECRETS = [
    "Пароль: Correct-Horse-Battery-Staple-Mountain-River-Sunset-2024\nСохраните его.",
    "Вот: token: 3863-edc9-80ab-8958-a25f-a53f-22b2-1dad-ac9c-c03b-8c01-c64a-1123-0361 ok",
    "Ваш токен: `pscale_tkn_-z8qlXgDxlea4jRxt3T0Hjp3jRJvPphRlE0jmxd5f-F`\n\n- ok ",
    'api_key="fq-8Zt5aBk3_Lw9XcVe7NmQr2-Ty6UiOp4AsDf1GhJkL0zXcVb-7" and so on',
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_long_secret_is_masked_with_its_name_in_whatever_pieces_it_comes(text: str) -> None:
    """What is given back of much that is held ends before the name: without it, the rest would be no secret."""
    whole = Read(DETECTED, [text])
    assert [one.pattern.detector for one in whole.found] == ["key"]
    for size in range(1, 24):
        for first in range(size):
            places = [*range(first, len(text), size)]
            read = Read(DETECTED, cut(text, places))
            assert (read.released, read.found) == (whole.released, whole.found)


ROWS = {
    "bits": "Ответ: " + " ".join(format(0x9E3779B97F4A7C15F39CC0605CEDC834, "b")),
    "words": "token=" + "-".join(["so", "we", "go", "on", "and", "on"] * 40),
    "parts": "-".join(f"{n * n % 997:03}" for n in range(120)),
}


@pytest.mark.parametrize("action", ["mask", "stop"])
@pytest.mark.parametrize("name", ROWS)
def test_what_looks_like_many_numbers_or_secrets_costs_little(
    name: str, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard's loop serves all streams: an answer of digits must not keep it. Counted is what detectors decide."""
    rules = RuleSet([Rule("all", "detector", category="personal", action=action, detectors=tuple(DETECTORS))])
    part, asked = Pattern.part, []
    monkeypatch.setattr(Pattern, "part", lambda *given: asked.append(1) or part(*given))
    text = ROWS[name]
    assert Read(rules, [*text]).released == text
    assert len(asked) < 100 * len(text)


def test_of_detectors_that_find_one_place_the_first_names_it_however_the_text_came() -> None:
    text = "тел. +7 916 123-45-67, телефон 123-45-6789. "
    for pieces in ([text], [*text], *(cut(text, [place]) for place in range(len(text)))):
        read = Read(DETECTED, pieces)
        assert read.released == "тел. [PHONE_1], телефон [SSN_1]. "
        assert [one.pattern.detector for one in read.found] == ["phone", "us_ssn", "phone"]


def test_the_same_value_has_the_same_placeholder() -> None:
    read = Read(MASKS, ["Ask a@b.ru, then c@d.ru, then A@b.ru?", " a@b.ru!", " bad"])
    assert read.released == "Ask [KEY_1], then [KEY_2], then A@b.ru? [KEY_1]! [BAD_1]"


def test_a_match_longer_than_a_text_may_wait_is_covered_to_its_end() -> None:
    text = f"key sk-{'a' * (3 * LONGEST)} behind"
    for size in (1, 7, LONGEST, len(text)):
        read = Read(MASKS, [text[at : at + size] for at in range(0, len(text), size)], rebuilt=size > 100)
        assert read.released == "key [KEY_1] behind"
        assert "".join(one.text for one in read.found) == text[4:-7]


@pytest.mark.parametrize("size", [1, 7, 100, LONGEST, 3 * LONGEST])
@pytest.mark.parametrize("length", [LONGEST - 30, LONGEST - 11, LONGEST + 2500])
def test_what_began_behind_something_too_long_is_found(length: int, size: int) -> None:
    """Words in hyphens may be an address's scheme: they are given up, and not what stands behind them."""
    words = "-".join(["so", "we", "go", "on"] * LONGEST)[:length]
    text = f"{words}-AKIAIOSFODNN7EXAMPLE and so on"
    read = Read(DETECTED, [text[at : at + size] for at in range(0, len(text), size)])
    assert read.released == f"{words}-[KEY_1] and so on"


def test_whole_sentences_are_held() -> None:
    read = Read(STOPS, ["One. Two is", " good! Three", " is bad"], sentences=True)
    assert read.freed == ["One. ", "Two is good! ", "", ""]


@pytest.mark.parametrize(
    ("text", "released"),
    [
        ("Good day. Here is how to be bad now.", "Good day. "),
        ("Good day. Here is how to be bad", "Good day. "),
        ("It is bad.", ""),
        ("Ask a@b.ru. It is. Then bad", "Ask [KEY_1]. It is. "),
        ("One. sk-abcd. Two. sk-abcd1234. bad", "One. sk-abcd. Two. [KEY_1]. "),
    ],
)
def test_before_a_match_that_stops_whole_sentences_are_released_only(text: str, released: str) -> None:
    for pieces in ([text], [*text], *(cut(text, [place]) for place in range(len(text)))):
        assert Read(STOPS, pieces, sentences=True).released == released


def test_a_phrase_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="no letter or digit"):
        RuleSet([Rule("r", "phrase", phrases=("…",))])


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.guard.automaton.MOST_STATES", 20)
    monkeypatch.setattr("processors.guard.automaton._MOST_WALKS", 8)
    rules = RuleSet([Rule("r", "phrase", category="bad", action="mask", phrases=PHRASES)])
    text = "a bad phrase, проект полночь, x ray, a b a c " * 3
    assert Read(rules, [*text]).released == Read(MASKS, [text]).released
    assert len(rules.automaton.walks) <= 8
    assert len(rules.automaton._states) <= 20
