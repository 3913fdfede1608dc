"""Regular expressions as steps of an automaton that reads each character once.

The dialect is the part of Python's `re` that can be decided while a text streams: literals, classes, `\\d \\w \\s`,
`.`, alternation, groups, greedy repeats, `\\b \\B`, `(?i)`. Of several matches the leftmost counts, and the longest.
Unlike `re` it reads what a reader sees: a wide letter is the letter, and what is unseen is passed over (`seen.py`).
A program is Thompson's (1968, doi:10.1145/363347.363387): a character costs what is under way, which `check` bounds.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from processors.guard.probe import MOST_LIVE, worst_text
from processors.guard.seen import is_word, plain

MOST_STEPS = 4000
"""Of one pattern; counted repeats are written out."""
LONGEST = 4096
"""Characters that a text may be kept waiting, and so the longest match that must be found whole: a PEM key is one."""
_MOST_KNOWN = 4096
_ORDINARY = " \nаaя1.,"
"""A repeat without bound over all of these would keep every text waiting."""

Test = Callable[[str], bool]
Closure = tuple[frozenset[int], frozenset[int]]
"""The steps that read a character next, and the patterns that are accepted before it."""


class PatternError(ValueError):
    """A pattern that cannot be used; the message says why and what to write instead."""


class Step(NamedTuple):
    """Reads a character (`charset`), asks for a word's edge (`edge`), accepts (`pattern`), or just goes on."""

    charset: "Charset | None" = None
    following: tuple[int, ...] = ()
    edge: bool | None = None
    pattern: int | None = None


class Program:
    """Patterns compiled together; a step's number names it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises:
        PatternError: one of them cannot be used.
        """
        self.steps: list[Step] = []
        self.starts: list[int] = []
        """By pattern its first step."""
        self._closures: dict[tuple[int, bool], Closure] = {}
        for number, pattern in enumerate(patterns):
            self.starts.append(self._compile(number, pattern))

    def closure(self, steps: Iterable[int], before: bool, after: bool) -> Closure:
        """Where `steps` lead without reading a character, between one of a word (`before`) and another (`after`)."""
        edge = before is not after
        closures = [self._closures.get((step, edge)) or self._close(step, edge) for step in steps]
        return (
            frozenset().union(*(reading for reading, _ in closures)),
            frozenset().union(*(accepted for _, accepted in closures)),
        )

    def _close(self, first: int, edge: bool) -> Closure:
        reading, accepted, waiting = set(), set(), [first]
        seen = {first}
        while waiting:
            number = waiting.pop()
            step = self.steps[number]
            if step.charset is not None:
                reading.add(number)
            elif step.pattern is not None:
                accepted.add(step.pattern)
            elif step.edge is None or step.edge is edge:
                waiting += [one for one in step.following if one not in seen]
                seen.update(step.following)
        found = self._closures[first, edge] = frozenset(reading), frozenset(accepted)
        return found

    def _compile(self, number: int, pattern: str) -> int:
        first = len(self.steps)
        tree = _parse(pattern)
        try:
            end = self._add(Step(pattern=number))
            start = _Compiler(self, first).sequence(tree, end, bool(tree.state.flags & re.IGNORECASE))
        except PatternError:
            self._forget(first)
            raise
        if any(number in self._close(start, edge)[1] for edge in (True, False)):
            self._forget(first)
            raise PatternError("it matches the empty string, and so everywhere; let it need a character")
        return start

    def _forget(self, first: int) -> None:
        del self.steps[first:]
        self._closures.clear()

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1


@lru_cache(maxsize=1 << 10)
def check(pattern: str) -> None:
    """Whether a pattern can be used.

    Raises:
        PatternError: it cannot.
    """
    program = Program([pattern])
    if sum(step.charset is not None for step in program.steps) <= MOST_LIVE:
        return
    live, text = worst_text(program, pattern)
    if live > MOST_LIVE:
        raise PatternError(
            f"behind {text[-20:]!r} more than {MOST_LIVE} of its steps are under way, and each costs time at each "
            "character; lower its counts, leave them open ({10,}), or let it begin with what is rare in a text"
        )


