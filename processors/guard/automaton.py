"""One automaton for all rules of a tenant: phrases and regular expressions, read together, each character once.

Its states are sets of places in the phrases' trie and of steps of the regular expressions, made when a text first
leads to them (the lazy subset construction: Aho, Sethi, Ullman, Compilers, 1986, §3.7). Answers repeat the same pieces,
so the way from a state over a piece is remembered: the usual cost of a chunk is one look-up (bench/guard.py).

A state is at its root where no match is under way. What was read since is all that any match can still need.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from processors.guard.phrases import BORDER, Trie, Word, fold, genuine, is_border, readings, words_of
from processors.guard.regex import Charset, Program
from processors.guard.seen import is_word, unseen

MOST_STATES = 20_000
_MOST_PLACES = 1_000_000
"""Nodes and steps of all states together: some 60 bytes each."""
_MOST_WALKS = 1 << 16
"""Walks remembered, and as many older ones: some 300 bytes each."""
_MOST_BEGINNINGS = 1 << 12
"""By character and what stands before it."""
_LONGEST_REMEMBERED = 24
"""Characters: longer pieces seldom come again, and each would be kept for it."""
_CYRILLIC = ("\u0400", "\u04ff")


class Span(NamedTuple):
    """Pattern number `pattern` covers the characters from `start` to `end`, exclusive, of a match from `begin` on."""

    pattern: int
    start: int
    end: int
    begin: int


class State:
    """Where every match under way stands after a text."""

    __slots__ = ("border", "edges", "live", "nodes", "steps", "word")

    def __init__(self, nodes: frozenset[int], steps: frozenset[int], word: bool, border: bool) -> None:
        self.nodes, self.steps = nodes, steps
        self.word = word
        """Whether the last character is one of a word, as \\b asks."""
        self.border = border
        """Whether a phrase may begin next."""
        self.live = bool(nodes or steps)
        self.edges: dict[str, Edge] = {}


class _Begun:
    """Where matches began that have come to one state, and where what is seen of them ends."""

    __slots__ = ("at", "last")

    def __init__(self, at: list[int], last: int) -> None:
        self.at, self.last = at, last


Edge = tuple[State, tuple[int, ...], tuple[int, ...]]
"""Where a character leads, and the patterns that end before it and with it."""
Believed = Callable[[int, int, int], tuple[int, int] | None]
"""Which part of a pattern's match from `start` to `end` is meant; None where it is not to be taken for one."""


class Walk(NamedTuple):
    """What a piece of text does to a state."""

    state: State
    root: int
    """Behind how many of the piece's characters no match was under way, the last time; 0 if nowhere in it."""
    ended: tuple[tuple[int, int], ...]
    """Patterns that may have matched, with the index in the piece where their match ended, exclusive."""
    cyrillic: int
    """How many characters of the piece are Cyrillic, for estimating tokens."""


