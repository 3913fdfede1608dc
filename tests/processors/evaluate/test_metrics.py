"""Figures against published values, against plain counting, and against what their intervals promise."""

import math
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.evaluate.metrics import GROUPS, UNDEFINED, Figure, Pick, Ratio, Z, auc, f1, newcombe, wilson

Scores = dict[float, tuple[int, int]]
few = st.integers(0, 40)
some_scores = st.dictionaries(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1
)


def picking(seed: int = 0) -> Pick:
    chance = random.Random(seed)
    return lambda of: chance.choices(range(of), k=of)


def bounds(figure: Figure) -> tuple[float, float, float]:
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.value, figure.high


class TestWilson:
    @pytest.mark.parametrize(
        ("hits", "of", "low", "high"),
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_published_values(self, hits: int, of: int, low: float, high: float) -> None:
        """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3."""
        found = wilson(hits, of)
        assert found.value == hits / of
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))

    @given(few, few)
    def test_its_bounds_are_where_the_score_test_turns(self, hits: int, misses: int) -> None:
        of = hits + misses
        if not of:
            assert wilson(hits, of) == UNDEFINED
            return
        low, value, high = bounds(wilson(hits, of))
        assert 0 <= low <= value <= high <= 1
        for bound in {low, high} - {0.0, 1.0}:
            assert abs(value - bound) == pytest.approx(Z * math.sqrt(bound * (1 - bound) / of))

    @given(few, few)
    def test_it_is_symmetric(self, hits: int, misses: int) -> None:
        if hits + misses:
            low, _, high = bounds(wilson(hits, hits + misses))
            other = bounds(wilson(misses, hits + misses))
            assert (1 - high, 1 - low) == (pytest.approx(other[0]), pytest.approx(other[2]))


class TestF1:
    @given(few, few, few)
    def test_it_is_the_harmonic_mean(self, right: int, wrong: int, missed: int) -> None:
        found = f1(right, wrong, missed)
        if not right + wrong + missed:
            assert found == UNDEFINED
            return
        low, value, high = bounds(found)
        assert 0 <= low <= value <= high <= 1
        if right:
            precision, recall = right / (right + wrong), right / (right + missed)
            assert value == pytest.approx(2 * precision * recall / (precision + recall))
        else:
            assert value == 0

    def test_its_interval_holds_the_truth_as_often_as_it_says(self) -> None:
        chance = random.Random(1)
        truth = 2 * 0.3 / (2 * 0.3 + 0.1 + 0.2)
        held = 0
        for _ in range(400):
            drawn = chance.choices("rwmc", (0.3, 0.1, 0.2, 0.4), k=60)
            low, _, high = bounds(f1(drawn.count("r"), drawn.count("w"), drawn.count("m")))
            held += low <= truth <= high
        assert 0.92 <= held / 400 <= 0.98


class TestAuc:
    @given(some_scores)
    def test_it_counts_pairs(self, scores: Scores) -> None:
        negatives, positives = spread(scores)
        found = auc(scores)
        if not negatives or not positives:
            assert found == UNDEFINED
            return
        low, value, high = bounds(found)
        assert value == pytest.approx(counted(negatives, positives))
        assert 0 <= low <= value + 1e-9
        assert value - 1e-9 <= high <= 1

    @given(some_scores)
    def test_the_other_class_has_the_rest(self, scores: Scores) -> None:
        found = auc(scores)
        turned = auc({score: (positive, negative) for score, (negative, positive) in scores.items()})
        if found == UNDEFINED:
            assert turned == UNDEFINED
            return
        low, value, high = bounds(found)
        assert bounds(turned) == (pytest.approx(1 - high), pytest.approx(1 - value), pytest.approx(1 - low))

    @given(some_scores)
    def test_its_variance_is_that_of_the_placements(self, scores: Scores) -> None:
        """DeLong's variance, from the pairs of rows instead of counts."""
        negatives, positives = spread(scores)
        if len(negatives) < 2 or len(positives) < 2:
            return
        area = counted(negatives, positives)
        of_positives = [counted(negatives, [one]) for one in positives]
        of_negatives = [counted([one], positives) for one in negatives]
        variance = sum(
            sum((one - area) ** 2 for one in placements) / (len(placements) - 1) / len(placements)
            for placements in (of_positives, of_negatives)
        )
        if variance < 1e-12 or not 0 < area < 1:
            return
        low, _, high = bounds(auc(scores))
        width = math.log(high / (1 - high)) - math.log(low / (1 - low))
        assert width == pytest.approx(2 * Z * math.sqrt(variance) / (area * (1 - area)))

    def test_a_perfect_one_is_not_certain(self) -> None:
        few_rows, many_rows = auc({0.0: (5, 0), 1.0: (0, 5)}), auc({0.0: (500, 0), 1.0: (0, 500)})
        assert few_rows.value == many_rows.value == few_rows.high == 1
        assert bounds(few_rows)[0] < 0.8 < 0.98 < bounds(many_rows)[0] < 1

    @given(st.floats(0, 1), st.integers(1, 50), st.integers(1, 50))
    def test_newcombe_s_bounds_are_as_far_as_their_own_error_allows(self, value: float, m: int, n: int) -> None:
        """The equation of the paper, term by term as Hanley and McNeil have them, with the mean of both sizes."""
        size = (m + n) / 2
        for bound in newcombe(value, m, n):
            q1, q2 = bound / (2 - bound), 2 * bound**2 / (1 + bound)
            variance = bound * (1 - bound) + (size - 1) * (q1 - bound**2) + (size - 1) * (q2 - bound**2)
            if 1e-6 < bound < 1 - 1e-6:
                assert abs(bound - value) == pytest.approx(Z * math.sqrt(variance / (m * n)), rel=1e-5, abs=1e-9)

    def test_its_interval_holds_the_truth_as_often_as_it_says(self) -> None:
        """Two normal distributions one standard deviation apart: the area is the normal distribution at 1/sqrt(2)."""
        chance = random.Random(2)
        truth = 0.5 + math.erf(0.5) / 2
        held = 0
        for _ in range(300):
            scores: Scores = {chance.gauss(0, 1): (1, 0) for _ in range(40)}
            scores |= {chance.gauss(1, 1): (0, 1) for _ in range(40)}
            low, _, high = bounds(auc(scores))
            held += low <= truth <= high
        assert 0.91 <= held / 300 <= 0.98


