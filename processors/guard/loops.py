"""Loops: an answer that says the same over and over, found while it is written.

The end of the text is looked at after each `EVERY` of its characters, wherever its pieces begin and end, so that a
finding depends on the text alone. A loop is an end that is periodic in enough copies and over enough tokens: both, for
legitimate text repeats a little many times and much a few times.

Not all copies are remembered: of a text's end so much as two copies need. A period that two have is followed from then
on, and what it covers is counted.
"""

import re
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import msgspec

from processors.guard.periods import Followed, followed

EVERY = 64
"""Characters from one look at the text to the next."""
KEPT = (2 << 10) + EVERY
"""Characters of the text's end that are remembered. The longest period is `EVERY` shorter and holds some 300 words."""
_KEPT_NUMBERLESS = 960
_KEPT_FIGURES = 512
"""Digits, and a space between numbers: some 130 numbers."""
_COPIES = 4
"""The fewest of any loop."""

Kind = Literal["run", "exact", "counting", "drift"]
Texture = Literal["prose", "structured", "figures"]


class _Bound(NamedTuple):
    """The fewest copies and tokens, and the fewer copies that do where each has `long` tokens."""

    copies: int
    tokens: int
    few: int
    long: int


_BOUNDS: Final[dict[tuple[Kind, Texture], _Bound]] = {
    ("exact", "prose"): _Bound(4, 128, 4, 1),
    ("exact", "structured"): _Bound(16, 512, 4, 64),
    ("exact", "figures"): _Bound(32, 1024, 4, 128),
    ("counting", "prose"): _Bound(10, 384, 6, 60),
    ("counting", "structured"): _Bound(32, 1024, 12, 48),
    ("counting", "figures"): _Bound(32, 4096, 32, 128),
}
"""What is taken for a loop. Forms, calendars and worked tables count by nature, and tables of zeros repeat.

Measured by us on 7,773 legitimate streams of up to 2,048 tokens (code, data, documents, changelogs, logs, answers,
Russian): no false stop for runs and exact loops, but for two answers that did loop; two for counting, both in one
generated file of assembly. On another sample, with 4 copies, 128 tokens and numbers of any kind, counting alarmed in
1.3 % of the streams.
"""
_PROSE, _FIGURES = 0.8, 0.5
"""The share of letters: prose has no less, tables of figures and of empty cells have no more."""
_UNCOUNTED = re.compile(r"\s+[,.!?;:…]*|[，。！？；：、…]")
"""What that share leaves out: white space, and the stops of a sentence before it (the text is read backwards)."""
_TEXTURE_SAMPLE = 512
"""Characters whose letters are counted."""

_RUN = 256
_RULE_RUN = 1024
"""Characters of a run; the second for those that draw lines, for white space, and for any in a code fence."""
_RULES = frozenset("-=_*#.~+|/\\:·•…–—─━═│░▒▓█")

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w{1,8}|\s+|([^\w\s])\1*")
"""A token: a word, by eight letters if it is long; a CJK character; white space; a sign, however often in a row."""
_SAMPLE = 256
"""Characters, in whole periods, whose tokens and letters stand for all copies: a copy may begin within a word."""

_NUMBER = re.compile(r"\d+")
_NO_NUMBER = re.compile(r"\D+")
_JUDGED = 4 * EVERY
"""Characters from one look at the numbers to the next: it costs most, and a count is long before it is a loop. What
came since stands in the text's end until then."""
_COUNTED, _LEAST_COUNTED = 16, 5
"""Copies whose numbers are compared, and how many of them must be remembered."""
_STEADY = 0.75
"""The share of equal steps that makes numbers a count: clocks turn over, and a step is sometimes left out."""

_FENCE = re.compile(r"(?:^|\n)[ \t>]{0,12}```")
_FENCE_REACH = 16
"""Characters of the longest match."""

_OTHER = "\u0530-\u1dff\u2e80-\ud7ff\uf900-\ufaff\ufb1d-\ufdff\ufe70-\ufefe\uff66-\uffdc"
"""Scripts other than Latin, Greek and Cyrillic: what an answer in those drifts to."""
_OTHER_LETTER = re.compile(f"[{_OTHER}]")
_MID_SENTENCE = re.compile(r"[^\W\d_]+,? [^\W\d_]+,? [^\W\d_]+,? ?\Z")
_OWN_LOOKS = 8
"""Looks at the text's beginning, whose script is its own."""
_DRIFT_LOOKS = 6
"""Looks in a row that find another script: some 380 letters."""
_DRIFT_LINE = 48
"""Characters by which the sentence that changes script goes on in the new one."""


class Loop(NamedTuple):
    """What was found at `end`; `start`, `end` and `period` are characters of the whole text.

    The loop begins at `start`, or earlier where it is longer than what is remembered. The period of a counting loop is
    its mean. A drift has one copy: what was written in the other script. Tokens are words, signs and white space.
    """

    kind: Kind
    start: int
    end: int
    period: int
    copies: int
    tokens: int


