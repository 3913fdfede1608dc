"""One text as it grows: what may be released of it, what was found in it, and what stands in place of what is masked.

Nothing of a match is released before it is known to be one or none; what can no longer become part of one is not kept.
"""

from typing import NamedTuple

import msgspec

from processors.guard.automaton import Automaton, Span, State, Walk
from processors.guard.personal import BEFORE
from processors.guard.regex import LONGEST
from processors.guard.rules import Pattern, RuleSet
from processors.identity import content_hash

_MOST_PIECES = 8
"""Of what was released last, before they become one: each is an object of 60 bytes and more, in every open stream."""
_MUCH = 64
"""Characters held back, from which on it is looked for what of them is free."""
_SENTENCE_ENDS = (". ", "! ", "? ", "… ", "\n", "。", "！", "？")
Name = str


class Found(NamedTuple):
    """A match: its pattern, its characters `start` to `end` (exclusive) of the whole text, and the text itself."""

    pattern: Pattern
    start: int
    end: int
    text: str


Fed = tuple[str, tuple[Found, ...]]
"""What may be released, masks in place, and what was found. Behind a match of a `stop` rule nothing is released."""


class TextState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text's state as part of a snapshot."""

    seen: int
    released: int
    cyrillic: int
    before: str = ""
    """The end of what was released, as the provider wrote it."""
    pending: str = ""
    covered: int | None = None
    """The pattern of a mask that goes on in what follows."""


class Placeholders:
    """What stands in place of what is masked: the same for the same value, numbered by type in order of first sight."""

    def __init__(self, numbers: dict[Name, list[str]] | None = None) -> None:
        self.numbers: dict[Name, list[str]] = numbers or {}
        """By type the hashes of its values; the values themselves are nobody's business any more."""

    def of(self, name: Name, value: str) -> str:
        """The placeholder of a value, such as [EMAIL_1]. Of its spelling only what counts is left."""
        known = self.numbers.setdefault(name, [])
        hashed = content_hash(value.encode())[:16]
        if hashed not in known:
            known.append(hashed)
        return f"[{name}_{known.index(hashed) + 1}]"


