"""What of an answer's text may be read: the rules and the token limit, applied as the text grows."""

from typing import NamedTuple

import msgspec

from processors.events import AnswerPart, Chunk, Decision, Scored, Tokens, ToolCall, Usage
from processors.guard.loops import Loop, Loops, LoopsState
from processors.guard.opinion import OpinionsState
from processors.guard.outputs import Finding, Out
from processors.guard.rules import RuleSet
from processors.guard.scores import Lane, Scores
from processors.guard.telling import Place, Position, Telling
from processors.guard.text import Found, GuardedText, Placeholders, TextState
from processors.guard.windows import Tail, TailState
from processors.money import estimate_tokens
from processors.policy import Degeneration, Effective

CACHE_LIMIT_BYTES = 32 << 10
"""A longer answer is not kept for the cache, so that no stream's state grows without bound."""

NO_REACTION = Degeneration("ignore", "ignore", "ignore", "ignore")
_Watched = tuple[GuardedText, Loops | None, Tail | None]
"""A text, and what looks at its end."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece that waits until its text, `upto` characters of it, has been scored."""

    lane: Lane
    upto: int
    text: str
    tool: ToolCall | None = None


class Limit(NamedTuple):
    """How many tokens the current run may give at most, and what is to be said when it has."""

    tokens: int
    finding: Finding


class LaneState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one text."""

    lane: Lane
    text: TextState
    loops: LoopsState | None = None
    tail: TailState | None = None


class ReleaseState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A release's state as part of a snapshot: the text that was released is not in it, what is held back is."""

    run: str
    next: int
    seq: int
    verdicts: int
    released: int
    seen_chars: int
    cyrillic: int
    first_token_ms: float | None
    lanes: tuple[LaneState, ...]
    placeholders: dict[str, list[str]] = {}
    told: tuple[str, ...] = ()
    limit: Limit | None = None
    held: tuple[Held, ...] = ()
    actions: int = 0
    found: dict[str, int] = {}
    done: dict[str, int] = {}
    scores: dict[str, float] = {}
    opinions: OpinionsState | None = None


