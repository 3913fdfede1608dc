"""What a classifier and a moderator say of an answer's texts: what they are asked, and what follows from it."""

from processors.events import Decision, Kind, Opinion, Scored
from processors.guard.opinion import Opinions
from processors.guard.outputs import Finding
from processors.guard.telling import Place, Position, Telling
from processors.guard.windows import Tail, TailState, Window
from processors.policy import Effective

Lane = tuple[Kind, int, int]
"""Texts that run side by side in an answer: by kind, choice and index of the tool call."""


class Scores:
    """The ends of one answer's texts, as far as they are to be scored, and what has been said of them."""

    __slots__ = (
        "_classifier", "_id", "_run", "_scored", "_tails", "_telling", "_tenant",
        "highest", "holds", "opinions", "told", "windows",
    )  # fmt: skip

    def __init__(self, decision: Decision, effective: Effective, telling: Telling) -> None:
        self._id, self._tenant = decision.id, decision.tenant
        self._classifier = effective.classifier
        self._telling = telling
        self._tails: dict[Lane, Tail] = {}
        self.highest: dict[str, float] = {}
        """By label of the classifier the highest score."""
        self.told: tuple[str, ...] = ()
        """Labels whose scores have been told of."""
        self.windows: list[Window] = []
        """What a classifier is to look at; whoever takes them clears them."""
        self.holds = self._classifier.hold and bool(self._classifier.labels) and not effective.moderation.dry_run
        """Whether text waits for its scores."""
        moderator = effective.moderator
        self.opinions = Opinions(moderator, effective.version) if moderator and moderator.ask else None
        self.begin_run("", scored=True)

    def begin_run(self, run: str, scored: bool) -> None:
        """Start on the text of a run. Is it to be scored?"""
        self._run, self._scored = run, scored
        self.told = ()
        self.clear()

    def clear(self) -> None:
        """No more text of this run."""
        self._tails = {}
        if self.opinions:
            self.opinions.clear()

    def watch(self, lane: Lane, state: TailState | None = None) -> Tail | None:
        """The end of a text, to be fed with it; None where nobody looks at it."""
        rules = self._classifier
        if not (rules.labels or self.opinions) or lane[0] == "tool_call" or not self._scored:
            return None
        wider = self.opinions.moderator.window_chars if self.opinions else 0
        tail = self._tails[lane] = Tail(rules.window_chars, rules.stride_chars, state, wider)
        return tail

    def ask(self, lane: Lane, tail: Tail, rest: str = "") -> None:
        """Have the end of a text scored, which goes on with `rest` of the piece it was fed."""
        left: str | None = rest
        while left is not None:
            tail.ask()
            self.windows.append(self._window(lane, tail))
            left = tail.feed(left)

    def ask_again(self) -> None:
        """Ask once more for scores that were asked for and have not come. The clock asks, so nothing else changes."""
        for lane, tail in self._tails.items():
            if tail.scored < tail.asked:
                self.windows.append(self._window(lane, tail))

    def ask_for_the_rest(self) -> bool:
        """All is over: ask for scores of what has none yet. Whether there is something of that."""
        waits = False
        for lane, tail in self._tails.items():
            if tail.scored < tail.seen:
                waits = True
                if tail.asked < tail.seen:
                    self.ask(lane, tail)
        return waits

    def lacks(self, window: Window) -> bool:
        """Whether no scores of the current run reach so far yet."""
        tail = self._tails.get((window.kind, window.choice, 0))
        return window.run == self._run and tail is not None and tail.scored < window.at

    def take(self, event: Scored, at: Position, time_ms: int) -> Finding | None:
        """Take a classifier's scores. Returns why to stop, if so. Each label is told of once."""
        tail = self._tails.get((event.kind, event.choice, 0))
        if tail is not None:
            tail.scored = max(tail.scored, event.at)
        finding = self._judge(event, at)
        if finding is None and self.opinions and tail is not None:
            self.opinions.consider(event, tail.seen, tail.whole, time_ms)
        return finding

    def take_opinion(self, event: Opinion, at: Position) -> Finding | None:
        """Take a moderator's opinion. Returns why to stop, if so."""
        reaction = self.opinions.answered(event) if self.opinions else None
        if self.opinions is None or reaction is None:
            return None
        moderator = self.opinions.moderator
        place = Place(event.kind, event.choice, reaction.span)
        action = self._telling.verdict(
            at, reaction.rule, moderator.category, moderator.severity, reaction.action, place
        )
        if action == "stop":
            return Finding("content_filter", reaction.rule)
        self._telling.action(at, "flag", reaction.rule, moderator.category)
        return None

    def _window(self, lane: Lane, tail: Tail) -> Window:
        kind, choice, _ = lane
        return Window(self._id, self._tenant, self._run, kind, choice, tail.seen, tail.text, tail.scored)

    def _judge(self, event: Scored, at: Position) -> Finding | None:
        finding = None
        for label, score in event.scores.items():
            if score > self.highest.get(label, 0.0):
                self.highest[label] = score
            rule = self._classifier.labels.get(label)
            if rule is None or score <= rule.above or label in self.told:
                continue
            self.told += (label,)
            name = f"classifier.{label}"
            place = Place(event.kind, event.choice, (max(0, event.at - self._classifier.window_chars), event.at))
            action = self._telling.verdict(at, name, label, rule.severity, rule.action, place, score=score)
            if action == "flag":
                self._telling.action(at, "flag", name, label)
            elif finding is None:
                finding = Finding("content_filter", name)
        return finding
