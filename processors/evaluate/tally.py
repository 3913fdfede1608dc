"""Outcomes summed up: over all rows, by language, by source, and by type of personal data."""

from collections import Counter, defaultdict
from typing import Any

from processors.evaluate.metrics import Figure, Pick, Ratio, auc, f1, wilson
from processors.evaluate.outcome import Counts, Outcome, mapped
from processors.evaluate.rows import Row, Task

Figures = dict[str, Figure]
_SCORE_DIGITS = 4


class Tally:
    """Some rows' outcomes. It grows with the number of different scores, not of rows."""

    def __init__(self) -> None:
        self.n = 0
        """Rows; of a type of personal data its true spans."""
        self._right = self._wrong = self._missed = 0
        self._alarms = self._clean = 0
        self._scores: dict[float, tuple[int, int]] = {}
        self._proportions: dict[str, tuple[int, int]] = {}
        self._ratios: dict[str, Ratio] = defaultdict(Ratio)

    def add(self, outcome: Outcome, place: int) -> None:
        """Add a row; `place` as in `Ratio.add`."""
        self.n += 1
        self._count(outcome.counts, place)
        score = round(outcome.score, _SCORE_DIGITS)
        negative, positive = self._scores.get(score, (0, 0))
        self._scores[score] = (negative + (not outcome.positive), positive + outcome.positive)
        if outcome.alarm is not None:
            self._clean += 1
            self._alarms += outcome.alarm

    def add_type(self, counts: Counts, place: int) -> None:
        """Add what a row has of one type of personal data."""
        self.n += counts.right + counts.missed
        self._count(counts, place)

    def figures(self, pick: Pick) -> Figures:
        """Every figure. Those of rows are none where only spans of a type were added."""
        of_spans: Figures = {
            "precision": wilson(self._right, self._right + self._wrong),
            "recall": wilson(self._right, self._right + self._missed),
            "f1": f1(self._right, self._wrong, self._missed),
        }
        of_rows: Figures = {
            "false_positive_rate": wilson(self._alarms, self._clean),
            "auc": auc(self._scores),
        }
        rest = {name: wilson(*counts) for name, counts in self._proportions.items()}
        ratios = {name: ratio.figure(pick) for name, ratio in self._ratios.items()}
        return of_spans | (of_rows if self._scores else {}) | rest | ratios

    def _count(self, counts: Counts, place: int) -> None:
        self._right += counts.right
        self._wrong += counts.wrong
        self._missed += counts.missed
        for name, (hits, of) in counts.proportions.items():
            before = self._proportions.get(name, (0, 0))
            self._proportions[name] = (before[0] + hits, before[1] + of)
        for name, (above, below) in counts.ratios.items():
            self._ratios[name].add(above, below, place)


class Report:
    """The outcomes of a task's rows."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.overall = Tally()
        self.by_lang: dict[str, Tally] = defaultdict(Tally)
        self.by_source: dict[str, Tally] = defaultdict(Tally)
        self.by_type: dict[str, Tally] = defaultdict(Tally)
        """By detector of personal data."""
        self.unmapped: Counter[str] = Counter()
        """Spans of personal data by type that no detector stands for; they are not scored."""

    def add(self, row: Row, outcome: Outcome, place: int) -> None:
        """Add a row; `place` as in `Ratio.add`."""
        for tally in (self.overall, self.by_lang[row.lang], self.by_source[row.source]):
            tally.add(outcome, place)
        for name, counts in outcome.types.items():
            self.by_type[name].add_type(counts, place)
        self.unmapped.update(span.type for span in row.spans if mapped(span) is None)

    def slices(self) -> dict[str, dict[str, Tally]]:
        """The parts by which the rows are told apart, each in order of its names."""
        parts = {"by_lang": self.by_lang, "by_source": self.by_source}
        if self.task == "pii":
            parts["by_type"] = self.by_type
        return {part: dict(sorted(tallies.items())) for part, tallies in parts.items()}

    def as_json(self, pick: Pick) -> dict[str, Any]:
        """The object that `sluice evaluate --json` prints: each figure with `value`, `low` and `high`, or null."""
        found: dict[str, Any] = {
            "task": self.task,
            "n": self.overall.n,
            "overall": _plain(self.overall.figures(pick)),
        }
        for part, tallies in self.slices().items():
            found[part] = {name: _plain(tally.figures(pick)) for name, tally in tallies.items()}
        if self.task == "pii":
            found["unmapped"] = dict(sorted(self.unmapped.items()))
        return found


def _plain(figures: Figures) -> dict[str, dict[str, float | None]]:
    return {
        name: {bound: None if value is None else round(value, 6) for bound, value in figure._asdict().items()}
        for name, figure in figures.items()
    }
