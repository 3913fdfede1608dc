"""What moderation of a running answer does beyond rules: a classifier's scores, and answers that repeat themselves."""

from collections.abc import Callable

import pytest

from processors.events import End, Event, Scored, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from processors.record import Record
from tests.processors.guard.test_fold import A, effective, end_of, fold, of, text_of
from tests.samples import PARTITIONS, START_MS, decision, policy, records, run


def scoring(**labels: dict[str, object]) -> Callable[[str, str], tuple[Effective, CompiledRules]]:
    """A policy under which answers are scored every 20 characters."""
    found = policy(classifier={"labels": labels, "window_chars": 30, "stride_chars": 20}).effective("demo")
    assert found is not None
    return lambda *_: (found, CompiledRules(found))


def under(view: Callable[[str, str], tuple[Effective, CompiledRules]], events: list[Event]) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, view)
    fold.fold(records(events))
    return fold


def test_the_end_of_a_growing_answer_is_to_be_scored_every_stride() -> None:
    text = "".join(f"{n:3} " for n in range(25))
    fold = under(
        scoring(harmful={"above": 0.9}), [decision(A), *run(A, [text[i : i + 7] for i in range(0, 100, 7)])[:-1]]
    )
    assert [(one.at, one.text) for one in fold.windows] == [
        (end, text[max(0, end - 30) : end]) for end in (21, 42, 63, 84)
    ]
    assert under(effective, [decision(A), *run(A, [text])]).windows == []


@pytest.mark.parametrize(("action", "ends"), [("stop", ["stopped"]), ("flag", [])])
def test_a_score_above_its_threshold_counts_when_it_is_read_back(action: str, ends: list[str]) -> None:
    view = scoring(harmful={"above": 0.9, "action": action, "severity": 8})
    started, chunk, *_ = run(A, ["some answer"])
    fold = under(view, [decision(A), started, chunk])
    name = chunk.run  # type: ignore[attr-defined]
    said = [
        Scored(A, "demo", name, 11, {"harmful": 0.9, "other": 1.0}, "m"),
        Scored(A, "demo", "another run", 11, {"harmful": 1.0}, "m"),
        Scored(A, "demo", name, 31, {"harmful": 0.95}, "m"),
        Scored(A, "demo", name, 51, {"harmful": 0.99}, "m"),
    ]
    outputs, rejected = fold.fold([Record(100 + n, START_MS, event) for n, event in enumerate(said)])
    assert rejected == []
    assert [(one.rule, one.score, one.action, one.span) for one in of(Verdict, outputs)] == [
        ("classifier.harmful", 0.95, action, (1, 31))
    ]
    assert [one.status for one in of(End, outputs)] == ends


def test_degeneration_stops_where_the_policy_says_so() -> None:
    def view(*_: str) -> tuple[Effective, CompiledRules]:
        found = policy(degeneration={"exact": "stop"}, limits={"max_output_tokens": 4000}).effective("demo")
        assert found is not None
        return found, CompiledRules(found)

    pieces = ["This is the end of it, and so on. "] * 60
    outputs, _ = PartitionFold(0, PARTITIONS, view).fold(records([decision(A), *run(A, pieces)]))
    assert (end_of(outputs).status, end_of(outputs).reason) == ("stopped", "degeneration")
    assert [one.rule for one in of(Verdict, outputs)] == ["degeneration.exact"]
    assert len(text_of(outputs)) < len("".join(pieces))
    outputs, _ = fold([decision(A), *run(A, pieces[:10])])  # the control: this policy lets texts repeat themselves
    assert end_of(outputs).status == "completed"