def spread(scores: Scores) -> tuple[list[float], list[float]]:
    """Scores of the negative and of the positive rows."""
    return (
        [score for score, (negative, _) in scores.items() for _ in range(negative)],
        [score for score, (_, positive) in scores.items() for _ in range(positive)],
    )


def counted(negatives: list[float], positives: list[float]) -> float:
    """The share of pairs in which the positive row has the higher score."""
    won = sum((high > low) + (high == low) / 2 for low, high in product(negatives, positives))
    return won / len(negatives) / len(positives)


class TestRatio:
    def test_no_rows_no_figure(self) -> None:
        assert Ratio().figure(picking()) == UNDEFINED
        ratio = Ratio()
        ratio.add(0, 0, 1)
        assert ratio.figure(picking()) == UNDEFINED

    def test_one_row_has_no_interval(self) -> None:
        ratio = Ratio()
        ratio.add(1, 4, 0)
        assert ratio.figure(picking()) == Figure(0.25, None, None)

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=2, max_size=30), st.integers(0, 5))
    def test_it_is_the_ratio_of_the_sums(self, rows: list[tuple[int, int]], seed: int) -> None:
        ratio = Ratio()
        for above, below in rows:
            ratio.add(above, below, 0)
        low, value, high = bounds(ratio.figure(picking(seed)))
        assert value == pytest.approx(sum(above for above, _ in rows) / sum(below for _, below in rows))
        shares = [above / below for above, below in rows]
        assert min(shares) - 1e-9 <= low <= value <= high <= max(shares) + 1e-9

    @pytest.mark.parametrize("rows", [GROUPS - 56, 5 * GROUPS])
    @pytest.mark.parametrize("ordered", [False, True])
    def test_its_interval_is_as_wide_as_that_of_a_mean(self, rows: int, ordered: bool) -> None:
        """Rows in groups tell as much as rows, even where the file is sorted."""
        chance = random.Random(3)
        values = [chance.gauss(10, 2) for _ in range(rows)]
        ratio = Ratio()
        for value in sorted(values) if ordered else values:
            ratio.add(value, 1, chance.getrandbits(32))
        low, _, high = bounds(ratio.figure(picking()))
        assert (high - low) / (2 * Z * 2 / math.sqrt(rows)) == pytest.approx(1, abs=0.25)

    def test_the_control_groups_in_turn_would_hide_the_spread(self) -> None:
        chance = random.Random(3)
        values = sorted(chance.gauss(10, 2) for _ in range(5 * GROUPS))
        ratio = Ratio()
        for turn, value in enumerate(values):
            ratio.add(value, 1, turn)
        low, _, high = bounds(ratio.figure(picking()))
        assert (high - low) / (2 * Z * 2 / math.sqrt(len(values))) < 0.75

    def test_a_seed_gives_the_same_interval(self) -> None:
        ratio = Ratio()
        for value in range(50):
            ratio.add(value, 50, value)
        assert ratio.figure(picking(1)) == ratio.figure(picking(1))
        assert ratio.figure(picking(1)) != ratio.figure(picking(2))