class Release:
    """The texts of one answer: feeds them through the rules, numbers and emits what may be read."""

    __slots__ = (  # objects of more than 30 attributes do not share the names: 1.3 KB a stream
        "_cyrillic", "_delays", "_held", "_id", "_keep", "_kept", "_lanes", "_limit", "_limits", "_loops", "_out",
        "_placeholders", "_reactions", "_rules", "_sentences", "_seq", "_submitted_ms", "_telling", "_tenant",
        "first_token_ms", "next_chunk", "released", "run", "scores", "seen_chars",
    )  # fmt: skip

    def __init__(
        self,
        decision: Decision,
        submitted_ms: int,
        effective: Effective,
        rules: RuleSet,
        telling: Telling,
        out: list[Out],
    ) -> None:
        self.released = 0
        """Characters released so far, of all texts."""
        self.seen_chars = 0
        self.first_token_ms: float | None = None
        self._id, self._tenant = decision.id, decision.tenant
        self._submitted_ms = submitted_ms
        self._limits = effective.limits
        self._rules = rules
        self._telling = telling
        self._out = out
        self._seq = 0
        self.scores = Scores(decision, effective, telling)
        self._keep: list[AnswerPart] | None = [] if decision.cache_key else None
        self._kept = 0
        self._cyrillic = 0
        self._lanes: dict[Lane, _Watched] = {}
        self._held: list[Held] = []
        self._reactions = effective.degeneration
        self._loops = effective.degeneration != NO_REACTION
        self._sentences = effective.moderation.hold == "sentence"
        self._delays = self.scores.holds or self._sentences
        self._placeholders = Placeholders()
        self._limit = Limit(self._limits.max_output_tokens, Finding("token_limit", "limits.max_output_tokens"))
        self.begin_run("")

    def snapshot(self) -> ReleaseState:
        """The state; see `restore`."""
        return ReleaseState(
            run=self.run,
            next=self.next_chunk,
            seq=self._seq,
            verdicts=self._telling.verdicts,
            released=self.released,
            seen_chars=self.seen_chars,
            cyrillic=self._cyrillic,
            first_token_ms=self.first_token_ms,
            lanes=tuple(
                LaneState(lane, text.snapshot(), loops.snapshot() if loops else None, tail.snapshot() if tail else None)
                for lane, (text, loops, tail) in self._lanes.items()
            ),
            placeholders=self._placeholders.numbers,
            told=self.scores.told,
            limit=self._limit if self._limit.tokens < self._limits.max_output_tokens else None,
            held=tuple(self._held),
            actions=self._telling.actions,
            found=self._telling.found,
            done=self._telling.done,
            scores=self.scores.highest,
            opinions=self.scores.opinions.snapshot() if self.scores.opinions else None,
        )

    def restore(self, state: ReleaseState) -> None:
        """Go on from a snapshot. Nothing is kept for the cache: the text released before is gone."""
        self.begin_run(state.run)
        self.next_chunk, self._seq = state.next, state.seq
        self.released, self.seen_chars, self._cyrillic = state.released, state.seen_chars, state.cyrillic
        self.first_token_ms = state.first_token_ms
        self._keep = None
        self._limit = state.limit or self._limit
        self._held = list(state.held)
        scores, told = self.scores, self._telling
        scores.told, scores.highest = state.told, state.scores
        told.verdicts, told.actions, told.found, told.done = state.verdicts, state.actions, state.found, state.done
        if scores.opinions and state.opinions:
            scores.opinions.restore(state.opinions)
        self._placeholders = Placeholders(state.placeholders)
        self._lanes = {
            one.lane: (
                GuardedText.restore(self._rules, self._placeholders, one.text, self._sentences),
                Loops.restore(one.loops) if one.loops else None,
                scores.watch(one.lane, one.tail),
            )
            for one in state.lanes
        }

    def begin_run(self, run: str, scored: bool = True) -> None:
        """Start on the text of a run; only possible while nothing was released. Is it to be scored, too?"""
        self.run = run
        self.scores.begin_run(run, scored)
        self._held = []
        self._limit = Limit(self._limits.max_output_tokens, Finding("token_limit", "limits.max_output_tokens"))
        self.next_chunk = 0
        """Number of the run's chunk that is due; a later one says that something of the text is missing."""
        self._lanes = {}
        self.seen_chars = self._cyrillic = 0

    @property
    def position(self) -> Position:
        """How much of the text has been seen."""
        return Position(self.run, self.seen_chars, self.seen_tokens)

    @property
    def seen_tokens(self) -> int:
        """Tokens of the current run so far, estimated."""
        return estimate_tokens(self._limits, self._cyrillic, self.seen_chars - self._cyrillic)

    def tokens_with(self, text: str) -> int:
        """Tokens of the current run once it has this text, too."""
        cyrillic = self._cyrillic + sum("\u0400" <= character <= "\u04ff" for character in text)
        return estimate_tokens(self._limits, cyrillic, self.seen_chars + len(text) - cyrillic)

    def limit_to(self, tokens: int, finding: Finding) -> Finding | None:
        """Let the current run give no more than `tokens`, unless less is allowed already. Returns why to stop, if it
        has given more."""
        if tokens < self._limit.tokens:
            self._limit = Limit(tokens, finding)
        return finding if self.seen_tokens > tokens else None

    def estimated_usage(self, prompt_tokens: int) -> Usage:
        """The current run's usage where the provider tells none."""
        return Usage(input=prompt_tokens, output=self.seen_tokens)

    def feed(self, chunk: Chunk, time_ms: int) -> Finding | None:
        """Take a chunk of the current run; a repeated one is dropped. Returns why to stop, if so."""
        if chunk.n < self.next_chunk:
            return None
        self.next_chunk = chunk.n + 1
        tool, said = chunk.tool, chunk.text
        lane: Lane = (chunk.kind, chunk.choice, tool.index if tool else 0)
        watched = self._lanes.get(lane) or self._begin(lane)
        text, loops, _ = watched
        if self.seen_chars + len(said) <= self._limit.tokens:  # no language has more tokens than characters
            allowed, finding = said, None
        else:
            allowed = self._within_limit(said)
            # What is held back stays so: behind the limit it might have become a phrase.
            finding = self._limit.finding if len(allowed) < len(said) else None
        loop = loops.feed(allowed) if loops is not None else None
        while loops is not None and loop is not None:  # as if it came in two pieces: nothing depends on how it is cut
            end = loop.end - text.seen
            stop = self._take(lane, watched, allowed[:end], tool, time_ms) or self._degenerated(lane, loop)
            if stop is not None:
                return stop
            allowed, tool = allowed[end:], None
            loop = loops.feed("")
        return self._take(lane, watched, allowed, tool, time_ms) or finding

    def _take(self, lane: Lane, watched: _Watched, piece: str, tool: ToolCall | None, time_ms: int) -> Finding | None:
        text, _, tail = watched
        cyrillic = text.cyrillic
        free, found = text.feed(piece)
        self.seen_chars += len(piece)
        self._cyrillic += text.cyrillic - cyrillic
        if tail is not None:
            left = tail.feed(piece)
            if left is not None:
                self.scores.ask(lane, tail, left)
        stop = self._judge(lane, found) if found else None
        if self._delays:
            self._wait(lane, free, tool, time_ms)
        else:
            self._emit(lane, free, tool, time_ms)
        return stop

    def scored(self, event: Scored, time_ms: int) -> Finding | None:
        """Take a classifier's scores. Returns why to stop, if so; if not, what waited for them goes."""
        finding = self.scores.take(event, self.position, time_ms)
        if finding is None and self._held:
            self._let_go((event.kind, event.choice, 0), event.at, time_ms)
        return finding

    def _wait(self, lane: Lane, text: str, tool: ToolCall | None, time_ms: int) -> None:
        """Emit what has been scored, where the policy says hold; what has not is held."""
        watched, _, tail = self._lanes[lane]
        if self._sentences and watched.pending:
            self._tell_of_hold("moderation.hold", "sentence")
        if not self.scores.holds or tail is None or tail.scored >= tail.seen:
            self._emit(lane, text, tool, time_ms)
        elif text:
            self._tell_of_hold("classifier.hold", "unscored")
            self._held.append(Held(lane, tail.seen, text, tool))

    def _tell_of_hold(self, rule: str, reason: str) -> None:
        """That text is held for longer than a match takes; told once a request."""
        if "hold" not in self._telling.done:
            self._telling.action(self.position, "hold", rule, reason)

    def _let_go(self, lane: Lane, upto: int, time_ms: int) -> None:
        """What has been scored need not wait any more."""
        held, self._held = self._held, []
        for piece in held:
            if piece.lane == lane and piece.upto <= upto:
                self._emit(lane, piece.text, piece.tool, time_ms)
            else:
                self._held.append(piece)

    def finish(self, time_ms: int) -> Finding | None:
        """The run is over: release what was held back, unless a phrase ends with the text."""
        for lane, (text, _, _) in self._lanes.items():
            free, found = text.finish()
            finding = self._judge(lane, found)
            if self._delays:
                self._wait(lane, free, None, time_ms)
            else:
                self._emit(lane, free, None, time_ms)
            if finding is not None:
                return finding
        return None

    def close(self) -> int:
        """No more text. Returns the number of the terminal event."""
        self.scores.clear()
        self._lanes = {}
        self._held = []
        return self._seq

    def cacheable_parts(self) -> tuple[AnswerPart, ...]:
        """The released text for the cache; empty where something was found in it, or it is too long."""
        return tuple(self._keep or ()) if self._telling.clean else ()

    def _begin(self, lane: Lane) -> _Watched:
        text = GuardedText(self._rules, self._placeholders, self._sentences)
        found = self._lanes[lane] = (text, Loops() if self._loops else None, self.scores.watch(lane))
        return found

    def _judge(self, lane: Lane, found: tuple[Found, ...]) -> Finding | None:
        """Tell what was found."""
        at = self.position
        for one in found:
            rule, place = one.pattern.rule, Place(lane[0], lane[1], (one.start, one.end))
            asked, detector = self._rules.asks[rule.id], one.pattern.detector
            self._telling.verdict(at, rule.id, rule.category, rule.severity, asked, place, one.text, detector=detector)
            if rule.action != "stop":
                self._telling.action(at, rule.action, rule.id, rule.category)
        stop = next((one.pattern.rule for one in found if one.pattern.rule.action == "stop"), None)
        if stop is None:
            return None
        return Finding("content_filter", stop.id)

    def _degenerated(self, lane: Lane, loop: Loop) -> Finding | None:
        """Tell of a loop."""
        reaction = getattr(self._reactions, loop.kind)
        if reaction == "ignore":
            return None
        at, rule = self.position, f"degeneration.{loop.kind}"
        place = Place(lane[0], lane[1], (loop.start, loop.end))
        action = self._telling.verdict(at, rule, "degeneration", 5, reaction, place)
        if action == "stop":
            return Finding("degeneration", rule)
        self._telling.action(at, "flag", rule, "degeneration")
        return None

    def _emit(self, lane: Lane, text: str, tool: ToolCall | None, time_ms: int) -> None:
        kind, choice, index = lane
        if kind == "tool_call" and tool is None:
            tool = ToolCall(index)
        if not text and (tool is None or not (tool.id or tool.name)):
            return
        if self.first_token_ms is None:
            self.first_token_ms = max(0.0, float(time_ms - self._submitted_ms))
        self.released += len(text) or 1
        self._out.append(Out("tokens", self._id, Tokens(self._id, self._tenant, self._seq, text, kind, choice, tool)))
        self._seq += 1
        if self._keep is not None:
            self._keep_for_cache(self._keep, AnswerPart(kind, text, choice, tool))

    def _keep_for_cache(self, keep: list[AnswerPart], part: AnswerPart) -> None:
        self._kept += len(part.text) if part.text.isascii() else len(part.text.encode())
        if self._kept > CACHE_LIMIT_BYTES:
            self._keep = None
        else:
            keep.append(part)

    def _within_limit(self, text: str) -> str:
        """As much of `text` as the token limit leaves room for, whatever pieces it came in."""
        limit = self._limit.tokens
        cyrillic, other = self._cyrillic, self.seen_chars - self._cyrillic
        if estimate_tokens(self._limits, cyrillic, other) + len(text) <= limit:
            return text
        for index, character in enumerate(text):
            if "\u0400" <= character <= "\u04ff":
                cyrillic += 1
            else:
                other += 1
            if estimate_tokens(self._limits, cyrillic, other) > limit:
                return text[:index]
        return text