class LoopsState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text's state as part of a snapshot; `KEPT` characters, and as many again at most where the text has numbers.

    `numberless` and `figures` end at the last look at numbers, and are empty where none is remembered; `other` is -1 in
    a text of another script.
    """

    seen: int = 0
    rest: str = ""
    backwards: str = ""
    numberless: str = ""
    fenced: bool = False
    other: int = 0
    reported: tuple[Kind, ...] = ()
    figures: str = ""
    exact: tuple[Followed, ...] = ()
    counting: tuple[Followed, ...] = ()


class Loops:
    """One text as it grows. Each kind of loop is reported once, the first that is found.

    Kinds: `run` of one character, or of white space; `exact` copies; `counting`, copies but for numbers that go on in
    equal steps; `drift`, a sentence that goes over to another script for good (to any but Latin, Greek and Cyrillic).
    Drift is a hint, not a proof: nothing in a text tells a translation that was asked for.
    """

    __slots__ = (
        "_backwards", "_counting", "_exact", "_fenced", "_figures", "_numberless", "_other", "_reported", "_rest",
        "_seen",
    )  # fmt: skip

    def __init__(self) -> None:
        self._rest = ""
        """What came after the last look."""
        self._seen = 0
        self._backwards = ""
        """The end of what was seen, its last character first: find() then meets the nearest place first."""
        self._numberless = ""
        """The same with each number as one zero, up to the last look at numbers. Empty where none is remembered: it
        would be the same."""
        self._figures = ""
        """The numbers alone, last first."""
        self._exact: tuple[Followed, ...] = ()
        self._counting: tuple[Followed, ...] = ()
        """Periods of the two."""
        self._fenced = False
        self._other = 0
        """Looks in a row that found another script."""
        self._reported: tuple[Kind, ...] = ()

    def snapshot(self) -> LoopsState:
        """The state; see `restore`."""
        return LoopsState(
            seen=self._seen,
            rest=self._rest,
            backwards=self._backwards,
            numberless=self._numberless,
            fenced=self._fenced,
            other=self._other,
            reported=self._reported,
            figures=self._figures,
            exact=self._exact,
            counting=self._counting,
        )

    @classmethod
    def restore(cls, state: LoopsState) -> "Loops":
        """The text as it was at a snapshot."""
        loops = cls()
        loops._seen, loops._rest = state.seen, state.rest
        loops._backwards = state.backwards[:KEPT]
        loops._numberless, loops._figures = state.numberless[:_KEPT_NUMBERLESS], state.figures
        loops._fenced, loops._other, loops._reported = state.fenced, state.other, state.reported
        loops._exact, loops._counting = state.exact, state.counting
        return loops

    def feed(self, piece: str) -> Loop | None:
        """Add a piece; returns the first loop found.

        What stands behind that is looked at in the next call, which may be one with an empty piece.
        """
        self._rest += piece
        if len(self._rest) < EVERY:
            return None
        text = self._rest
        for end in range(EVERY, len(text) + 1, EVERY):
            loop = self._look(text[end - EVERY : end])
            if loop is not None:
                self._rest = text[end:]
                self._reported += (loop.kind,)
                return loop
        self._rest = text[len(text) // EVERY * EVERY :]
        return None

    def _look(self, block: str) -> Loop | None:
        self._remember(block)
        judged = self._seen % _JUDGED == 0
        if judged:
            self._remember_numbers()
        reported = self._reported
        loop = self._run() if "run" not in reported else None
        if loop is None and "exact" not in reported:
            loop = self._first("exact", self._backwards, self._exact)
        if loop is None and judged and self._counting and "counting" not in reported:
            loop = self._first("counting", self._numberless, self._counting)
        drifts = self._drifts(block)  # also counts the looks
        if loop is None and drifts and "drift" not in reported:
            loop = self._drift()
        return loop

    def _remember(self, block: str) -> None:
        self._seen += EVERY
        self._backwards = backwards = (block[::-1] + self._backwards)[:KEPT]
        self._exact = followed(self._exact, backwards, EVERY, KEPT - EVERY)
        if "```" in backwards[: EVERY + 2]:
            end = backwards[: EVERY + _FENCE_REACH][::-1]
            fences = sum(fence.end() > len(end) - EVERY for fence in _FENCE.finditer(end))
            self._fenced ^= fences % 2 == 1

    def _remember_numbers(self) -> None:
        """Read what came since the last time with each number as one."""
        backwards = self._backwards
        block = backwards[_JUDGED - 1 :: -1]
        if not self._numberless and not _NUMBER.search(block):
            self._counting = ()
            return
        before = self._numberless or backwards[_JUDGED:]
        numberless = _NUMBER.sub("0", block)[::-1]
        if numberless[-1] == "0" == before[:1]:
            numberless = numberless[:-1]  # a number goes on
        self._numberless = kept = (numberless + before)[:_KEPT_NUMBERLESS]
        figures = _NO_NUMBER.sub(" ", block)[::-1]
        if figures[-1] == " " == self._figures[:1]:
            figures = figures[:-1]
        self._figures = (figures + self._figures)[:_KEPT_FIGURES]
        if "0" not in kept:
            self._numberless, self._figures, self._counting = "", "", ()
            return
        longest = _KEPT_NUMBERLESS - _JUDGED
        self._counting = followed(self._counting, kept, len(numberless), longest, backwards, _JUDGED)

    def _run(self) -> Loop | None:
        backwards = self._backwards
        sign = backwards[0]
        like = None if sign.isspace() else sign
        if like and backwards[1:2] != sign:
            return None
        head = backwards[:_RULE_RUN]
        length = len(head) - len(head.lstrip(like))
        if length < (_RULE_RUN if like is None or sign in _RULES or self._fenced else _RUN):
            return None
        length = len(backwards) - len(backwards.lstrip(like))
        return Loop("run", self._seen - length, self._seen, 1, length, 1)

    def _first(self, kind: Kind, backwards: str, followed: tuple[Followed, ...]) -> Loop | None:
        """The shortest period of enough copies; `backwards` is what was compared."""
        for period, covered, length in sorted(followed):
            if covered < max(_BOUNDS[kind, "prose"].tokens, _COPIES * period):
                continue  # no token is shorter than a character
            numbers = backwards.count("0", 0, period) if kind == "counting" else 0
            if kind == "counting" and not (numbers and _counts(self._figures, numbers)):
                continue
            tokens = self._enough(kind, backwards, period, covered)
            if tokens:
                copies = covered // period
                size = length // copies if numbers else period
                return Loop(kind, self._seen - length, self._seen, size, copies, tokens)
        return None

    def _enough(self, kind: Kind, backwards: str, period: int, covered: int) -> int:
        """The tokens of a loop, or 0 where its copies or tokens are too few."""
        size = period * max(1, _SAMPLE // period)
        texture = _texture(backwards[: min(size, _TEXTURE_SAMPLE)])
        bound = _BOUNDS[kind, "structured" if self._fenced and texture == "prose" else texture]
        if covered < bound.tokens:
            return 0
        tokens = len(_TOKEN.findall(backwards, 0, size)) * covered // size
        copies = covered // period
        many = copies >= (bound.few if tokens >= bound.long * copies else bound.copies)
        return tokens if many and tokens >= bound.tokens else 0

    def _drifts(self, block: str) -> bool:
        """Whether text of another script has just become long enough; counts the looks that found it."""
        if self._other < 0:
            return False
        others = 0 if block.isascii() else len(_OTHER_LETTER.findall(block))
        if not others or others < 0.75 * sum(map(str.isalpha, block)):
            self._other = 0
            return False
        self._other = -1 if self._seen <= _OWN_LOOKS * EVERY else self._other + 1
        return self._other == _DRIFT_LOOKS

    def _drift(self) -> Loop | None:
        end = self._backwards[: (_DRIFT_LOOKS + 2) * EVERY][::-1]
        first = _OTHER_LETTER.search(end, EVERY)
        if first is None or self._fenced:
            return None
        start = first.start()
        line = end[start : start + _DRIFT_LINE]
        goes_on = "\n" not in line and len(_OTHER_LETTER.findall(line)) >= 0.75 * sum(map(str.isalpha, line))
        if not goes_on or not _MID_SENTENCE.search(end, 0, start):
            return None
        length = len(end) - start
        return Loop("drift", self._seen - length, self._seen, length, 1, len(_TOKEN.findall(end, start)))


def _texture(backwards: str) -> Texture:
    sample = _UNCOUNTED.sub("", backwards[:_TEXTURE_SAMPLE])
    letters = sum(map(str.isalpha, sample))
    if not letters or letters < _FIGURES * len(sample):
        return "figures"
    return "prose" if letters >= _PROSE * len(sample) else "structured"


def _counts(figures: str, numbers: int) -> bool:
    """Whether the numbers of the last copies go on in equal steps, each in its place, and one of them moves."""
    found = figures[::-1].split()
    if len(figures) == _KEPT_FIGURES:
        del found[:1]  # part of it may be forgotten
    if figures[0] != " ":
        del found[-1:]  # it may go on
    if len(found) < _LEAST_COUNTED * numbers:
        return False
    found = found[-_COUNTED * numbers :]
    moves = False
    for place in range(numbers):
        steps = [later - earlier for earlier, later in pairwise(int(number[-15:]) for number in found[place::numbers])]
        usual = max(set(steps), key=steps.count, default=0)
        if steps.count(usual) < _STEADY * len(steps):
            return False
        moves |= usual != 0
    return moves
