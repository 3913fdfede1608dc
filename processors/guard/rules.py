"""A tenant's rules, compiled: which patterns judge the prompt and which the answer."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from processors.guard.automaton import Automaton, Believed, Span
from processors.guard.messages import LANGUAGES, Language
from processors.guard.numbers import BEFORE, Find
from processors.guard.personal import DETECTORS, Detector
from processors.guard.seen import seen, seen_with_places
from processors.guard.values import Same, spelt, words
from processors.policy import Effective
from processors.rule import Rule


class Pattern(NamedTuple):
    """One pattern of a rule."""

    rule: Rule
    placeholder: str
    detector: str = ""
    find: Find | None = None
    same: Same = spelt
    """What spellings of one value have in common."""
    longest: bool = False
    """Only the longest match from a place counts."""

    def part(self, text: str, start: int, end: int, context: str, known: int) -> tuple[int, int] | None:
        """Which part of a match is meant, if any; `context` is what stands before `text`. Up to `known` it was looked
        at before."""
        if self.find is None:
            return start, end
        before = (context + text[:start])[-BEFORE:] if start < BEFORE else text[start - BEFORE : start]
        matched, places = seen_with_places(text[start:end])
        found = self.find(matched, seen(before), bisect_left(places, known - start) if places else known - start)
        if found and places:
            found = places[found[0]], places[found[1] - 1] + 1
        return (start + found[0], start + found[1]) if found else None


class RuleSet:
    """The patterns of several rules in one automaton. In a dry run all of them only flag."""

    def __init__(self, rules: Iterable[Rule], dry_run: bool = False) -> None:
        rules = list(rules)
        self.asks = {rule.id: rule.action for rule in rules}
        """By rule what it asks for, also where it only flags."""
        self._by_id = {rule.id: msgspec.structs.replace(rule, action="flag") if dry_run else rule for rule in rules}
        phrases: list[tuple[Pattern, Sequence[Iterable[str]]]] = []
        expressions: list[tuple[Pattern, str]] = []
        for rule in self._by_id.values():
            mine = Pattern(rule, _placeholder(rule.category), same=spelt if rule.kind == "regex" else words)
            spoken = rule.forms or [[(word,) for word in phrase.split()] for phrase in rule.phrases]
            phrases += [(mine, forms) for forms in spoken]
            expressions += [(mine, pattern) for pattern in rule.patterns]
            detectors = [one for name, one in DETECTORS.items() if name in rule.detectors]
            expressions += [(_detecting(rule, one), one.pattern) for one in detectors]
        self.patterns = [pattern for pattern, _ in (*phrases, *expressions)]
        """By the automaton's number."""
        self.automaton = Automaton([forms for _, forms in phrases], [text for _, text in expressions])
        self.stops = {number for number, pattern in enumerate(self.patterns) if pattern.rule.action == "stop"}

    def named(self, ids: tuple[str, ...]) -> list[Rule]:
        """The rules of these ids that are in the set."""
        return [self._by_id[name] for name in ids if name in self._by_id]

    def believed(self, text: str, context: str) -> Believed:
        """Which matches in a text are meant, for `Automaton.spans`, which asks from left to right, the longest first.
        `context` is what stands before the text."""
        looked: dict[int, tuple[int, int]] = {}
        """By pattern where the last match began, and up to where all of it has been looked at."""

        def believed(number: int, start: int, end: int) -> tuple[int, int] | None:
            pattern = self.patterns[number]
            if not pattern.longest:
                return pattern.part(text, start, end, context, 0)
            began, known = looked.get(number, (-1, 0))
            if start == began:
                return None
            part = pattern.part(text, start, end, context, known)
            looked[number] = start, max(known, end) if part is None else part[1]
            return part

        return believed

    def find(self, text: str) -> list[tuple[Rule, Span]]:
        """Everything found in a whole text, leftmost first."""
        automaton = self.automaton
        walk = automaton.walk(automaton.start, text)
        ended = dict.fromkeys([*(pattern for pattern, _ in walk.ended), *automaton.finish(walk.state)])
        if not ended:
            return []
        spans = automaton.spans(text, automaton.start, ended, self.believed(text, ""), over=True)
        return [(self.patterns[span.pattern].rule, span) for span in spans]


class CompiledRules:
    """`refuse` judges the prompt, `stop` and `mask` the answer, `flag` both. In a dry run all of them only flag.

    By language of the request, which is told by its prompt: an answer has the language that was asked for, or is to be
    judged as if it had.
    """

    def __init__(self, effective: Effective) -> None:
        self.prompts = _by_language(effective, "refuse")
        self.answers = _by_language(effective, "stop", "mask")


def _by_language(effective: Effective, *actions: str) -> dict[Language, RuleSet]:
    """One set for all, unless some rule is for requests of some languages only."""
    rules = [rule for rule in effective.rules if rule.action in (*actions, "flag")]
    dry_run = effective.moderation.dry_run
    if not any(rule.languages for rule in rules):
        return dict.fromkeys(LANGUAGES, RuleSet(rules, dry_run))
    return {
        language: RuleSet((rule for rule in rules if not rule.languages or language in rule.languages), dry_run)
        for language in LANGUAGES
    }


def _detecting(rule: Rule, detector: Detector) -> Pattern:
    return Pattern(rule, detector.placeholder, detector.name, detector.find, detector.same, detector.longest)


def _placeholder(category: str) -> str:
    return re.sub(r"\W+", "_", category).strip("_").upper() or "MASKED"
