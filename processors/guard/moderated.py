"""The guard for one text, without a broker: a policy in, pieces of text in, releases and verdicts out.

For programs that want nothing else of us. It is the same release that a stage's streams go through; what needs more
than the text is not in it: limits of cost and time, budgets, a moderator's second opinion.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from processors.errors import Invalid
from processors.events import Chunk, Decision, Order, Scored, Target, Tokens, Verdict
from processors.guard.messages import Language
from processors.guard.outputs import Finding, Out
from processors.guard.release import Release
from processors.guard.rules import CompiledRules
from processors.guard.telling import Telling
from processors.guard.windows import Window
from processors.policy import ClassifierRules, Effective
from processors.times import from_ms

_RUN = "run"
_ORDER = Order(Target("", ""), from_ms(0), from_ms(0))
Scorer = Callable[[Sequence[Window]], Sequence[Scored]]
"""What a classifier says of ends of texts."""


class Moderated(NamedTuple):
    """What came of a piece: text for the reader, masks in place; what was found; why to stop, if so. Behind a stop
    nothing more is given, and the rest of the text is to be withheld."""

    text: str
    verdicts: tuple[Verdict, ...] = ()
    stop: Finding | None = None


class ModeratedText:
    """A text as it grows. How it is cut into pieces changes nothing."""

    def __init__(
        self,
        effective: Effective,
        rules: CompiledRules | None = None,
        scorer: Scorer | None = None,
        language: Language = "en",
        id: str = "",
    ) -> None:
        """`rules`, compiled from the same policy, save that work for each text but the first. Without a `scorer` the
        policy's classifier is left out. `language` is the request's, for rules that are for some languages only; `id`
        stands in the verdicts.

        Raises:
            Invalid: the policy holds text until it has been scored, and nobody is there to score it.
        """
        if scorer is None:
            effective = _unscored(effective)
        effective = msgspec.structs.replace(effective, moderator=None)
        answers = (rules or CompiledRules(effective)).answers[language]
        decision = Decision(id, effective.tenant, 1, effective.version, "", _ORDER, language=language)
        self._out: list[Out] = []
        self._telling = Telling(id, effective.tenant, effective.version, effective.moderation.dry_run, self._out)
        self._release = Release(decision, 0, effective, answers, self._telling, self._out)
        self._release.begin_run(_RUN)
        self._decision, self._scorer = decision, scorer
        self._pieces = 0
        self._stop: Finding | None = None

    def feed(self, piece: str) -> Moderated:
        """Add a piece."""
        if self._stop is not None:
            return Moderated("", (), self._stop)
        chunk = Chunk(self._decision.id, self._decision.tenant, _RUN, self._pieces, piece)
        self._pieces += 1
        return self._told(self._release.feed(chunk, 0) or self._score())

    def finish(self) -> Moderated:
        """The text is over: what was held back is given, unless something was found at its end."""
        if self._stop is not None:
            return Moderated("", (), self._stop)
        finding = self._release.finish(0)
        if finding is None and self._release.scores.ask_for_the_rest():
            finding = self._score()
        return self._told(finding)

    def _score(self) -> Finding | None:
        windows = self._release.scores.windows[:]
        self._release.scores.windows.clear()
        for event in self._scorer(windows) if windows and self._scorer else ():
            if not event.scores and self._release.scores.holds:
                return Finding("content_filter", "classifier.hold")
            finding = self._release.scored(event, 0)
            if finding is not None:
                return finding
        return None

    def _told(self, finding: Finding | None) -> Moderated:
        if finding is not None and finding.is_limit:
            self._telling.verdict_on_limit(self._release.position, finding.rule)
        self._stop = finding
        events = [one.event for one in self._out]
        self._out.clear()
        text = "".join(event.text for event in events if isinstance(event, Tokens))
        return Moderated(text, tuple(event for event in events if isinstance(event, Verdict)), finding)


def _unscored(effective: Effective) -> Effective:
    classifier = effective.classifier
    if classifier.hold and classifier.labels and not effective.moderation.dry_run:
        raise Invalid("classifier.hold", "nothing would ever be released without a scorer; give one, or hold nothing")
    return msgspec.structs.replace(effective, classifier=ClassifierRules())
