"""How much of a pattern can be under way at once: what each character of a text may cost.

Of `[a-z ]{10,1900}!` a match may begin at every letter, and 1,900 of them are read side by side. The probe looks for
such a text as an adversary would: it writes, one at a time, the character behind which most is under way.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from processors.guard.seen import is_word

if TYPE_CHECKING:
    from processors.guard.regex import Charset, Program

MOST_LIVE = 128
"""Steps under way at once: some 50 µs a character, where the text is new."""
_LONGEST_PROBE = 512
_IDLE = 128
"""Characters without a new maximum, after which no more is expected."""
_SAMPLES = " \naаяzZ09.,-_/:+=@"


def worst_text(program: "Program", characters: str) -> tuple[int, str]:
    """The most steps that were found to be under way at once, and a text behind which they are.

    It ends where they are more than MOST_LIVE. `characters` are those that the patterns name.
    """
    alphabet = _different(program, sorted({*characters, *_SAMPLES}))
    most, text, found, state, turn = 0, "", "", _State((), False), 1
    while most <= MOST_LIVE and len(text) < _LONGEST_PROBE and len(text) - len(found) < _IDLE:
        begun = {*state.steps, *program.starts}
        waiting = {word: program.closure(begun, state.word, word)[0] for word in (True, False)}
        ways = [(_behind(program, waiting[is_word(character)], character), character) for character in alphabet]
        widest = max(live for (_, live), _ in ways)
        best = [way for way in ways if way[0][1] == widest]
        turn = turn * 48271 % 0x7FFFFFFF  # by turns, in no pattern (Lehmer, 1951): the same text each time
        (state, _), character = best[turn % len(best)]
        text += character
        if widest > most:
            most, found = widest, text
    return most, found


class _State:
    """The steps behind a text, and whether a word's character is its last."""

    __slots__ = ("steps", "word")

    def __init__(self, steps: Iterable[int], word: bool) -> None:
        self.steps, self.word = steps, word


def _behind(program: "Program", waiting: Iterable[int], character: str) -> tuple[_State, int]:
    """Where a character leads, and how many steps wait for the next one."""
    word, takes = is_word(character), {charset for charset in _charsets(program, waiting) if charset(character)}
    taken = (program.steps[number] for number in waiting)
    steps = {one for step in taken if step.charset in takes for one in step.following}
    live = max(len(program.closure(steps, word, after)[0]) for after in (True, False))
    return _State(steps, word), live


def _charsets(program: "Program", steps: Iterable[int]) -> "set[Charset]":
    return {charset for number in steps if (charset := program.steps[number].charset) is not None}


def _different(program: "Program", characters: Sequence[str]) -> list[str]:
    """One character of each kind that the patterns tell apart."""
    charsets = [*_charsets(program, range(len(program.steps)))]
    kinds = {(is_word(one), *(charset(one) for charset in charsets)): one for one in characters}
    return [*kinds.values()]