class Automaton:
    """Shared by all texts; holds nothing of any of them. Patterns are numbered: phrases first, then expressions."""

    def __init__(self, phrases: Sequence[Sequence[Iterable[str]]], expressions: Sequence[str]) -> None:
        """Phrases come as words with their forms, folded or not.

        Raises:
            ValueError: a phrase holds no letter or digit; phrases are told by their words.
            PatternError: an expression cannot be used.
        """
        self._trie = Trie()
        self._forms: list[tuple[Word, ...]] = []
        for phrase in phrases:
            forms = folded_forms(phrase)
            self._forms.append(forms)
            self._trie.add(forms)
        self._program = Program(expressions)
        self._starts = frozenset(self._program.starts)
        self._states: dict[tuple[frozenset[int], frozenset[int], bool, bool], State] = {}
        self._alones: dict[tuple[frozenset[int], frozenset[int], bool], State] = {}
        self._places = self._alone_places = 0
        self._beginnings: dict[tuple[bool, str], frozenset[int]] = {}
        self.walks: dict[tuple[State, str], Walk] = {}
        """Walks remembered, to be looked up before `walk` is called."""
        self._older_walks: dict[tuple[State, str], Walk] = {}
        self.start = self.root("")
        """The state of an empty text: a border stands before it."""

    def root(self, before: str) -> State:
        """The state where nothing is under way, behind a text that is long enough to tell whether a word ended."""
        visible = next((character for character in reversed(before) if not unseen(character)), None)
        border = visible is None or is_border(visible)
        return self._state(frozenset(), frozenset(), visible is not None and is_word(visible), border)

    def walk(self, state: State, piece: str) -> Walk:
        """Read a piece of text."""
        key = (state, piece)
        known = self.walks.get(key)
        if known is None:
            known = self._older_walks.get(key) or self._walk(state, piece)
            if len(piece) <= _LONGEST_REMEMBERED:
                if len(self.walks) >= _MOST_WALKS:
                    self._older_walks, self.walks = self.walks, {}
                self.walks[key] = known
        return known

    def outlives(self, text: str, root: State, place: int) -> bool:
        """Whether a match that began before `place` is still under way at the end of a text that follows a root."""
        state = self._walk(root, text[:place]).state
        state = self._alone(state.nodes, state.steps, state.word)
        for character in text[place:]:
            if not state.live:
                return False
            state = (state.edges.get(character) or self._alone_step(state, character))[0]
        return state.live

    def free(self, text: str, root: State) -> int:
        """How many characters of a text that follows a root stand before all that is under way at its end."""
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.outlives(text, root, middle):
                high = middle - 1
            else:
                low = middle
        return low

    def finish(self, state: State) -> tuple[int, ...]:
        """The patterns that the end of the text completes."""
        _, accepted = self._program.closure(state.steps, state.word, False)
        return (*self._trie.finish(state.nodes), *(len(self._forms) + number for number in accepted))

    def spans(self, text: str, root: State, patterns: Iterable[int], believed: Believed, over: bool) -> list[Span]:
        """Where patterns match in a text that follows a root, leftmost first, each the longest that is `believed`.

        The end of the text ends a word only where it is `over`. Spans of one pattern do not overlap. Equal spans stand
        in the order of their patterns: which of them was seen first depends on how the text came.
        """
        words: list[bool] = []
        places: list[int] = []
        found: list[Span] = []
        for pattern in patterns:
            start = 0
            matches: Iterable[tuple[int, list[int]]]
            if pattern < len(self._forms):
                places = places or self._phrase_places(text, root)
                matches = ((place, self._phrase_ends(text, place, pattern, over)) for place in places)
            else:
                words = words or _words(text, root.word)
                matches = sorted(self._expression_ends(text, words, pattern - len(self._forms), over).items())
            for begin, ends in matches:
                for end in reversed(ends):
                    part = believed(pattern, begin, end) if begin >= start else None
                    if part is not None:
                        found.append(Span(pattern, *part, begin))
                        start = part[1]
                        break
        return sorted(found, key=lambda span: (span.start, -span.end, span.pattern))

    def _phrase_places(self, text: str, root: State) -> list[int]:
        """Where a phrase may begin."""
        borders = self._borders(text, root)
        return [
            place
            for place, character in enumerate(text)
            if (borders[place] and readings(character) not in ((BORDER,), ("",))) or _is_word_itself(character)
        ]

    def _borders(self, text: str, root: State) -> list[bool]:
        """For each character whether a phrase may begin there."""
        borders = [root.border]
        for character in text:
            borders.append(is_border(character) if fold(character) else borders[-1])
        return borders

    def _phrase_ends(self, text: str, start: int, pattern: int, over: bool) -> list[int]:
        ends: list[int] = []
        nodes: set[int] = {0}
        last = start
        for index in range(start, len(text)):
            nodes, before, behind = self._trie.step(nodes, text[index])
            if pattern in before:
                ends.append(last)
            if fold(text[index]) != BORDER or len(readings(text[index])) > 1:
                last = index + 1
            if pattern in behind:
                ends.append(last)
            if not nodes:
                break
        if over and pattern in self._trie.finish(nodes):
            ends.append(last)
        return [end for end in dict.fromkeys(ends) if genuine(text[start:end], self._forms[pattern])]

    def _expression_ends(self, text: str, words: list[bool], number: int, over: bool) -> dict[int, list[int]]:
        """By beginning of a match where it ends. All beginnings are followed side by side: those that have come to the
        same state have the same future, so that a text costs no more where much of it is under way."""
        ends: dict[int, list[int]] = {}
        first = frozenset({self._program.starts[number]})
        beginnings = [self._alone(frozenset(), first, word) for word in (False, True)]
        under_way: dict[State, _Begun] = {}
        for index, character in enumerate(text):
            following: dict[State, _Begun] = {}
            for before, begun in under_way.items():
                state, accepted, _ = before.edges.get(character) or self._alone_step(before, character)
                if accepted:
                    for start in begun.at:
                        ends.setdefault(start, []).append(begun.last)
                if not state.live:
                    continue
                if state.steps != before.steps or not unseen(character):
                    begun.last = index + 1
                known = following.get(state)
                if known is None:
                    following[state] = begun
                else:
                    known.at += begun.at
            before = beginnings[words[index]]
            state = (before.edges.get(character) or self._alone_step(before, character))[0]
            if state.live and (state.steps != before.steps or not unseen(character)):  # it begins with what is seen
                if state in following:
                    following[state].at.append(index)
                else:
                    following[state] = _Begun([index], index + 1)
            under_way = following
        for state, begun in under_way.items():
            accepted_last = self._program.closure(state.steps, state.word, False)[1]
            if not over:  # whatever comes next
                accepted_last &= self._program.closure(state.steps, state.word, True)[1]
            if accepted_last:
                for start in begun.at:
                    ends.setdefault(start, []).append(begun.last)
        return ends

    def _alone(self, nodes: frozenset[int], steps: frozenset[int], word: bool) -> State:
        """A state of what began at some place or before: nothing begins behind it."""
        known = self._alones.get((nodes, steps, word))
        if known is None:
            self._alone_places += len(nodes) + len(steps)
            if len(self._alones) >= MOST_STATES or self._alone_places > _MOST_PLACES:
                self._alones.clear()
                self._alone_places = len(nodes) + len(steps)
            known = self._alones[nodes, steps, word] = State(nodes, steps, word, False)
        return known

    def _alone_step(self, state: State, character: str) -> Edge:
        steps, accepted, word = self._read(state.steps, state.word, character)
        nodes = frozenset(self._trie.step(state.nodes, character)[0]) if state.nodes else state.nodes
        edge = state.edges[character] = self._alone(nodes, steps, word), accepted, ()
        return edge

    def _walk(self, state: State, piece: str) -> Walk:
        root = 0
        ended: list[tuple[int, int]] = []
        for index, character in enumerate(piece):
            edge = state.edges.get(character)
            if edge is None:
                edge = state.edges[character] = self._edge(state, character)
            state, before, behind = edge
            if before or behind:
                ended += [(pattern, index) for pattern in before]
                ended += [(pattern, index + 1) for pattern in behind]
            if not state.live:
                root = index + 1
        low, high = _CYRILLIC
        return Walk(state, root, tuple(ended), sum(low <= character <= high for character in piece))

    def _edge(self, state: State, character: str) -> Edge:
        begun = state.nodes | {0} if state.border or _is_word_itself(character) else state.nodes
        nodes, before, behind = self._trie.step(begun, character)
        steps, accepted, word = self._read(state.steps, state.word, character)
        steps |= self._begun(state.word, character)
        border = is_border(character) if fold(character) else state.border
        following = self._state(frozenset(nodes), steps, word, border)
        return following, (*sorted(before), *(len(self._forms) + number for number in accepted)), (*sorted(behind),)

    def _begun(self, before: bool, character: str) -> frozenset[int]:
        """Where a character leads those expressions that begin with it: remembered, for it is the same in every state,
        and most of what it takes to make an edge."""
        known = self._beginnings.get((before, character))
        if known is None:
            if len(self._beginnings) >= _MOST_BEGINNINGS:
                self._beginnings.clear()
            known = self._beginnings[before, character] = self._reached(self._starts, before, character)[0]
        return known

    def _read(
        self, steps: frozenset[int], before: bool, character: str
    ) -> tuple[frozenset[int], tuple[int, ...], bool]:
        """Where a character leads the expressions, those it ends before it, and whether a word's is now the last.

        What is unseen leaves all as it was, but for expressions that name it.
        """
        reached, accepted = self._reached(steps, before, character)
        if unseen(character):
            return steps | reached, (), before
        return reached, (*sorted(accepted),), is_word(character)

    def _reached(self, steps: frozenset[int], before: bool, character: str) -> tuple[frozenset[int], frozenset[int]]:
        """The steps behind a character that these take, and the patterns that they accept before it."""
        hidden = unseen(character)
        reading, accepted = self._program.closure(steps, before, is_word(character))
        takes: dict[Charset, bool] = {}
        reached: list[int] = []
        for number in reading:
            charset, following, _, _ = self._program.steps[number]
            assert charset is not None
            taken = takes.get(charset)
            if taken is None:
                taken = takes[charset] = charset.names(character) if hidden else charset(character)
            if taken:
                reached += following
        return frozenset(reached), accepted

    def _state(self, nodes: frozenset[int], steps: frozenset[int], word: bool, border: bool) -> State:
        key = (nodes, steps, word, border)
        known = self._states.get(key)
        if known is None:
            self._places += len(nodes) + len(steps)
            if len(self._states) >= MOST_STATES or self._places > _MOST_PLACES:
                for state in self._states.values():
                    state.edges.clear()  # texts may still stand there
                self._states.clear()
                self._places = len(nodes) + len(steps)
                self.walks, self._older_walks = {}, {}
            known = self._states[key] = State(nodes, steps, word, border)
        return known


def _words(text: str, before: bool) -> list[bool]:
    """For each character whether what is seen last before it is of a word."""
    words = [before]
    for character in text:
        words.append(words[-1] if unseen(character) else is_word(character))
    return words


def folded_forms(phrase: Sequence[Iterable[str]]) -> tuple[Word, ...]:
    """A phrase's words as the trie takes them; a word that folds into several (CJK) becomes several.

    Raises:
        ValueError: it holds no letter or digit.
    """
    forms: list[Word] = []
    for word in phrase:
        parts = [words_of(form) for form in word]
        if parts and all(len(part) == 1 for part in parts):
            forms.append(tuple(dict.fromkeys(part[0] for part in parts)))
        else:
            forms += [(piece,) for piece in (parts[0] if parts else ())]
    if not forms:
        raise ValueError(f"phrase {' '.join(form for word in phrase for form in word)!r} holds no letter or digit")
    return tuple(forms)


def _is_word_itself(character: str) -> bool:
    """Whether a phrase may begin with it wherever it stands."""
    return len(fold(character)) > 1 and fold(character).startswith(BORDER)
