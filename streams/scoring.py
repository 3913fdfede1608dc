"""The guard's text classifier: the ends of all growing answers that are due, scored in one batch a poll."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from processors.events import Scored
from processors.guard.windows import Window

if TYPE_CHECKING:
    from connectors.classifier import Classifier

log = logging.getLogger(__name__)

MOST = 256
"""Windows of a batch: what a guard that fell behind holds up its chunks for, some tens of milliseconds."""


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
        return score(self._classifier, windows)

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
