"""Figures with 95 % intervals.

All are computed from counts and sums, never from kept rows, so that a file of any length takes the same memory. Chance
comes from outside: `pick(n)` gives n whole numbers from 0 to n - 1, drawn with replacement.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
GROUPS = 256
RESAMPLES = 1000

Pick = Callable[[int], list[int]]


class Figure(NamedTuple):
    """A value between its bounds; None where there was nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Figure(None, None, None)


def wilson(hits: int, of: int) -> Figure:
    """A proportion. Wilson 1927, JASA 22:209-212: the score interval, without continuity correction."""
    if of == 0:
        return UNDEFINED
    share = hits / of
    middle = share + Z * Z / (2 * of)
    reach = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    scale = 1 + Z * Z / of
    # Without a hit the lower bound is 0 and with nothing else the upper is 1, but for the rounding of floats.
    low = (middle - reach) / scale if hits else 0.0
    high = (middle + reach) / scale if hits < of else 1.0
    return Figure(share, low, high)


def f1(right: int, wrong: int, missed: int) -> Figure:
    """The harmonic mean of precision and recall.

    F1 = 2 F* / (1 + F*), where F* = right / (right + wrong + missed) is a proportion (Hand, Christen, Kirielle 2021,
    Machine Learning 110:451-456), so that Wilson's interval of F* is carried over.
    """
    value, low, high = wilson(right, right + wrong + missed)
    if value is None or low is None or high is None:
        return UNDEFINED
    return Figure(*(2 * star / (1 + star) for star in (value, low, high)))


def auc(scores: Mapping[float, tuple[int, int]]) -> Figure:
    """The area under the ROC curve, from how many negative and positive rows have each score; ties count half.

    The variance is that of DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837-845, the interval taken on the logit
    scale (Pepe 2003, The Statistical Evaluation of Medical Tests, 5.2.5). Where that variance is none (perfect or equal
    scores, a single row of a class) it is Newcombe's method 5; see `newcombe`.
    """
    negatives = sum(negative for negative, _ in scores.values())
    positives = sum(positive for _, positive in scores.values())
    if not negatives or not positives:
        return UNDEFINED
    below = above = 0.0
    of_positives: list[tuple[int, float]] = []
    of_negatives: list[tuple[int, float]] = []
    for score in sorted(scores):
        negative, positive = scores[score]
        of_positives.append((positive, (below + negative / 2) / negatives))
        of_negatives.append((negative, 1 - (above + positive / 2) / positives))
        below, above = below + negative, above + positive
    value = sum(count * share for count, share in of_positives) / positives
    variance = _variance_of_mean(of_positives, value) + _variance_of_mean(of_negatives, value)
    if not 0 < variance < math.inf or not 0 < value < 1:
        return Figure(value, *newcombe(value, positives, negatives))
    reach = Z * math.sqrt(variance) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return Figure(value, _expit(odds - reach), _expit(odds + reach))


def newcombe(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """Bounds of an area under the ROC curve that hold at 0 and 1, too: all areas that are not further from `value` than
    their own standard error allows.

    Newcombe 2006, Statistics in Medicine 25:559-573, method 5, with the variance of Hanley, McNeil 1982, Radiology
    143:29-36, in which both class sizes stand as their mean.
    """
    mean = (positives + negatives) / 2 - 1

    def too_far(area: float) -> bool:
        spread = 1 + mean * (1 - area) / (2 - area) + mean * area / (1 + area)
        return (area - value) ** 2 > Z * Z * area * (1 - area) * spread / (positives * negatives)

    def bound(outer: float) -> float:
        inner = value
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if too_far(middle) else (middle, outer)
        return outer

    return bound(0.0), bound(1.0)


class Ratio:
    """The ratio of two sums over rows, such as tokens saved of tokens.

    Its interval is the percentile bootstrap (Efron, Tibshirani 1993, An Introduction to the Bootstrap, ch. 13) over
    rows. Where there are more than `GROUPS`, all are thrown into as many groups by chance, and groups are drawn: their
    sums spread as much as rows do. (Groups filled in turn would spread less in a sorted file.)
    """

    def __init__(self) -> None:
        self._rows = 0
        self._above: list[float] = []
        self._below: list[float] = []
        self._places: list[int] = []
        """Of the first rows, until they are thrown into groups."""

    def add(self, above: float, below: float, place: int) -> None:
        """Add a row; `place` is a random whole number of its own. A row that adds nothing to either sum is none."""
        if not above and not below:
            return
        self._rows += 1
        if self._rows <= GROUPS:
            self._above.append(above)
            self._below.append(below)
            self._places.append(place)
            return
        if self._places:
            self._above = self._thrown(self._above)
            self._below = self._thrown(self._below)
            self._places = []
        self._above[place % GROUPS] += above
        self._below[place % GROUPS] += below

    def figure(self, pick: Pick) -> Figure:
        """The ratio. Bounds are None for less than two rows, which tell nothing of how rows differ."""
        if not sum(self._below):
            return UNDEFINED
        value = sum(self._above) / sum(self._below)
        if self._rows < 2:
            return Figure(value, None, None)
        drawn = []
        for _ in range(RESAMPLES):
            chosen = pick(len(self._above))
            below = sum([self._below[group] for group in chosen])
            if below:
                drawn.append(sum([self._above[group] for group in chosen]) / below)
        drawn.sort()
        tail = int(len(drawn) * 0.025)
        return Figure(value, min(value, drawn[tail]), max(value, drawn[-1 - tail]))

    def _thrown(self, values: list[float]) -> list[float]:
        groups = [0.0] * GROUPS
        for value, place in zip(values, self._places, strict=True):
            groups[place % GROUPS] += value
        return groups


def _variance_of_mean(counted: list[tuple[int, float]], mean: float) -> float:
    rows = sum(count for count, _ in counted)
    if rows < 2:
        return math.inf
    return sum(count * (value - mean) ** 2 for count, value in counted) / (rows - 1) / rows


def _expit(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0