class GuardedText:
    """One text, fed in pieces; how it is cut into them changes nothing."""

    __slots__ = (
        "_automaton", "_before", "_covered", "_ended", "_patience", "_placeholders", "_rules", "_sentences", "_state",
        "cyrillic", "pending", "released", "seen",
    )  # fmt: skip

    def __init__(self, rules: RuleSet, placeholders: Placeholders, sentences: bool = False) -> None:
        """With `sentences`, whole sentences are released only, also before a match that stops."""
        self._rules = rules
        self._automaton: Automaton = rules.automaton
        self._placeholders = placeholders
        self._sentences = sentences
        self._state: State = rules.automaton.start
        self._before: list[str] = []
        self._ended: list[tuple[int, int]] = []
        """Patterns that may have matched in `pending`, and where."""
        self._covered: int | None = None
        """The pattern of a mask that goes on to the next space: what it covers was longer than a text may wait."""
        self._patience = _MUCH
        """Characters held back, from which on it is looked for what of them is free."""
        self.pending = ""
        """Fed and not yet given back."""
        self.seen = 0
        """Characters fed."""
        self.released = 0
        """Characters given back by `feed` and `finish`, masked ones included."""
        self.cyrillic = 0

    def feed(self, piece: str) -> Fed:
        """Add a piece."""
        if self._covered is not None:
            return self._feed_covered(piece)
        automaton = self._automaton
        walk = automaton.walks.get((self._state, piece)) or automaton.walk(self._state, piece)
        self._state = walk.state
        self.seen += len(piece)
        self.cyrillic += walk.cyrillic
        if walk.ended or self._ended or self._sentences:
            return self._take(walk, piece)
        # What follows is `_take` for a piece in which nothing is found, without its calls: most pieces end here.
        root, pending = walk.root, self.pending
        if not root:
            if len(pending) + len(piece) >= _MUCH:
                return self._take(walk, piece)
            self.pending = pending + piece
            return "", ()
        if len(piece) - root >= _MUCH:
            return self._take(walk, piece)
        self._patience = _MUCH
        free = pending + piece[:root]
        self.pending = piece[root:]
        self.released += len(free)
        before = self._before
        before.append(free)
        if len(before) > _MOST_PIECES:
            self._before = [self._context()]
        return free, ()

    def finish(self) -> Fed:
        """The text is over: everything held goes, as far as no match ends with the text."""
        self._ended += [(pattern, self.seen) for pattern in self._automaton.finish(self._state)]
        fed = self._give(len(self.pending), over=True)
        self._state = self._automaton.start
        return fed

    def snapshot(self) -> TextState:
        """The state; see `restore`."""
        return TextState(self.seen, self.released, self.cyrillic, self._context(), self.pending, self._covered)

    @classmethod
    def restore(
        cls, rules: RuleSet, placeholders: Placeholders, state: TextState, sentences: bool = False
    ) -> "GuardedText":
        """The text as it was: nothing leads into what is held, so walking over it again leads to the same state."""
        text = cls(rules, placeholders, sentences)
        text.seen, text.released, text.cyrillic = state.seen, state.released, state.cyrillic
        text.pending, text._covered = state.pending, state.covered
        text._before = [state.before]
        walk = text._automaton.walk(text._root(), state.pending)
        text._state = walk.state
        text._ended = [(pattern, state.released + end) for pattern, end in walk.ended]
        return text

    def _feed_covered(self, piece: str) -> Fed:
        assert self._covered is not None
        end = next((index for index, character in enumerate(piece) if character.isspace()), len(piece))
        skipped, pattern = piece[:end], self._rules.patterns[self._covered]
        if end < len(piece):
            self._covered = None
        self.cyrillic += self._automaton.walk(self._state, skipped).cyrillic
        found = (Found(pattern, self.seen, self.seen + end, skipped),) if skipped else ()
        self.seen += end
        self.released = self.seen
        self._remember(skipped)
        self._state = self._root()
        text, more = self.feed(piece[end:]) if end < len(piece) else ("", ())
        return text, (*found, *more)

    def _take(self, walk: Walk, piece: str) -> Fed:
        held = len(self.pending)
        self.pending += piece
        cut = held + walk.root if walk.root else 0
        if walk.ended:
            base = self.released + held
            self._ended += [(pattern, base + end) for pattern, end in walk.ended]
            stops = self._rules.stops.intersection(pattern for pattern, _ in walk.ended)
            if stops and self._matches(self.pending, stops, over=False):
                if len(piece) > 1:
                    return self._take_singly(piece, len(walk.ended))
                return self._stop(self._spans(len(self.pending), over=False))
        if self._sentences:
            cut = self._sentence_end(cut, self._spans(cut, over=False) if self._ended else [])
            if len(self.pending) - cut > LONGEST:
                cut = self._automaton.walk(self._root(), self.pending).root
        elif len(self.pending) - cut >= self._patience:
            return self._give_free(cut)
        if len(self.pending) - cut > LONGEST:
            return self._give_too_long()
        return self._give(cut, over=False) if cut else ("", ())

    def _take_singly(self, piece: str, ended: int) -> Fed:
        """Take a piece again, a character at a time: at which one it is to be stopped, and what is known of the text by
        then, is not to depend on how it was cut."""
        seen, cyrillic = self.seen, self.cyrillic
        del self._ended[-ended:]
        self.pending = self.pending[: -len(piece)]
        self.seen -= len(piece)
        self._state = self._automaton.walk(self._root(), self.pending).state
        free: list[str] = []
        found: list[Found] = []
        for character in piece:
            text, more = self.feed(character)
            free.append(text)
            found += more
            if any(one.pattern.rule.action == "stop" for one in more):
                break
        self.seen, self.cyrillic = seen, cyrillic
        return "".join(free), tuple(found)

    def _stop(self, spans: list[Span]) -> Fed:
        """Give back what stands before the first match to stop at. Where a match that began before it is still under
        way, as an address with a forbidden word within, nobody will know what it was: nothing of it goes."""
        root, patterns = self._root(), self._rules.patterns
        stop = min(span.start for span in spans if patterns[span.pattern].rule.action == "stop")
        if self._automaton.outlives(self.pending, root, stop):
            stop = self._automaton.walk(root, self.pending[:stop]).root
        return self._cut_out(len(self.pending), spans, stop)

    def _give_free(self, cut: int) -> Fed:
        """Much is held, as in a table of numbers, where one match after another may begin before the last is none. Give
        back what stands before all that is under way, without a part of what was found.

        It is looked for when what is held has grown by half since the last time: seldom where a match is long.
        """
        cut = max(cut, self._automaton.free(self.pending, self._root()))
        spans = self._spans(len(self.pending), over=False) if self._ended else []
        while crossing := [span.begin for span in spans if span.begin < cut < span.end]:
            cut = min(crossing)
        if len(self.pending) - cut > LONGEST:
            return self._give_too_long()
        self._patience = max(_MUCH, 3 * (len(self.pending) - cut) // 2)
        return self._cut_out(cut, [span for span in spans if span.end <= cut]) if cut else ("", ())

    def _give(self, cut: int, over: bool) -> Fed:
        if self._ended:
            return self._cut_out(cut, self._spans(cut, over))
        text, self.pending = self.pending[:cut], self.pending[cut:]
        self.released += cut
        self._remember(text)
        return text, ()

    def _give_too_long(self) -> Fed:
        """More is under way than may be kept waiting. What matched so far counts, and a mask at its end goes on; else
        only what began in the first half is given up."""
        automaton, pending, cut = self._automaton, self.pending, len(self.pending)
        ended = {pattern for pattern, _ in self._ended}.union(automaton.finish(self._state))
        spans = self._matches(pending, ended, over=True)
        actions = {span.pattern: self._rules.patterns[span.pattern].rule.action for span in spans}
        masks = [span.pattern for span in spans if span.end == cut and actions[span.pattern] == "mask"]
        if not masks and "stop" not in actions.values():
            half = cut // 2
            root = automaton.root((self._context() + pending[:half])[-BEFORE:])
            cut = half + automaton.walk(root, pending[half:]).root
            while crossing := [span.begin for span in spans if span.begin < cut < span.end]:
                cut = min(crossing)
            cut = cut or len(pending)
        fed = self._cut_out(cut, [span for span in spans if span.end <= cut])
        self._covered = masks[0] if masks else None
        self._state = automaton.walk(self._root(), self.pending).state
        return fed

    def _spans(self, cut: int, over: bool) -> list[Span]:
        until = self.released + cut
        return self._matches(self.pending[:cut], {pattern for pattern, end in self._ended if end <= until}, over)

    def _matches(self, window: str, patterns: set[int], over: bool) -> list[Span]:
        believed = self._rules.believed(window, self._context())
        return self._automaton.spans(window, self._root(), patterns, believed, over)

    def _cut_out(self, cut: int, spans: list[Span], most: int | None = None) -> Fed:
        """Give back `cut` characters of what is pending, masked, up to the first that a rule stops at, or `most`."""
        base, window = self.released, self.pending[:cut]
        patterns = self._rules.patterns
        found = tuple(
            Found(patterns[span.pattern], base + span.start, base + span.end, window[span.start : span.end])
            for span in spans
        )
        stops = [one.start - base for one in found if one.pattern.rule.action == "stop"]
        until = min(stops, default=cut) if most is None else most
        if stops and self._sentences:
            until = self._sentence_end(until, spans)
        at = 0
        out: list[str] = []
        for one in found:
            start, end = one.start - base, one.end - base
            if one.pattern.rule.action != "mask" or end <= at or start >= until:
                continue
            if start >= at:
                out += [window[at:start], self._placeholders.of(one.pattern.placeholder, one.pattern.same(one.text))]
            at = end
        out.append(window[at:until])
        self.pending = self.pending[cut:]
        self.released += cut
        self._ended = [(pattern, end) for pattern, end in self._ended if end > self.released]
        self._remember(window)
        return "".join(out), found

    def _sentence_end(self, cut: int, spans: list[Span]) -> int:
        """The last end of a sentence that no match goes across, in the first `cut` characters of what is pending."""
        ready = self.pending[:cut]
        while ready:
            end = max(ready.rfind(end) + len(end) if end in ready else 0 for end in _SENTENCE_ENDS)
            crossing = [span.begin for span in spans if span.begin < end < span.end]
            if not crossing:
                return end
            ready = ready[: min(crossing)]
        return 0

    def _remember(self, text: str) -> None:
        self._before.append(text)
        if len(self._before) > _MOST_PIECES:
            self._before = [self._context()]

    def _context(self) -> str:
        return "".join(self._before)[-BEFORE:]

    def _root(self) -> State:
        return self._automaton.root(self._context())
