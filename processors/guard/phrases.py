"""Finding phrases in text that arrives in pieces, and how much of its tail may still become one.

Aho-Corasick (Aho, Corasick 1975, doi:10.1145/360825.360855) over normalised text: letters and digits are folded
(NFKD, case), marks and invisible characters vanish, everything else is a word border. A phrase is found as
whole words with any borders between them; each CJK character is a word of its own.

Answers repeat the same pieces, so the step from a state over a piece is remembered: the usual cost of a chunk is one
look-up instead of a walk over its characters (bench/guard.py).
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

BORDER = " "
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_INVISIBLE = ("Mn", "Me", "Cf")
"""Unicode categories of marks and of what is not seen; such characters do not part a word."""
_MEMORY = 1 << 16
"""Steps remembered before the memory starts anew: about 20 MB at most, as only short pieces are kept."""
_LONGEST_REMEMBERED = 64


def fold(character: str) -> str:
    """A character as phrases are compared: none, one or more characters, or a border.

    Composed letters are taken apart and their marks dropped, so that a letter is the same however it was composed:
    й and и, ё and е, é and e are one.
    """
    if unicodedata.category(character) in _INVISIBLE:
        return ""
    if not character.isalnum():
        return BORDER
    parts = unicodedata.normalize("NFKD", character).casefold()
    folded = "".join(part for part in parts if part.isalnum())
    return f" {folded} " if _CJK.match(character) else folded


def normalise(phrase: str) -> str:
    """A phrase as the automaton knows it: folded words, each with one border on either side."""
    return BORDER + "".join(f"{word} " for word in "".join(map(fold, phrase)).split())


class Match(NamedTuple):
    """Phrase number `phrase` covers characters `start` to `end` (exclusive) of the whole text."""

    phrase: int
    start: int
    end: int


class Step(NamedTuple):
    """What a piece of text does to the automaton. Indices count folded characters of the piece; negative ones lie
    in what was held before it."""

    state: int
    depth: int
    """Folded characters of the longest phrase beginning that the text now ends with, its first border included."""
    places: tuple[int, ...]
    """For each folded character the index of its original in the piece."""
    matches: tuple[tuple[int, int, int], ...]
    """Phrase number, index of its first character, index of its last."""
    cyrillic: int
    """How many characters of the piece are Cyrillic, for estimating tokens."""


class TextState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text's state as part of a snapshot. `border`: nothing is held, and the next letter begins a word."""

    seen: int
    released: int
    cyrillic: int
    pending: str = ""
    border: bool = False


