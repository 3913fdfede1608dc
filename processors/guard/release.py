"""What of an answer's text may be read: the rules and the token limit, applied as the text grows."""

from typing import Literal, NamedTuple

import msgspec

from processors.events import AnswerPart, Chunk, Decision, Kind, Order, Scored, Tokens, ToolCall, Usage, Verdict
from processors.guard.loops import Loop, Loops, LoopsState
from processors.guard.outputs import Out
from processors.guard.rules import RuleSet
from processors.guard.text import Found, GuardedText, Placeholders, TextState
from processors.guard.windows import Tail, TailState, Window
from processors.identity import content_hash
from processors.money import estimate_tokens
from processors.policy import Degeneration, Effective

CACHE_LIMIT_BYTES = 32 << 10
"""A longer answer is not kept for the cache, so that no stream's state grows without bound."""

NO_REACTION = Degeneration("ignore", "ignore", "ignore", "ignore")
Asked = Literal["flag", "mask", "stop", "refuse"]
"""What a rule asks for."""
_Lane = tuple[Kind, int, int]
"""Texts that run side by side in an answer: by kind, choice and index of the tool call."""
_Watched = tuple[GuardedText, Loops | None, Tail | None]
"""A text, and what looks at its end."""


class Finding(NamedTuple):
    """Why the answer must stop."""

    reason: Literal["content_filter", "token_limit", "degeneration"]
    rule: str
    message: str


