"""The dialect finds what Python's `re` finds, and refuses what cannot be decided while a text streams."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.guard.automaton import Automaton, Span
from processors.guard.regex import LONGEST, PatternError, check

PATTERNS = [
    r"ab+c",
    r"\b[ab]{2,3}\b",
    r"(?i)Ab\Bc?",
    r"(?:a|bc)+",
    r"[^a]b",
    r"a.c",
    r"\w{3}\s\d",
    r"a(?:b(?:c|d){2})?d",
    r"[а-в]+1",
]


UNSEEN = "\u200b\u00ad\u0301\u2060\ufe0f\u3164"
WIDE = {ord(one): ord(one) + 0xFEE0 for one in "abcdB1"} | {ord(" "): 0x3000}


def ends_of(pattern: str, text: str) -> list[tuple[int, int]]:
    """Every span that matches, the slow way. What follows is kept in view, so that \\b at the end sees it."""
    flags = "(?i)" if pattern.startswith("(?i)") else ""
    found = []
    for left in range(len(text)):
        compiled = re.compile(f"{flags}(?:{pattern.removeprefix(flags)})(?=.{{{left}}}\\Z)")
        for start in range(len(text) - left):
            match = compiled.match(text, start)
            if match:
                found.append((start, match.end()))
    return found


def as_it_is(_: int, start: int, end: int) -> tuple[int, int]:
    return start, end


def longest(pattern: str, text: str) -> list[tuple[int, int]]:
    """Leftmost-longest matches that do not overlap."""
    spans = ends_of(pattern, text)
    found: list[tuple[int, int]] = []
    for start in range(len(text)):
        ends = [end for begin, end in spans if begin == start]
        if ends and (not found or start >= found[-1][1]):
            found.append((start, max(ends)))
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.text(alphabet="abcdBб1 \t", max_size=14))
def test_finds_what_re_finds(pattern: str, text: str) -> None:
    automaton = Automaton([], [pattern])
    found = automaton.spans(text, automaton.start, [0], as_it_is, over=True)
    assert [(one.start, one.end) for one in found] == longest(pattern, text)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.text(alphabet="abcdBб1 \t", max_size=14))
def test_the_automaton_ends_where_a_match_ends(pattern: str, text: str) -> None:
    """What `walk` and `finish` tell is each place where some match ends: nothing that is found goes unannounced."""
    automaton = Automaton([], [pattern])
    walk = automaton.walk(automaton.start, text)
    ended = {end for _, end in walk.ended} | ({len(text)} if automaton.finish(walk.state) else set())
    assert ended == {end for _, end in ends_of(pattern, text)}


def disguised(text: str, places: list[int]) -> tuple[str, list[int]]:
    """With characters that are not seen put in, and for each character the place where it now stands."""
    parts = [*text]
    for number, place in enumerate(sorted(place % (len(text) + 1) for place in places)):
        parts.insert(place + number, UNSEEN[place % len(UNSEEN)])
    return "".join(parts), [place for place, one in enumerate(parts) if one not in UNSEEN]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.text(alphabet="abcdBб1 \t", max_size=14), st.lists(st.integers(0, 14), max_size=6), st.booleans())
def test_what_is_not_seen_hides_nothing(pattern: str, text: str, places: list[int], over: bool) -> None:
    """A match covers all between its first and last character that is seen, and nothing beyond."""
    automaton = Automaton([], [pattern])
    bare = automaton.spans(text, automaton.start, [0], as_it_is, over)
    hidden, at = disguised(text, places)
    found = automaton.spans(hidden, automaton.start, [0], as_it_is, over)
    assert found == [Span(0, at[one.start], at[one.end - 1] + 1, at[one.begin]) for one in bare]
    walk = automaton.walk(automaton.start, hidden)
    ended = bool(walk.ended or automaton.finish(walk.state))
    assert ended == bool(automaton.spans(text, automaton.start, [0], as_it_is, over=True))


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.text(alphabet="abcdBб1 \t", max_size=14))
def test_a_wide_letter_is_the_letter(pattern: str, text: str) -> None:
    automaton = Automaton([], [pattern])
    bare = automaton.spans(text, automaton.start, [0], as_it_is, over=True)
    assert automaton.spans(text.translate(WIDE), automaton.start, [0], as_it_is, over=True) == bare


@pytest.mark.parametrize("pattern", ["[\u200b\u200c]{2,}", "[\u2000-\u206f]{2,}", "\u200b\u200b+"])
def test_what_is_not_seen_is_found_by_a_pattern_that_names_it(pattern: str) -> None:
    automaton = Automaton([], [pattern])
    assert automaton.spans("a\u200b\u200bb", automaton.start, [0], as_it_is, over=True) == [Span(0, 1, 3, 1)]
    assert automaton.walk(automaton.start, "a\u200b\u200bb").ended


def test_of_two_patterns_each_is_found() -> None:
    automaton = Automaton([[("key",)]], [r"k\w+"])
    assert automaton.spans("the key", automaton.start, [0, 1], as_it_is, over=True) == [
        Span(0, 4, 7, 4),
        Span(1, 4, 7, 4),
    ]


def test_which_of_equal_spans_is_first_does_not_depend_on_which_was_seen_first() -> None:
    automaton = Automaton([], ["ab", "a[b]"])
    seen = [automaton.spans("ab", automaton.start, order, as_it_is, over=True) for order in ([0, 1], [1, 0])]
    assert seen[0] == seen[1] == [Span(0, 0, 2, 0), Span(1, 0, 2, 0)]


def test_what_is_not_believed_gives_way_to_what_is_shorter() -> None:
    automaton = Automaton([], [r"\d{2,4}"])
    assert automaton.spans(
        "12345", automaton.start, [0], lambda _, start, end: (start, end) if end - start == 3 else None, over=True
    ) == [Span(0, 0, 3, 0)]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "no regular expression"),
        ("x*", "empty string"),
        (r"\b", "empty string"),
        ("(a+)+b", "another"),
        ("((a{1,100}){1,100}){1,100}", "steps"),
        ("a.*b", "nearly any character"),
        (r"a(.|\n)*b", "nearly any character"),
        (r"(?:a|(?:.|x\n)y?)+b", "nearly any character"),
        ("a+?b", "lazy"),
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "back-reference"),
        ("^a", "\\^ and \\$"),
        ("(?s)a.b", "flags"),
        (f"a{{{LONGEST + 1}}}", "longer than"),
        ("(?(1)a|b)", "no regular expression"),
        ("(?>ab)", "cannot be decided"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=why):
        check(pattern)


@given(st.text(alphabet="ab(){}[]|*+?\\.,1^$:=-", max_size=20))
def test_any_pattern_is_taken_or_refused(pattern: str) -> None:
    with suppress(PatternError):
        check(pattern)
