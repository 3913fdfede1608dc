"""Fitting the heads and judging them on what they were not fitted on."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from models import quality
from models.linear import Floats, Linear, fit, idf, weighted
from models.quality import Bools, Figure, Indices, Stops
from models.rows import HEADS, Row
from models.windows import made_up, matrix, windows

LABELLED = {
    "toxicity": ("toxic_text_ru", "toxic_text_ru.openrail", "toxic_text_en"),
    "harmful": ("harmful_responses",),
}
"""By head the sources that people labelled for it. Each is also left out once, to see what carries over to it."""
FALSE = 0.01
"""Share of harmless texts that may be stopped; sets the thresholds."""
_STRENGTH = {"toxicity": 0.2, "harmful": 1.0}
"""Inverse of the regularisation."""
_POWER = {"toxicity": 0.25, "harmful": 0.5}
"""How a text's length counts. Of a few values tried, both are the best with a source, questions or templates apart."""
_WRITTEN = {"toxicity": 0.3, "harmful": 3.0}
"""What a text written for this project counts: it alone has harmful answers in Russian, and to other questions."""
_OTHERS = 0.3
"""What any other text counts whose source nobody labelled for the head."""
KINDS = "harmless texts of other kinds"
_FOLDS = 4
_BATCH = 512

Tick = Callable[[str, float], None]
"""Told of each step: what it is, and the share of it that is done."""


class Judged(NamedTuple):
    """Quality of one head on texts that it was not fitted on: what was kept apart, and how good it is there.

    `auc` is None where all texts are harmless; `kinds` tells then by source how many there are and how many it stops.
    """

    head: str
    apart: str
    texts: int
    auc: Figure | None
    stops: Stops
    kinds: dict[str, tuple[int, int]]


class Trained(NamedTuple):
    """The model, the thresholds by head, and how good it is."""

    model: Linear
    thresholds: dict[str, float]
    judged: list[Judged]


class _Scored(NamedTuple):
    """Logits of the windows of `rows`, which were not fitted on; `texts` counts in `rows`, `ends` in characters."""

    rows: Indices
    texts: Indices
    ends: Indices
    logits: Floats


class Examples:
    """The windows of all rows, and their buckets."""

    def __init__(self, rows: Sequence[Row], seed: int, tick: Tick) -> None:
        self.rows = rows
        self.seed = seed
        found = [*windows(rows), *made_up(rows, seed)]
        parts = []
        for start in range(0, len(found), _BATCH):
            tick("features", start / len(found))
            parts.append(matrix([window.text for window in found[start : start + _BATCH]]))
        self.buckets = parts[0] if len(parts) == 1 else _stacked(parts)
        self.row = np.array([window.row for window in found], np.int64)
        self.end = np.array([window.end for window in found], np.int64)
        self.sources = np.array([row.source for row in rows])
        self._windows = np.bincount(self.row, minlength=len(rows))

    def labels(self, head: str) -> npt.NDArray[np.int8]:
        """By row -1 where the head is told nothing, else 0 or 1."""
        return np.array([-1 if row.label(head) is None else int(row.label(head) or 0) for row in self.rows], np.int8)

    def rarity(self, rows: Bools) -> Floats:
        """Weights of buckets, from these rows only."""
        chosen = rows[self.row]
        return idf(self.buckets[chosen], self.row[chosen])

    def fitted(self, head: str, rows: Bools, rarity: Floats) -> tuple[Floats, float]:
        """A head's weights and bias, from these rows only. However long a text is, it counts once."""
        labels = self.labels(head)
        chosen = rows[self.row] & (labels[self.row] >= 0)
        of = self.row[chosen]
        weights = np.where(np.isin(self.sources[of], LABELLED[head]), 1.0, _OTHERS)
        weights[self.sources[of] == "written"] = _WRITTEN[head]
        weights /= self._windows[of]
        return fit(
            weighted(self.buckets[chosen], rarity, _POWER[head]), labels[of] == 1, weights, _STRENGTH[head], self.seed
        )

    def scored(self, head: str, held: Bools) -> _Scored:
        """What a head fitted on the other rows says of the held ones."""
        rarity = self.rarity(~held)
        weights, bias = self.fitted(head, ~held, rarity)
        chosen = held[self.row] & (self.end > 0)
        rows = np.nonzero(held)[0]
        texts = np.searchsorted(rows, self.row[chosen])
        logits = weighted(self.buckets[chosen], rarity, _POWER[head]) @ weights + np.float32(bias)
        return _Scored(rows, texts, self.end[chosen], np.asarray(logits, np.float32))


def train(rows: Sequence[Row], seed: int, tick: Tick = lambda step, share: None) -> Trained:
    """Fit both heads on all rows, and judge each on rows kept apart: whole questions, whole templates, whole sources.

    Raises:
        ValueError: a head has no labelled source with both labels.
    """
    examples = Examples(rows, seed, tick)
    rarity = examples.rarity(np.ones(len(rows), bool))
    columns, biases, thresholds, judged = [], [], {}, []
    for head in HEADS:
        scale, shift, over, figures = _judge(examples, head, tick)
        tick(f"{head}: final", 0)
        weights, bias = examples.fitted(head, np.ones(len(rows), bool), rarity)
        columns.append(weights * rarity * np.float32(scale))
        biases.append(bias * scale + shift)
        thresholds[head] = over
        judged += figures
    table = np.stack([*columns, rarity**2], axis=1).astype(np.float32)
    power = np.array([_POWER[head] for head in HEADS], np.float32)
    return Trained(Linear(table, np.array(biases, np.float32), power), thresholds, judged)