class LaneState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one text."""

    lane: _Lane
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


class Release:
    """The texts of one answer: feeds them through the rules, numbers and emits what may be read."""

    def __init__(
        self, decision: Decision, submitted_ms: int, effective: Effective, rules: RuleSet, out: list[Out]
    ) -> None:
        self.released = 0
        """Characters released so far, of all texts."""
        self.seen_chars = 0
        self.first_token_ms: float | None = None
        self._id, self._tenant = decision.id, decision.tenant
        self._submitted_ms = submitted_ms
        self._policy, self._limits = effective.version, effective.limits
        self._rules = rules
        self._out = out
        self._seq = 0
        self._verdicts = 0
        self._keep: list[AnswerPart] | None = [] if decision.cache_key else None
        self._kept = 0
        self._cyrillic = 0
        self.windows: list[Window] = []
        """What a classifier is to look at; whoever takes them clears them."""
        self._lanes: dict[_Lane, _Watched] = {}
        self._classifier = effective.classifier
        self._told: tuple[str, ...] = ()
        """Labels whose scores have been told of."""
        self._reactions = effective.degeneration
        self._loops = effective.degeneration != NO_REACTION
        self._sentences = effective.moderation.hold == "sentence"
        self._placeholders = Placeholders()
        self.begin_run("")

    def snapshot(self) -> ReleaseState:
        """The state; see `restore`."""
        return ReleaseState(
            run=self._run,
            next=self.next_chunk,
            seq=self._seq,
            verdicts=self._verdicts,
            released=self.released,
            seen_chars=self.seen_chars,
            cyrillic=self._cyrillic,
            first_token_ms=self.first_token_ms,
            lanes=tuple(
                LaneState(lane, text.snapshot(), loops.snapshot() if loops else None, tail.snapshot() if tail else None)
                for lane, (text, loops, tail) in self._lanes.items()
            ),
            placeholders=self._placeholders.numbers,
            told=self._told,
        )

    def restore(self, state: ReleaseState) -> None:
        """Go on from a snapshot. Nothing is kept for the cache: the text released before is gone."""
        self.begin_run(state.run)
        self.next_chunk, self._seq, self._verdicts = state.next, state.seq, state.verdicts
        self.released, self.seen_chars, self._cyrillic = state.released, state.seen_chars, state.cyrillic
        self.first_token_ms = state.first_token_ms
        self._keep = None
        self._told = state.told
        self._placeholders = Placeholders(state.placeholders)
        self._lanes = {
            one.lane: (
                GuardedText.restore(self._rules, self._placeholders, one.text, self._sentences),
                Loops.restore(one.loops) if one.loops else None,
                self._tail(one.lane, one.tail),
            )
            for one in state.lanes
        }

    def begin_run(self, run: str) -> None:
        """Start on the text of a run; only possible while nothing was released."""
        self._run = run
        self._told = ()
        self.next_chunk = 0
        """Number of the run's chunk that is due; a later one says that something of the text is missing."""
        self._lanes = {}
        self.seen_chars = self._cyrillic = 0

    @property
    def seen_tokens(self) -> int:
        """Tokens of the current run so far, estimated."""
        return estimate_tokens(self._limits, self._cyrillic, self.seen_chars - self._cyrillic)

    def tokens_left(self, order: Order | None) -> int:
        """What a stop saves at most: the rest of the request's token limit, or of the policy's where it has none.

        An upper bound, not an expectation: how long the answer would have become is not known.
        """
        limit = (order.max_tokens if order else None) or self._limits.max_output_tokens
        return max(0, limit - self.seen_tokens)

    def estimated_usage(self, prompt_tokens: int) -> Usage:
        """The current run's usage where the provider tells none."""
        return Usage(input=prompt_tokens, output=self.seen_tokens)

    def feed(self, chunk: Chunk, time_ms: int) -> Finding | None:
        """Take a chunk of the current run; a repeated one is dropped. Returns why to stop, if so."""
        if chunk.n < self.next_chunk:
            return None
        self.next_chunk = chunk.n + 1
        tool = chunk.tool
        lane: _Lane = (chunk.kind, chunk.choice, tool.index if tool else 0)
        text, loops, tail = self._lanes.get(lane) or self._begin(lane)
        allowed, cyrillic = self._within_limit(chunk.text), text.cyrillic
        free, found = text.feed(allowed)
        self.seen_chars += len(allowed)
        self._cyrillic += text.cyrillic - cyrillic
        if found:
            finding = self._emit_judged(lane, free, found, tool, time_ms)
        else:
            finding = None
            self._emit(lane, free, tool, time_ms)
        if loops is not None and finding is None:
            loop = loops.feed(allowed)
            if loop is not None:
                finding = self._degenerated(lane, loop, loops)
        if tail is not None and tail.feed(allowed):
            kind, choice, _ = lane
            self.windows.append(Window(self._id, self._tenant, self._run, kind, choice, tail.seen, tail.text))
        if finding is None and len(allowed) < len(chunk.text):
            # What is held back stays so: behind the limit it might have become a phrase.
            finding = Finding("token_limit", "limits.max_output_tokens", "Token limit reached.")
        return finding

    def scored(self, event: Scored) -> Finding | None:
        """Take a classifier's scores. Returns why to stop, if so. Each label is told of once."""
        finding = None
        for label, score in event.scores.items():
            rule = self._classifier.labels.get(label)
            if rule is None or score <= rule.above or label in self._told:
                continue
            self._told += (label,)
            self._keep = None
            name = f"classifier.{label}"
            span = (max(0, event.at - self._classifier.window_chars), event.at)
            lane: _Lane = (event.kind, event.choice, 0)
            self._verdict(name, label, rule.severity, rule.action, lane, span, score=score)
            if rule.action == "stop" and finding is None:
                finding = Finding("content_filter", name, f"The answer was stopped as {label}.")
        return finding

    def finish(self, time_ms: int) -> Finding | None:
        """The run is over: release what was held back, unless a phrase ends with the text."""
        for lane, (text, _, _) in self._lanes.items():
            free, found = text.finish()
            finding = self._emit_judged(lane, free, found, None, time_ms)
            if finding is not None:
                return finding
        return None

    def close(self) -> int:
        """No more text. Returns the number of the terminal event."""
        self._lanes = {}
        return self._seq

    def cacheable_parts(self) -> tuple[AnswerPart, ...]:
        """The released text for the cache; empty where it was flagged or is too long."""
        return tuple(self._keep or ())

    def verdict_on_prompt(self, rule: str, category: str, severity: int, action: Asked = "flag") -> None:
        """Tell what was found in the prompt."""
        self._verdict(rule, category, severity, action, source="prompt")

    def _begin(self, lane: _Lane) -> _Watched:
        text = GuardedText(self._rules, self._placeholders, self._sentences)
        found = self._lanes[lane] = (text, Loops() if self._loops else None, self._tail(lane))
        return found

    def _emit_judged(
        self, lane: _Lane, free: str, found: tuple[Found, ...], tool: ToolCall | None, time_ms: int
    ) -> Finding | None:
        """Emit what is free, and tell what was found."""
        for one in found:
            rule = one.pattern.rule
            span = (one.start, one.end)
            self._verdict(
                rule.id, rule.category, rule.severity, rule.action, lane, span, one.text, detector=one.pattern.detector
            )
            self._keep = None
        self._emit(lane, free, tool, time_ms)
        stop = next((one.pattern.rule for one in found if one.pattern.rule.action == "stop"), None)
        if stop is None:
            return None
        return Finding("content_filter", stop.id, f"The answer was stopped by rule {stop.id}.")

    def _degenerated(self, lane: _Lane, first: Loop, loops: Loops) -> Finding | None:
        """Tell of a loop, and of those that stand behind it in the same piece."""
        loop: Loop | None = first
        while loop is not None:
            reaction = getattr(self._reactions, loop.kind)
            if reaction != "ignore":
                rule = f"degeneration.{loop.kind}"
                self._verdict(rule, "degeneration", 5, reaction, lane, (loop.start, loop.end))
                self._keep = None
                if reaction == "stop":
                    return Finding("degeneration", rule, "The answer was stopped because it repeated itself.")
            loop = loops.feed("")
        return None

    def _emit(self, lane: _Lane, text: str, tool: ToolCall | None, time_ms: int) -> None:
        kind, choice, index = lane
        if kind == "tool_call" and tool is None:
            tool = ToolCall(index)
        if not text and not (tool and (tool.id or tool.name)):
            return
        if self.first_token_ms is None:
            self.first_token_ms = max(0.0, time_ms - self._submitted_ms)
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

    def _tail(self, lane: _Lane, state: TailState | None = None) -> Tail | None:
        rules = self._classifier
        if not rules.labels or lane[0] == "tool_call":
            return None
        return Tail(rules.window_chars, rules.stride_chars, state)

    def _within_limit(self, text: str) -> str:
        """As much of `text` as the token limit leaves room for, whatever pieces it came in."""
        limit = self._limits.max_output_tokens
        if self.seen_chars + len(text) <= limit:  # no language has more tokens than characters
            return text
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

    def _verdict(
        self,
        rule: str,
        category: str,
        severity: int,
        action: Asked,
        lane: _Lane = ("content", 0, 0),
        span: tuple[int, int] = (0, 0),
        text: str = "",
        source: Literal["prompt", "answer"] = "answer",
        detector: str = "",
        score: float | None = None,
    ) -> None:
        verdict = Verdict(
            id=self._id,
            tenant=self._tenant,
            run=self._run,
            n=self._verdicts,
            rule=rule,
            category=category,
            severity=severity,
            policy=self._policy,
            source=source,
            action=action,
            detector=detector,
            score=score,
            kind=lane[0],
            choice=lane[1],
            span=span,
            text_hash=content_hash(text.encode()) if text else "",
            seen_chars=self.seen_chars,
            seen_tokens=self.seen_tokens,
        )
        self._verdicts += 1
        self._out.append(Out("verdicts", self._id, verdict))
