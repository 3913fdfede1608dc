"""The guard's text classifier: the ends of all growing answers that are due, scored in one batch a pass.

A thread scores beside the guard's loop, so that no chunk waits for a model, however slow it is. What it says the guard
takes from `scores` and writes to the journal. Where a model falls behind, the newest window of a text stands for those
before it, as far as all of the text is still looked at: an answer may come all at once.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING

from processors.events import Kind, Scored
from processors.guard.windows import Window

if TYPE_CHECKING:
    from connectors.classifier import Classifier

log = logging.getLogger(__name__)

MOST = 256
"""Windows of one call of the model."""
CLOSE_S = 2.0
_Text = tuple[str, str, Kind, int]
"""A text by request, run, kind and choice."""


class Scoring:
    """Loads the model when it is first needed. That there is none is told once, and scores are empty."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._classifier: Classifier | None = None
        self._broken = False

    def scored(self, windows: Sequence[Window]) -> list[Scored]:
        """What the model says of each window; without one, that nothing can be said."""
        self.load()
        if self._classifier is None:
            return [_scored(window, {}, "") for window in windows]
        try:
            return score(self._classifier, windows)
        except Exception:  # these texts' trouble: their answers must not wait for ever, nor others go unscored
            log.exception("%d windows could not be scored", len(windows))
            return [_scored(window, {}, self._classifier.version) for window in windows]

    @property
    def looks_at(self) -> int | None:
        """Characters of a window's end that every label of the model looks at; None while there is no model."""
        return self._classifier.looks_at if self._classifier else None

    def load(self) -> None:
        """Load the model, if that was not tried yet: some 0.3 s, most of it onnxruntime's own start."""
        if self._classifier is not None or self._broken:
            return
        try:
            from connectors.classifier import BUILT_IN, Classifier

            self._classifier = Classifier.load(self._folder or BUILT_IN)
            log.info("classifier %s, labels %s", self._classifier.version, ", ".join(self._classifier.labels))
        except Exception as error:  # whatever is wrong with it, the rules still hold
            self._broken = True
            log.error("no classifier, nothing is scored: %s", error)


class ScoringThread:
    """Starts nothing before the first window. One thread scores all that waits, in one batch, again and again."""

    def __init__(self, scoring: Scoring) -> None:
        self.scores: SimpleQueue[Scored] = SimpleQueue()
        """What has come and was not taken yet."""
        self._scoring = scoring
        self._changed = Condition()
        self._waiting: dict[_Text, list[Window]] = {}
        self._under_way: dict[_Text, int] = {}
        """How far into each text the batch goes that is being scored."""
        self._closing = False
        self._thread: Thread | None = None

    def put(self, windows: Iterable[Window]) -> None:
        """Have windows scored. Returns at once."""
        with self._changed:
            for window in windows:
                self._add(window)
            self._changed.notify()
        if self._thread is None and self._waiting:
            self._thread = Thread(target=self._run, name="scoring", daemon=True)
            self._thread.start()

    def take(self) -> list[Scored]:
        """What has come since, for the journal."""
        return [self.scores.get_nowait() for _ in range(self.scores.qsize())]

    @property
    def busy(self) -> bool:
        """Whether scores are still to come."""
        return bool(self._waiting or self._under_way or not self.scores.empty())

    def close(self) -> None:
        """Score nothing more. What waits is asked for again, by a successor."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _add(self, window: Window) -> None:
        """Put a window in place of those that it makes needless, unless it is asked for already."""
        text = (window.id, window.run, window.kind, window.choice)
        begun = self._under_way.get(text, 0)
        waiting = self._waiting.get(text, [])
        if window.at <= (waiting[-1].at if waiting else begun):
            return
        known = max(begun, window.after)
        begin = max(window.begin, window.at - (self._scoring.looks_at or window.at))
        while waiting and begin <= max(known, waiting[-2].at if waiting[1:] else 0):
            waiting.pop()
        self._waiting[text] = [*waiting, window]

    def _run(self) -> None:
        while batch := self._next():
            for one in self._scoring.scored(batch):
                self.scores.put(one)
            self._under_way = {}

    def _next(self) -> list[Window]:
        """All that waits, as soon as something does; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            waiting, self._waiting = self._waiting, {}
            self._under_way = {text: windows[-1].at for text, windows in waiting.items()}
        return [] if self._closing else [window for windows in waiting.values() for window in windows]


def labels_of_model(folder: Path | None) -> dict[str, int]:
    """By label of the model that a guard would load how many characters of a text's end it looks at.

    Raises:
        Invalid: there is none.
    """
    from connectors.classifier import BUILT_IN, labels_of

    return labels_of(folder or BUILT_IN)


def score(classifier: "Classifier", windows: Sequence[Window]) -> list[Scored]:
    """What a model says of each window, in batches."""
    found: list[Scored] = []
    for begin in range(0, len(windows), MOST):
        batch = windows[begin : begin + MOST]
        for window, scores in zip(batch, classifier.score([one.text for one in batch]), strict=True):
            found.append(_scored(window, scores, classifier.version))
    return found


def _scored(window: Window, scores: dict[str, float], model: str) -> Scored:
    rounded = {label: round(score, 4) for label, score in scores.items()}
    return Scored(window.id, window.tenant, window.run, window.at, rounded, model, window.kind, window.choice)
