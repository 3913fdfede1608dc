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
from models.windows import WINDOWS, made_up, matrix, windows

LABELLED = {
    "toxicity": ("toxic_text_ru", "toxic_text_ru.openrail", "toxic_text_en"),
    "harmful": ("harmful_responses",),
}
"""By head the sources that people labelled for it. Each is also left out once, to see what carries over to it."""
FALSE = {"toxicity": 0.01, "harmful": 0.008}
"""Share of harmless texts that may be stopped; sets the thresholds. What stops is to keep to 1 % on unseen texts."""
_STRENGTH = {"toxicity": 2.0, "harmful": 4.0}
"""Inverse of the regularisation."""
_POWER = {"toxicity": 0.15, "harmful": 0.5}
"""How a text's length counts. A compromise, as are the strengths: no value was best for every source."""
_WRITTEN = {"toxicity": 0.3, "harmful": 3.0}
"""What a text written for this project counts: it alone has harmful answers in Russian, and to other questions."""
_LISTED = 1.0
"""What a sentence of the lists of insults and swearing counts for toxicity: words that a source may never hold."""
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
    """By head its model and threshold, and how good all are."""

    models: dict[str, Linear]
    thresholds: dict[str, float]
    judged: list[Judged]


class _Scored(NamedTuple):
    """Logits of the windows of `rows`, which were not fitted on; `texts` counts in `rows`, `ends` in characters."""

    rows: Indices
    texts: Indices
    ends: Indices
    logits: Floats


class Examples:
    """The rows that tell a head something, their windows, and the buckets of these."""

    def __init__(self, rows: Sequence[Row], head: str, seed: int, tick: Tick) -> None:
        self.rows = [row for row in rows if row.label(head) is not None]
        self.head = head
        self.seed = seed
        found = windows(self.rows, WINDOWS[head])
        if head == "toxicity":
            found += made_up(self.rows, seed)
        parts = []
        for start in range(0, len(found), _BATCH):
            tick(f"{head}: features", start / len(found))
            parts.append(matrix([window.text for window in found[start : start + _BATCH]], head))
        self.buckets = _stacked(parts)
        self.row = np.array([window.row for window in found], np.int64)
        self.end = np.array([window.end for window in found], np.int64)
        self.labels = np.array([bool(row.label(head)) for row in self.rows])
        self.sources = np.array([row.source for row in self.rows])
        self._windows = np.bincount(self.row, minlength=len(self.rows))

    def rarity(self, rows: Bools) -> Floats:
        """Weights of buckets, from these rows only."""
        chosen = rows[self.row]
        return idf(self.buckets[chosen], self.row[chosen])

    def fitted(self, rows: Bools, rarity: Floats) -> tuple[Floats, float]:
        """Weights and bias, from these rows only. However long a text is, it counts once."""
        chosen = rows[self.row]
        of = self.row[chosen]
        weights = self._counts()[of] / self._windows[of]
        texts = weighted(self.buckets[chosen], rarity, _POWER[self.head])
        return fit(texts, self.labels[of], weights, _STRENGTH[self.head], self.seed)

    def _counts(self) -> npt.NDArray[np.float64]:
        """By row what it counts."""
        counts = np.where(np.isin(self.sources, LABELLED[self.head]), 1.0, _OTHERS)
        counts[self.sources == "written"] = _WRITTEN[self.head]
        counts[self.sources == "toxic_written"] = _LISTED
        return counts

    def scored(self, held: Bools) -> _Scored:
        """What the head, fitted on the other rows, says of the held ones."""
        rarity = self.rarity(~held)
        weights, bias = self.fitted(~held, rarity)
        chosen = held[self.row] & (self.end > 0)
        rows = np.nonzero(held)[0]
        texts = np.searchsorted(rows, self.row[chosen])
        logits = weighted(self.buckets[chosen], rarity, _POWER[self.head]) @ weights + np.float32(bias)
        return _Scored(rows, texts, self.end[chosen], np.asarray(logits, np.float32))


def train(rows: Sequence[Row], seed: int, tick: Tick = lambda step, share: None) -> Trained:
    """Fit both heads on all rows, and judge each on rows kept apart: whole questions, whole templates, whole sources.

    Raises:
        ValueError: a head has no labelled source with both labels.
    """
    trained = Trained({}, {}, [])
    for head in HEADS:
        sources = _sources(rows, head)
        examples = Examples(rows, head, seed, tick)
        scale, shift, over, figures = _judge(examples, sources, tick)
        tick(f"{head}: final", 0)
        every = np.ones(len(examples.rows), bool)
        rarity = examples.rarity(every)
        weights, bias = examples.fitted(every, rarity)
        table = np.stack([weights * rarity * np.float32(scale), rarity**2], axis=1).astype(np.float32)
        trained.models[head] = Linear(table, bias * scale + shift, _POWER[head])
        trained.thresholds[head] = over
        trained.judged.extend(figures)
    return trained