def _judge(examples: Examples, head: str, tick: Tick) -> tuple[float, float, float, list[Judged]]:
    """A head's calibration, threshold and figures, all from texts that it was not fitted on."""
    labels = examples.labels(head)
    apart: dict[str, _Scored] = {}
    sources = [name for name in LABELLED[head] if {0, 1} <= {*labels[examples.sources == name].tolist()}]
    if not sources:
        raise ValueError(f"{head}: no source holds both labels; needed is one of {', '.join(LABELLED[head])}")
    labelled = np.isin(examples.sources, sources) & (labels >= 0)
    for name, groups in _groupings(examples.rows, head).items():
        apart[name] = _crossed(examples, head, labelled, groups, partial(tick, f"{head}: {name}"))
    if len(sources) > 1:
        for name in sources:
            tick(f"{head}: without {name}", 0)
            apart[f"source {name}"] = examples.scored(head, (examples.sources == name) & (labels >= 0))
    written = (examples.sources == "written") & (labels >= 0)
    if len(np.unique(labels[written])) > 1:
        groups = [row.group for row in examples.rows]
        apart["written"] = _crossed(examples, head, written, groups, partial(tick, f"{head}: written"))
    others = ~np.isin(examples.sources, (*LABELLED[head], "toxic_written")) & (labels == 0)
    if others.any():
        kinds = [row.source for row in examples.rows]
        apart[KINDS] = _crossed(examples, head, others, kinds, partial(tick, f"{head}: {KINDS}"))
    first = next(iter(apart.values()))
    scale, shift = _calibrated(labels, first)
    over = max(_threshold(labels, apart[name]) for name in (*_groupings(examples.rows, head), KINDS) if name in apart)
    figures = [_judged(examples, head, name, one, over) for name, one in apart.items()]
    chance = float(1 / (1 + np.exp(-(over * scale + shift))))
    return scale, shift, round(chance, 4), figures


def _groupings(rows: Sequence[Row], head: str) -> dict[str, list[str]]:
    if head == "harmful":
        return {"questions": [row.group for row in rows], "templates": [row.template for row in rows]}
    return {"texts": [row.group for row in rows]}


def _crossed(
    examples: Examples, head: str, held: Bools, groups: Sequence[str], tick: Callable[[float], None]
) -> _Scored:
    """Cross-validation: each group in turn is kept apart, together with others."""
    rows = np.nonzero(held)[0]
    number = np.unique(np.array([groups[row] for row in rows.tolist()]), return_inverse=True)[1]
    folds = GroupKFold(min(_FOLDS, int(number.max()) + 1)).split(rows, groups=number)
    parts = []
    for fold, (_, test) in enumerate(folds):
        tick(fold / _FOLDS)
        mask = np.zeros(len(held), bool)
        mask[rows[test]] = True
        parts.append(examples.scored(head, mask))
    texts = [np.searchsorted(rows, part.rows[part.texts]) for part in parts]
    return _Scored(
        rows,
        np.concatenate(texts),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.logits for part in parts]),
    )


def _calibrated(labels: npt.NDArray[np.int8], scored: _Scored) -> tuple[float, float]:
    """Scale and shift that make a text's highest logit one of its label, at equal numbers of both (Platt 1999)."""
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows)).reshape(-1, 1)
    model = LogisticRegression(C=1e6, class_weight="balanced").fit(maxima, labels[scored.rows] == 1)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _threshold(labels: npt.NDArray[np.int8], scored: _Scored) -> float:
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows))
    return quality.threshold(labels[scored.rows] == 1, maxima, FALSE)


def _judged(examples: Examples, head: str, name: str, scored: _Scored, over: float) -> Judged:
    violating = examples.labels(head)[scored.rows] == 1
    groups = [examples.rows[row].group for row in scored.rows]
    if name == "templates":
        groups = [examples.rows[row].template for row in scored.rows]
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows))
    area = quality.auc(violating, maxima, groups, examples.seed) if violating.any() else None
    stops = quality.stops(violating, scored.logits, scored.texts, scored.ends, over, groups, examples.seed)
    return Judged(head, name, len(scored.rows), area, stops, {} if area else _stopped(examples, scored, maxima > over))


def _stopped(examples: Examples, scored: _Scored, stopped: Bools) -> dict[str, tuple[int, int]]:
    """By source how many texts there are, and how many of them are stopped."""
    of = examples.sources[scored.rows]
    return {str(name): (int((of == name).sum()), int(stopped[of == name].sum())) for name in np.unique(of)}


def _stacked(parts: list[sparse.csr_matrix]) -> sparse.csr_matrix:
    return sparse.vstack(parts, format="csr")