class Phrases:
    """An automaton over a list of phrases. Shared by all texts; holds nothing of any of them.

    Raises:
        ValueError: a phrase holds no letter or digit; phrases are told by their words.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._goto: list[dict[str, int]] = [{}]
        self._fail: list[int] = [0]
        self.depth: list[int] = [0]
        self._found: list[tuple[tuple[int, int], ...]] = [()]
        self._memory: dict[tuple[int, str], Step] = {}
        self._folded: dict[str, str] = {}
        self._goto[0][BORDER] = self._new_state(1)
        for number, phrase in enumerate(phrases):
            self._add(number, phrase)
        self._link()
        self.start = self._goto[0][BORDER]
        """The state of an empty text: a border stands before it."""

    def step(self, state: int, piece: str) -> Step:
        """Walk over a piece of text."""
        key = (state, piece)
        known = self._memory.get(key)
        if known is None:
            known = self._walk(state, piece)
            if len(piece) <= _LONGEST_REMEMBERED:
                if len(self._memory) >= _MEMORY:
                    self._memory.clear()
                self._memory[key] = known
        return known

    def finish(self, state: int) -> tuple[tuple[int, int, int], ...]:
        """The matches that the end of the text, a border, completes."""
        return self._walk(state, "\n").matches

    def _walk(self, state: int, piece: str) -> Step:
        places: list[int] = []
        matches: list[tuple[int, int, int]] = []
        for index, character in enumerate(piece):
            for folded in self._fold(character):
                if folded == BORDER and self._ends_in_border(state):
                    continue
                state = self._next(state, folded)
                places.append(index)
                last = len(places) - 1
                matches += [(number, last - length + 2, last - 1) for number, length in self._found[state]]
        return Step(state, self.depth[state], tuple(places), tuple(matches), len(_CYRILLIC.findall(piece)))

    def _fold(self, character: str) -> str:
        folded = self._folded.get(character)
        if folded is None:
            folded = self._folded[character] = fold(character)
        return folded

    def _ends_in_border(self, state: int) -> bool:
        return self._border[state]

    def _next(self, state: int, character: str) -> int:
        while character not in self._goto[state] and state:
            state = self._fail[state]
        return self._goto[state].get(character, 0)

    def _add(self, number: int, phrase: str) -> None:
        pattern = normalise(phrase)
        if pattern == BORDER:
            raise ValueError(f"phrase {phrase!r} holds no letter or digit")
        state = 0
        for depth, character in enumerate(pattern, 1):
            following = self._goto[state].get(character)
            if following is None:
                following = self._goto[state][character] = self._new_state(depth)
            state = following
        self._found[state] += ((number, len(pattern)),)

    def _new_state(self, depth: int) -> int:
        self._goto.append({})
        self._fail.append(0)
        self.depth.append(depth)
        self._found.append(())
        return len(self._goto) - 1

    def _link(self) -> None:
        self._border = [False] * len(self._goto)
        queue = deque(self._goto[0].items())
        while queue:
            character, state = queue.popleft()
            self._border[state] = character == BORDER
            self._found[state] += self._found[self._fail[state]]
            for following, child in self._goto[state].items():
                self._fail[child] = self._next(self._fail[state], following) if state else 0
                queue.append((following, child))


class GuardedText:
    """One text as it grows: what may be released of it, and what was found in it.

    Nothing of a phrase is ever released before the text shows that it is none, and nothing else is held back.
    """

    __slots__ = ("_held", "_phrases", "_state", "cyrillic", "pending", "released", "seen")

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases
        self._state = phrases.start
        self.pending = ""
        """Fed and not yet given back."""
        self._held: tuple[int, ...] = ()
        self.seen = 0
        """Characters fed."""
        self.released = 0
        """Characters given back by `feed` and `finish`."""
        self.cyrillic = 0

    def feed(self, piece: str) -> tuple[str, tuple[Match, ...]]:
        """Add a piece. Returns what may be released, and the phrases completed in it."""
        step = self._phrases.step(self._state, piece)
        base, self._state = self.seen, step.state
        self.seen += len(piece)
        self.cyrillic += step.cyrillic
        if step.depth <= 1 and not self.pending and not step.matches:
            self.released = self.seen
            return piece, ()
        matches = tuple(self._match(found, step.places, base) for found in step.matches)
        self.pending += piece
        self._held = self._hold(step, base)
        return self._release(self._held[0] if self._held else self.seen), matches

    def snapshot(self) -> TextState:
        """The state; see `restore`."""
        border = not self.pending and self._phrases.depth[self._state] == 1
        return TextState(self.seen, self.released, self.cyrillic, self.pending, border)

    @classmethod
    def restore(cls, phrases: Phrases, state: TextState) -> "GuardedText":
        """The text as it was: what is held begins a word, so walking over it again leads to the same state."""
        text = cls(phrases)
        text.seen = text.released = state.released
        text.feed(state.pending)
        text.cyrillic = state.cyrillic
        if not state.pending and not state.border:
            text._state = 0
        return text

    def finish(self) -> tuple[str, tuple[Match, ...]]:
        """The text is over: everything held goes, as far as no phrase ends with the text."""
        matches = tuple(self._match(found, (), self.seen) for found in self._phrases.finish(self._state))
        self._state = self._phrases.start
        return self._release(self.seen), matches

    def _release(self, until: int) -> str:
        count = until - self.released
        text, self.pending = self.pending[:count], self.pending[count:]
        self.released = until
        return text

    def _hold(self, step: Step, base: int) -> tuple[int, ...]:
        """Where the letters of the longest beginning stand; its border need not be held."""
        letters = step.depth - 1
        missing = letters - len(step.places)
        here = tuple(base + place for place in step.places[-letters:]) if letters > 0 else ()
        return self._held[-missing:] + here if missing > 0 else here

    def _match(self, found: tuple[int, int, int], places: tuple[int, ...], base: int) -> Match:
        phrase, first, last = found
        start = base + places[first] if first >= 0 else self._held[first]
        end = base + places[last] if last >= 0 else self._held[last]
        return Match(phrase, start, end + 1)
