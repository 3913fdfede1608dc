"""A text goes through the guard with a classifier, whose scores count as they do in a stage."""

from collections.abc import Callable, Sequence

import pytest

from processors.evaluate.outcome import outcome
from processors.evaluate.rows import Row
from processors.evaluate.run import Guard, asked
from processors.events import Scored
from processors.guard.windows import Window
from processors.policy import Effective
from tests.samples import policy


def under(action: str) -> Effective:
    labels = {"harmful": {"above": 0.5, "action": action}}
    found = policy(classifier={"labels": labels, "window_chars": 40, "stride_chars": 20}).effective("demo")
    assert found is not None
    return asked(found, "early-stop")


def says(word: str, score: float) -> Callable[[Sequence[Window]], list[Scored]]:
    """A model that knows one word, and besides a label that the policy does not name."""

    def scored(windows: Sequence[Window]) -> list[Scored]:
        return [
            Scored(one.id, one.tenant, one.run, one.at, {"harmful": score if word in one.text else 0.1, "x": 1.0}, "m")
            for one in windows
        ]

    return scored


PIECES = ["So you take ", "some powder ", "and shake it ", "for a while, ", "then it is done."]


@pytest.mark.parametrize(
    ("word", "score", "action", "stopped", "fed", "highest"),
    [
        ("powder", 0.9, "stop", True, 50, 0.9),
        ("powder", 0.9, "flag", False, 66, 0.9),
        ("powder", 0.4, "stop", False, 66, 0.4),
        ("done", 0.9, "stop", True, 66, 0.9),
        ("snow", 0.9, "stop", False, 66, 0.1),
    ],
)
def test_scores_stop_and_are_told(
    word: str, score: float, action: str, stopped: bool, fed: int, highest: float
) -> None:
    seen = Guard(under(action), says(word, score)).judge(PIECES, lambda: 0)
    assert (seen.stopped, seen.fed, seen.score) == (stopped, fed, highest)
    row = Row("r", "".join(PIECES), "violating", True, "en", "s", ())
    assert outcome("early-stop", row, seen, under(action).limits).score == highest
    assert outcome("early-stop", row, seen, under(action).limits).counts.right == stopped


def test_nothing_is_asked_for_tasks_that_no_classifier_judges() -> None:
    found = policy(classifier={"labels": {"harmful": {"above": 0.5}}}, degeneration={}).effective("demo")
    assert found is not None
    assert Guard(asked(found, "loops"), says("", 1.0)).judge(PIECES, lambda: 0).score == 0.0