class _Compiler:
    """Builds a pattern's steps from its end to its start, so that each knows what follows."""

    def __init__(self, program: Program, first: int) -> None:
        self._program = program
        self._first = first
        self._unbounded = 0

    def sequence(self, items: Iterable[Any], following: int, ignore_case: bool) -> int:
        for item in reversed(list(items)):
            following = self._item(item[0], item[1], following, ignore_case)
        return following

    def _item(self, code: Any, value: Any, following: int, ignore_case: bool) -> int:
        if code in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            return self._step(Step(_charset(code, _frozen(value), ignore_case), (following,)))
        if code is op.BRANCH:
            return self._step(Step(following=tuple(self.sequence(one, following, ignore_case) for one in value[1])))
        if code is op.SUBPATTERN:
            _, added, removed, inner = value
            if (added | removed) & ~re.IGNORECASE:
                raise PatternError("of the flags only i can be used in a group")
            cased = (ignore_case or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
            return self.sequence(inner, following, cased)
        if code is op.MAX_REPEAT:
            least, most, inner = value
            return self._repeat(least, most, inner, following, ignore_case)
        if code is op.AT and value in (op.AT_BOUNDARY, op.AT_NON_BOUNDARY):
            return self._step(Step(following=(following,), edge=value is op.AT_BOUNDARY))
        raise PatternError(_REFUSED.get(code, f"{str(code).lower()} cannot be decided while a text streams"))

    def _repeat(self, least: int, most: Any, inner: Any, following: int, ignore_case: bool) -> int:
        if most is op.MAXREPEAT:
            self._unbounded += 1
            if self._unbounded > 1:
                raise PatternError("a repeat without bound stands in another; give one of them a bound, as {0,40}")
            loop = self._step(Step())
            body = self.sequence(inner, loop, ignore_case)
            self._program.steps[loop] = Step(following=(body, following))
            self._no_endless(body)
            following = loop
            self._unbounded -= 1
        else:
            end = following  # from each optional step at once, not from one to the next: else the ways are squared
            for _ in range(most - least):
                following = self._step(Step(following=(self.sequence(inner, following, ignore_case), end)))
        for _ in range(least):
            following = self.sequence(inner, following, ignore_case)
        return following

    def _no_endless(self, body: int) -> None:
        begun = self._reading((body,))
        steps = [self._program.steps[number] for number in begun]
        around = [step.charset for step in steps if step.charset and self._reading(step.following) >= begun]
        if sum(any(charset(one) for charset in around) for one in _ORDINARY) >= len(_ORDINARY) - 1:
            raise PatternError(
                "a repeat without bound of nearly any character keeps every text waiting; bound it: {0,40}"
            )

    def _reading(self, steps: tuple[int, ...]) -> frozenset[int]:
        return self._program.closure(steps, True, True)[0] | self._program.closure(steps, True, False)[0]

    def _step(self, step: Step) -> int:
        if len(self._program.steps) - self._first > MOST_STEPS:
            raise PatternError(f"its counted repeats make more than {MOST_STEPS} steps; lower the counts")
        return self._program._add(step)


_REFUSED = {
    op.MIN_REPEAT: "a lazy repeat means nothing here, since the longest match counts; leave the second ? out",
    op.ASSERT: "look-around would have to read on before it decides; match the text itself, with \\b at its ends",
    op.ASSERT_NOT: "look-around would have to read on before it decides; match the text itself, with \\b at its ends",
    op.GROUPREF: "a back-reference needs unbounded memory of the text; write the alternatives out",
    op.AT: "^ and $ have no meaning in a text that streams; use \\b",
}


def _parse(pattern: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = parser.parse(pattern)
    except (re.error, Warning) as error:
        raise PatternError(f"it is no regular expression: {error}") from None
    except (OverflowError, RecursionError):
        raise PatternError("it is nested too deeply, or a count is too large") from None
    if tree.state.flags & ~(re.UNICODE | re.IGNORECASE):
        raise PatternError("of the flags only (?i) can be used")
    if tree.getwidth()[0] > LONGEST:
        raise PatternError(f"what it matches is longer than the {LONGEST} characters that a text may wait")
    return tree


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=1 << 12)
def _charset(code: Any, value: Any, ignore_case: bool) -> "Charset":
    """Equal classes are one object, so that a character is looked up once for all the steps that read it alike."""
    if code is op.ANY:
        return Charset([], ["\n".__eq__], negated=True, ignore_case=False)
    items = value if code is op.IN else [(code, value)]
    negated = code is op.NOT_LITERAL
    named: list[Test] = []
    kinds: list[Test] = []
    for kind, what in items:
        if kind is op.NEGATE:
            negated = True
        elif kind in (op.LITERAL, op.NOT_LITERAL):
            named.append(chr(what).__eq__)
        elif kind is op.RANGE:
            named.append(_range(*map(chr, what)))
        else:
            kinds.append(_CATEGORIES[what])
    return Charset(named, kinds, negated, ignore_case)


class Charset:
    """Whether a character is of a class: as it stands, or as the ordinary one that it is a form of."""

    def __init__(self, named: list[Test], kinds: list[Test], negated: bool, ignore_case: bool) -> None:
        self._named, self._kinds, self._negated, self._ignore_case = named, kinds, negated, ignore_case
        self._known: dict[str, bool] = {}

    def __call__(self, character: str) -> bool:
        known = self._known.get(character)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[character] = self._one_of(self._named + self._kinds, character) is not self._negated
        return known

    def names(self, character: str) -> bool:
        """Whether the class is written with it, or with a range that holds it, and does not only happen to hold it."""
        return not self._negated and any(test(character) is True for test in self._named)

    def _one_of(self, tests: list[Test], character: str) -> bool:
        forms = {character, plain(character)}
        if self._ignore_case:
            forms |= {case for form in forms for case in (form.lower(), form.upper())}
        return any(test(form) is True for test in tests for form in forms)


def _range(first: str, last: str) -> Test:
    return lambda character: first <= character <= last


_CATEGORIES: dict[Any, Test] = {
    op.CATEGORY_DIGIT: str.isdecimal,
    op.CATEGORY_NOT_DIGIT: lambda character: not character.isdecimal(),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda character: not character.isspace(),
    op.CATEGORY_WORD: is_word,
    op.CATEGORY_NOT_WORD: lambda character: not is_word(character),
}