def _sources(rows: Sequence[Row], head: str) -> list[str]:
    """Those of the labelled sources that hold both labels."""
    found = {(row.source, row.label(head)) for row in rows}
    sources = [name for name in LABELLED[head] if {(name, True), (name, False)} <= found]
    if not sources:
        raise ValueError(f"{head}: no source holds both labels; needed is one of {', '.join(LABELLED[head])}")
    return sources


def _judge(examples: Examples, sources: Sequence[str], tick: Tick) -> tuple[float, float, float, list[Judged]]:
    """Calibration, threshold and figures, all from texts that the head was not fitted on."""
    head, labels = examples.head, examples.labels
    groupings = _groupings(examples.rows, head)
    apart = _apart(examples, sources, groupings, tick)
    first = next(iter(groupings))
    scale, shift = _calibrated(labels, apart[first])
    over = max(_threshold(labels, apart[name], FALSE[head]) for name in (first, KINDS) if name in apart)
    figures = [_judged(examples, name, one, over) for name, one in apart.items()]
    chance = float(1 / (1 + np.exp(-(over * scale + shift))))
    return scale, shift, round(chance, 4), figures


def _apart(
    examples: Examples, sources: Sequence[str], groupings: dict[str, list[str]], tick: Tick
) -> dict[str, _Scored]:
    """By what was kept apart the scores of it."""
    head, labels = examples.head, examples.labels
    apart: dict[str, _Scored] = {}
    for name, groups in groupings.items():
        apart[name] = _crossed(examples, np.isin(examples.sources, sources), groups, partial(tick, f"{head}: {name}"))
    for name in sources if len(sources) > 1 else ():
        tick(f"{head}: without {name}", 0)
        apart[f"source {name}"] = examples.scored(examples.sources == name)
    written = examples.sources == "written"
    if len(np.unique(labels[written])) > 1:
        own = [row.group for row in examples.rows]
        apart["written"] = _crossed(examples, written, own, partial(tick, f"{head}: written"))
    others = ~np.isin(examples.sources, (*LABELLED[head], "toxic_written")) & ~labels
    if others.any():
        kinds = [row.source for row in examples.rows]
        apart[KINDS] = _crossed(examples, others, kinds, partial(tick, f"{head}: {KINDS}"))
    return apart


def _groupings(rows: Sequence[Row], head: str) -> dict[str, list[str]]:
    """What is kept together in cross-validation; the first sets calibration and threshold."""
    if head == "harmful":
        return {"questions": [row.group for row in rows], "templates": [row.template for row in rows]}
    return {"texts": [row.group for row in rows]}


def _crossed(examples: Examples, held: Bools, groups: Sequence[str], tick: Callable[[float], None]) -> _Scored:
    """Cross-validation: each group in turn is kept apart, together with others."""
    rows = np.nonzero(held)[0]
    number = np.unique(np.array([groups[row] for row in rows.tolist()]), return_inverse=True)[1]
    folds = GroupKFold(min(_FOLDS, int(number.max()) + 1)).split(rows, groups=number)
    parts = []
    for fold, (_, test) in enumerate(folds):
        tick(fold / _FOLDS)
        mask = np.zeros(len(held), bool)
        mask[rows[test]] = True
        parts.append(examples.scored(mask))
    texts = [np.searchsorted(rows, part.rows[part.texts]) for part in parts]
    return _Scored(
        rows,
        np.concatenate(texts),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.logits for part in parts]),
    )


def _calibrated(labels: Bools, scored: _Scored) -> tuple[float, float]:
    """Scale and shift that make a text's highest logit one of its label, at equal numbers of both (Platt 1999)."""
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows)).reshape(-1, 1)
    model = LogisticRegression(C=1e6, class_weight="balanced").fit(maxima, labels[scored.rows])
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _threshold(labels: Bools, scored: _Scored, false: float) -> float:
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows))
    return quality.threshold(labels[scored.rows], maxima, false)


def _judged(examples: Examples, name: str, scored: _Scored, over: float) -> Judged:
    violating = examples.labels[scored.rows]
    groups = [examples.rows[row].group for row in scored.rows]
    if name == "templates":
        groups = [examples.rows[row].template for row in scored.rows]
    maxima = quality.highest(scored.logits, scored.texts, len(scored.rows))
    area = quality.auc(violating, maxima, groups, examples.seed) if violating.any() else None
    stops = quality.stops(violating, scored.logits, scored.texts, scored.ends, over, groups, examples.seed)
    return Judged(
        examples.head, name, len(scored.rows), area, stops, {} if area else _stopped(examples, scored, maxima > over)
    )


def _stopped(examples: Examples, scored: _Scored, stopped: Bools) -> dict[str, tuple[int, int]]:
    """By source how many texts there are, and how many of them are stopped."""
    of = examples.sources[scored.rows]
    return {str(name): (int((of == name).sum()), int(stopped[of == name].sum())) for name in np.unique(of)}


def _stacked(parts: list[sparse.csr_matrix]) -> sparse.csr_matrix:
    return sparse.vstack(parts, format="csr")
