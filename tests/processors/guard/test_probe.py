"""What a pattern can have under way at once is told before it reads any text, and so what a character can cost."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.guard.automaton import Automaton
from processors.guard.probe import MOST_LIVE, worst_text
from processors.guard.regex import PatternError, Program, check

CATASTROPHIC = [
    "[a-z ]{10,1900}!",
    "a[a-z ]{800}b",
    r"\bsk-[A-Za-z0-9_-]{32,2000}",
    "x.{0,9}y[a-z]{0,1000}z",
    "(?:a?b?){1,400}c",
]
FAIR = [
    r"\bsk-(?:ant-[a-z0-9]{1,10}|proj)-[A-Za-z0-9_-]{32,220}",
    "[a-z ]{10,}!",
    "[ab]{1,100}!",
    r"\ba[ab]{2,120}(?:b|a{3})c",
    "(?:[ab]{1,20}c?){1,5} !",
]


@cache
def compiled(pattern: str) -> tuple[Automaton, Program]:
    return Automaton([], [pattern]), Program([pattern])


@cache
def probed(pattern: str) -> tuple[int, str]:
    return worst_text(Program([pattern]), pattern)


def live(pattern: str, text: str) -> int:
    """The most steps that wait for a character of the text."""
    automaton, program = compiled(pattern)
    state, most = automaton.start, 0
    for character in text:
        state = automaton.walk(state, character).state
        most = max(most, len(program.closure(state.steps, state.word, not state.word)[0]))
    return most


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_what_can_run_away_is_refused_with_a_text_that_shows_it(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"behind '.*more than 128 of its steps are under way.*lower its counts"):
        check(pattern)
    assert live(pattern, probed(pattern)[1]) > MOST_LIVE


@pytest.mark.parametrize("pattern", FAIR)
@given(st.text("abcnt-sk! ", max_size=200))
def test_what_is_accepted_does_not_cost_more_than_the_probe_tells(pattern: str, text: str) -> None:
    check(pattern)
    assert live(pattern, text) <= probed(pattern)[0] <= MOST_LIVE


def test_an_optional_step_leads_on_at_once() -> None:
    """Not to all optional steps behind it: 1,900 of them under way would have 1,900 ways each."""
    program = Program(["[a-z ]{10,1900}!"])
    assert max(len(program.closure(step.following, True, True)[0]) for step in program.steps) == 2


@pytest.mark.parametrize(("pattern", "most"), [("a", 0), ("ab", 1), ("aa", 1), ("[ab]{4}", 3), (r"\ba[ab ]{5}c", 3)])
def test_the_probe_counts_what_waits_for_a_character(pattern: str, most: int) -> None:
    found, text = probed(pattern)
    assert found == most == live(pattern, text)


@given(st.text("ab ", max_size=60))
def test_little_memory_finds_the_same(text: str) -> None:
    much, little = Automaton([], ["a[ab ]{1,9}b"]), Automaton([], ["a[ab ]{1,9}b"])
    ended = walked(much, text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("processors.guard.automaton._MOST_PLACES", 30)
        assert walked(little, text) == ended
    assert sum(len(state.steps) for state in little._states.values()) <= 30


def walked(automaton: Automaton, text: str) -> list[tuple[int, int]]:
    """What ended where, the text coming by characters."""
    state, found = automaton.start, []
    for place, character in enumerate(text):
        walk = automaton.walk(state, character)
        state = walk.state
        found += [(pattern, place + end) for pattern, end in walk.ended]
    return found
