"""How much of a pattern can be under way at once: what each character of a text may cost.

Of `[a-z ]{10,1900}!` a match may begin at every letter, and 1,900 of them are read side by side. The probe looks for
such a text as an adversary would: it writes, one at a time, the character behind which most is under way.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

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
    walk = _Walk(program, sorted({*characters, *_SAMPLES}))
    most, text, found, state, turn = 0, "", "", _State(frozenset(), False), 1
    while most <= MOST_LIVE and len(text) < _LONGEST_PROBE and len(text) - len(found) < _IDLE:
        widest, ways = walk.widest(state)
        turn = turn * 48271 % 0x7FFFFFFF  # by turns, in no pattern (Lehmer, 1951): the same text each time
        character, state = ways[turn % len(ways)]
        text += character
        if widest > most:
            most, found = widest, text
    return most, found


class _State(NamedTuple):
    """The steps behind a text, and whether a word's character is its last."""

    steps: frozenset[int]
    word: bool


class _Walk:
    """Where characters lead in a program. A walk comes by the same states again and again, so they are kept."""

    def __init__(self, program: "Program", characters: Sequence[str]) -> None:
        self._program = program
        readers: dict[Charset, set[int]] = {}
        for number, step in enumerate(program.steps):
            if step.charset is not None:
                readers.setdefault(step.charset, set()).add(number)
        kinds = {(is_word(one), *(charset(one) for charset in readers)): one for one in characters}
        self._reading = {
            one: frozenset().union(*(numbers for charset, numbers in readers.items() if charset(one)))
            for one in kinds.values()
        }
        """One character of each kind that the patterns tell apart, and the steps that read it."""
        self.widest = cache(self._widest)
        self._behind = cache(self._found_behind)

    def _widest(self, state: _State) -> tuple[int, list[tuple[str, _State]]]:
        """The most steps that wait for the next character behind any one of these, and those behind which they do."""
        begun = {*state.steps, *self._program.starts}
        waiting = {word: self._program.closure(begun, state.word, word)[0] for word in (True, False)}
        ways = [
            (one, *self._behind(waiting[is_word(one)] & reading, is_word(one)))
            for one, reading in self._reading.items()
        ]
        widest = max(live for _, _, live in ways)
        return widest, [(one, behind) for one, behind, live in ways if live == widest]

    def _found_behind(self, taken: frozenset[int], word: bool) -> tuple[_State, int]:
        """Where a character leads that these steps read, and how many steps wait for the next one."""
        steps = frozenset(one for number in taken for one in self._program.steps[number].following)
        live = max(len(self._program.closure(steps, word, after)[0]) for after in (True, False))
        return _State(steps, word), live
