"""What a classifier's scores do to a running answer: what is to be scored, and what follows."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.events import Answer, AnswerPart, CachedAnswer, End, Event, Scored, Stop, Usage, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from processors.record import Record
from tests.processors.guard.test_fold import A, effective, of, text_of
from tests.samples import PARTITIONS, START_MS, Cuts, decision, policy, records, run

PIECES = ["A quiet ", "river ran ", "past the mill ", "and on."]


def scoring(**labels: dict[str, object]) -> Callable[[str, str], tuple[Effective, CompiledRules]]:
    """A policy under which answers are scored every 20 characters."""
    found = policy(classifier={"labels": labels, "window_chars": 30, "stride_chars": 20}).effective("demo")
    assert found is not None
    return lambda *_: (found, CompiledRules(found))


def under(view: Callable[[str, str], tuple[Effective, CompiledRules]], events: list[Event]) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, view)
    fold.fold(records(events))
    return fold


def scored(at: int, harmful: float | None = 0.1, run_id: str = "run-1") -> Scored:
    return Scored(A, "demo", run_id, at, {} if harmful is None else {"harmful": harmful}, "m")


def after(fold: PartitionFold, *events: Event, at_ms: int = START_MS + 1000, first: int = 100) -> list[Out]:
    """What follows when these stand next in the journal."""
    return fold.fold([Record(first + n, at_ms, event) for n, event in enumerate(events)])[0]


def the_end(outputs: Sequence[Out]) -> End:
    """The end of outputs that may lack the beginning; `end_of` checks that they are numbered from 0."""
    (found,) = of(End, outputs)
    assert isinstance(found, End)
    return found


def test_the_end_of_a_growing_answer_is_to_be_scored_every_stride() -> None:
    text = "".join(f"{n:3} " for n in range(25))
    fold = under(
        scoring(harmful={"above": 0.9}), [decision(A), *run(A, [text[i : i + 7] for i in range(0, 98, 7)])[:-1]]
    )
    assert [(one.at, one.text) for one in fold.windows] == [
        (end, text[max(0, end - 30) : end]) for end in (20, 40, 60, 80)
    ]
    assert under(effective, [decision(A), *run(A, [text])]).windows == []


@given(st.lists(st.integers(1, 130), max_size=8))
def test_what_is_to_be_scored_is_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    """Also where all of it comes at once, as of a provider that does not stream."""
    text = "".join(f"{n:3} " for n in range(25)) * 2
    whole = under(scoring(harmful={"above": 0.9}), [decision(A), *run(A, [text])])
    pieces = under(scoring(harmful={"above": 0.9}), [decision(A), *run(A, Cuts(text, sorted(cuts)).pieces)])
    assert pieces.windows == whole.windows
    assert [one.at for one in whole.windows] == [*range(20, 201, 20)]
    assert {one.after for one in whole.windows} == {0}


def test_after_a_rebuild_what_no_score_covers_is_to_be_scored() -> None:
    """Not its end alone: what was asked for before a kill and never answered is looked at as well."""
    pieces = [f"{n:3} " * 5 for n in range(5)]
    started, *chunks, _ = run(A, pieces)
    known = Scored(A, "demo", "run-1", 40, {"harmful": 0.1}, "m")
    fold = under(scoring(harmful={"above": 0.9}), [decision(A), started, *chunks, known])
    assert [one.at for one in fold.windows] == [20, 40, 60, 80, 100]
    assert [one.at for one in fold.to_score()] == [60, 80, 100]
    assert fold.to_score() == []
    over = [decision(A), started, *chunks, Stop(A, "demo", "content_filter")]
    assert under(scoring(harmful={"above": 0.9}), over).to_score() == []


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


class TestTheEnd:
    """An answer is over when the last of it has been scored."""

    def test_it_waits_for_the_last_scores(self) -> None:
        fold = PartitionFold(0, PARTITIONS, scoring(harmful={"above": 0.9, "action": "stop"}))
        outputs, _ = fold.fold(records([decision(A), *run(A, PIECES)]))
        assert text_of(outputs) == "".join(PIECES)
        assert of(End, outputs) == []
        assert [one.at for one in fold.windows] == [20, 39]
        assert of(End, after(fold, scored(20))) == []
        assert the_end(after(fold, scored(39), first=200)).status == "completed"

    def test_bad_last_scores_stop_it(self) -> None:
        fold = under(scoring(harmful={"above": 0.9, "action": "stop"}), [decision(A), *run(A, PIECES)])
        assert the_end(after(fold, scored(39, 0.99))).status == "stopped"

    def test_scores_that_do_not_come_are_asked_for_again_also_after_a_rebuild(self) -> None:
        view = scoring(harmful={"above": 0.9, "action": "stop"})
        fold = under(view, [decision(A), *run(A, PIECES)])
        kept = fold.to_keep(1000)
        for subject in (fold, PartitionFold(0, PARTITIONS, view)):
            if subject is not fold:
                for item in kept:
                    subject.restore(item.key, item.value or b"")
            subject.windows.clear()
            subject.tick(START_MS + 500)
            assert subject.windows == []
            subject.tick(START_MS + 5000)
            assert [one.at for one in subject.windows] == [39]
            assert the_end(after(subject, scored(39))).status == "completed"

    def test_without_a_model_it_ends_all_the_same(self) -> None:
        fold = under(scoring(harmful={"above": 0.9}), [decision(A), *run(A, PIECES)])
        assert the_end(after(fold, scored(20, None), scored(39, None))).status == "completed"

    def test_a_short_answer_from_the_cache_is_not_scored_again(self) -> None:
        stored = CachedAnswer((AnswerPart("content", "A quiet river."),), "stop", Usage(output=4), "another")
        fold = PartitionFold(0, PARTITIONS, scoring(harmful={"above": 0.9}))
        assert the_end(fold.fold(records([decision(A, stored)]))[0]).status == "completed"
        assert fold.windows == []


@pytest.mark.parametrize(("score", "kept"), [(0.99, None), (0.1, "k")])
def test_an_answer_with_a_bad_score_is_not_kept_for_the_cache(score: float, kept: str | None) -> None:
    """Also where the policy only flags it; the control is kept."""
    fold = PartitionFold(0, PARTITIONS, scoring(harmful={"above": 0.9, "action": "flag"}))
    fold.fold(records([decision(A, cache_key="k"), *run(A, PIECES)]))
    outputs = after(fold, scored(39, score))
    assert the_end(outputs).status == "completed"
    assert [one.cache_key for one in of(Answer, outputs)] == [kept]
