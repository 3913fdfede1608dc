"""What of a running answer is released, beside what rules say: holds, limits, answers that repeat themselves."""

from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.events import (
    Action,
    End,
    RunError,
    Stop,
    Summary,
    TimedOut,
    Usage,
    Verdict,
)
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from tests.processors.guard.test_fold import A, end_of, fold, of, text_of
from tests.processors.guard.test_scores import PIECES, after, scored, the_end, under
from tests.samples import PARTITIONS, START_MS, Cuts, decision, order, policy, records, run


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


def view_of(**changes: object) -> Callable[[str, str], tuple[Effective, CompiledRules]]:
    found = policy(**changes).effective("demo")
    assert found is not None
    return lambda *_: (found, CompiledRules(found))


HOLD = {"labels": {"harmful": {"above": 0.9, "action": "stop"}}, "window_chars": 30, "stride_chars": 20, "hold": True}


def limit_told(outputs: Sequence[Out]) -> tuple[str, str, str, str]:
    """The one verdict of outputs, which stands before the action that follows from it."""
    (verdict,), (action,) = of(Verdict, outputs), of(Action, outputs)
    events = [one.event for one in outputs]
    assert events.index(verdict) < events.index(action)
    assert (action.rule, action.action) == (verdict.rule, verdict.action)
    return verdict.rule, verdict.category, verdict.action, verdict.would


class TestHold:
    """With `classifier.hold` nothing is released before it has been scored."""

    def test_text_waits_for_its_scores(self) -> None:
        fold = PartitionFold(0, PARTITIONS, view_of(classifier=HOLD))
        assert text_of(fold.fold(records([decision(A), *run(A, PIECES)]))[0]) == ""
        assert text_of(after(fold, scored(32))) == "".join(PIECES[:3])
        outputs = after(fold, scored(39), first=200)
        assert (text_of(outputs), the_end(outputs).status) == (PIECES[3], "completed")

    def test_what_has_not_been_scored_is_withheld_by_a_stop(self) -> None:
        fold = under(view_of(classifier=HOLD), [decision(A), *run(A, PIECES)])
        outputs = after(fold, scored(32, 0.95))
        assert (text_of(outputs), the_end(outputs).status) == ("", "stopped")

    def test_without_a_model_the_request_fails(self) -> None:
        fold = under(view_of(classifier=HOLD), [decision(A), *run(A, PIECES)])
        outputs = after(fold, scored(32, None))
        assert (text_of(outputs), the_end(outputs).status) == ("", "failed")

    @given(
        st.lists(st.integers(0, 39), max_size=6),
        st.lists(st.sampled_from([0, 0, 0, 1]), max_size=8),
        st.lists(st.booleans(), min_size=8, max_size=8),
    )
    def test_whatever_the_pieces_and_kills_only_scored_text_is_released(
        self, at: list[int], bad: list[int], kills: list[bool]
    ) -> None:
        """Scores come in order, one for each question, some of them bad; some of them find a guard rebuilt."""
        text, view = "".join(PIECES), view_of(classifier=HOLD)
        fold = PartitionFold(0, PARTITIONS, view)
        outputs, _ = fold.fold(records([decision(A), *run(A, Cuts(text, at).pieces)]))
        released, upto = text_of(outputs), 0
        assert released == ""
        asked = list(fold.windows)
        for number, window in enumerate(asked):
            if kills[number % 8]:
                kept, fold = fold.to_keep(10_000), PartitionFold(0, PARTITIONS, view)
                for item in kept:
                    fold.restore(item.key, item.value or b"")
            assert of(End, outputs) == []
            if number < len(bad) and bad[number]:
                outputs = after(fold, scored(window.at, 0.99), first=100 + number)
                assert the_end(outputs).status == "stopped"
                assert text_of(outputs) == ""
                return
            outputs = after(fold, scored(window.at), first=100 + number)
            upto = max(upto, window.at)
            released += text_of(outputs)
            assert text[:upto].startswith(released)
        assert (released, the_end(outputs).status) == (text, "completed")

    def test_that_text_is_held_is_told_once(self) -> None:
        fold = PartitionFold(0, PARTITIONS, view_of(classifier=HOLD))
        outputs, _ = fold.fold(records([decision(A), *run(A, PIECES)]))
        for item in fold.to_keep(10_000):
            fold.restore(item.key, item.value or b"")
        outputs += after(fold, scored(32), scored(39))
        assert [(one.action, one.rule, one.reason) for one in of(Action, outputs)] == [
            ("hold", "classifier.hold", "unscored")
        ]
        assert of(Summary, outputs)[0].actions == {"hold": 1}

    def test_whole_sentences_are_held_too_and_ordinary_text_is_not(self) -> None:
        pieces = ["One. ", "Two and ", "so on. ", "The ", "end."]
        told = []
        for hold in ("sentence", "match"):
            subject = PartitionFold(0, PARTITIONS, view_of(moderation={"hold": hold}))
            outputs, _ = subject.fold(records([decision(A), *run(A, pieces)]))
            told.append([(one.action, one.rule, one.seen_chars) for one in of(Action, outputs)])
        assert told == [[("hold", "moderation.hold", 13)], []]

    @pytest.mark.parametrize("scores", [True, False])
    def test_a_dry_run_holds_nothing_with_a_model_or_without(self, scores: bool) -> None:
        fold = PartitionFold(0, PARTITIONS, view_of(classifier=HOLD, moderation={"dry_run": True}))
        outputs, _ = fold.fold(records([decision(A), *run(A, PIECES)]))
        assert text_of(outputs) == "".join(PIECES)
        outputs += after(fold, *(scored(at, 0.1 if scores else None) for at in (32, 39)))
        assert the_end(outputs).status == "completed"
        assert of(Action, outputs) == []


class TestLimits:
    """Of cost and of time; that of tokens is tested in test_fold."""

    def test_the_cost_limit_counts_the_prompt_and_stops_before_it_is_exceeded(self) -> None:
        # 5 tokens of prompt at 100 and 10 of answer at 400 a million are 4500 millionths; a token more would be 4900.
        view = view_of(limits={"max_output_tokens": 100, "max_cost": "0.0045"})
        outputs, _ = PartitionFold(0, PARTITIONS, view).fold(records([decision(A), *run(A, ["word " * 20])[:-1]]))
        end = the_end(outputs)
        assert (end.status, end.reason, end.usage.output, end.cost.micros) == ("stopped", "cost_limit", 10, 4500)
        assert of(Stop, outputs)[0].rule == "limits.max_cost"
        assert limit_told(outputs) == ("limits.max_cost", "limits", "stop", "")

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_that_tokens_are_used_up_is_a_verdict_too_and_holds_in_a_dry_run(self, dry_run: bool) -> None:
        view = view_of(limits={"max_output_tokens": 10}, moderation={"dry_run": dry_run})
        outputs, _ = PartitionFold(0, PARTITIONS, view).fold(records([decision(A), *run(A, ["word " * 20])[:-1]]))
        assert (the_end(outputs).status, the_end(outputs).reason) == ("stopped", "token_limit")
        assert limit_told(outputs) == ("limits.max_output_tokens", "limits", "stop", "")

    def test_an_attempt_that_failed_has_cost_too(self) -> None:
        view = view_of(limits={"max_output_tokens": 100, "max_cost": "0.0045"})
        failed = run(A, [], error=RunError("connect", "refused"), usage=Usage(input=5, output=8, source="provider"))
        again = decision(A, order(), attempt=2)
        outputs, _ = PartitionFold(0, PARTITIONS, view).fold(
            records([decision(A), *failed, again, *run(A, ["word " * 20], "run-2", 2)[:-1]])
        )
        end = the_end(outputs)
        assert (end.reason, end.cost.micros <= 4500, text_of(outputs)) == ("cost_limit", True, "")

    @pytest.mark.parametrize("silent", [False, True])
    def test_the_time_limit_counts_from_the_call_on(self, silent: bool) -> None:
        fold = under(view_of(limits={"max_seconds": 2}), [decision(A), *run(A, ["said"])[:-1]])
        chunk = run(A, ["said", " and not said"])[2]
        assert text_of(after(fold, chunk, at_ms=START_MS + 2010)) == " and not said"
        if silent:
            assert of(TimedOut, fold.tick(START_MS + 2010)) == []
            (question,) = of(TimedOut, fold.tick(START_MS + 2011))
            outputs = after(fold, question, at_ms=START_MS + 2012, first=200)
        else:
            late = run(A, ["", "", " and not said"])[3]
            outputs = after(fold, late, at_ms=START_MS + 2011, first=200)
        assert (text_of(outputs), the_end(outputs).status, the_end(outputs).reason) == ("", "stopped", "time_limit")
        assert limit_told(outputs) == ("limits.max_seconds", "limits", "stop", "")


class TestTold:
    """What a reader and an analyst learn."""

    @pytest.mark.parametrize(
        ("language", "said"),
        [("en", "The answer was stopped by rule stop."), ("ru", "Ответ остановлен правилом stop.")],
    )
    def test_a_stop_is_told_in_the_language_of_the_request(self, language: str, said: str) -> None:
        outputs, _ = fold([decision(A, language=language), *run(A, ["a blocked phrase"])])
        assert the_end(outputs).message == said

    @pytest.mark.parametrize(("usual", "saved"), [(None, 99), (30, 29), (0, 0)])
    def test_tokens_saved_are_those_an_answer_of_the_model_usually_has(self, usual: int | None, saved: int) -> None:
        given_to = msgspec.structs.replace(order(), usual_tokens=usual)
        outputs, _ = fold([decision(A, given_to), *run(A, ["a blocked phrase it was"])[:-1]])
        seen = of(Summary, outputs)[0].seen_tokens
        assert the_end(outputs).tokens_saved == of(Summary, outputs)[0].tokens_saved == max(0, saved + 1 - seen)

    def test_each_request_has_one_summary(self) -> None:
        outputs, _ = fold([decision(A), *run(A, ["an odd thing, ", "an odd thing, a blocked phrase"])])
        (summary,) = of(Summary, outputs)
        assert (summary.status, summary.reason) == ("stopped", "content_filter")
        assert summary.rules == {"flag": 2, "stop": 1}
        assert summary.actions == {"flag": 2, "stop": 1}
        assert summary.released_chars == len(text_of(outputs)) == len("an odd thing, an odd thing, a ")
        assert len(of(Verdict, outputs)) == len(of(Action, outputs)) == 3

    def test_what_a_dry_run_would_have_refused_is_told(self) -> None:
        view = view_of(moderation={"dry_run": True})
        outputs, _ = PartitionFold(0, PARTITIONS, view).fold(records([decision(A, flags=("refuse",))]))
        assert [(one.rule, one.action, one.would) for one in of(Verdict, outputs)] == [("refuse", "flag", "refuse")]

    def test_a_dry_run_lets_everything_pass(self) -> None:
        pieces = ["This is the end of it, and so on. "] * 60 + ["a blocked phrase"]
        changes = {
            "degeneration": {"exact": "stop"},
            "limits": {"max_output_tokens": 4000},
            "classifier": {"labels": {"harmful": {"above": 0.5, "action": "stop"}}, "stride_chars": 1600},
        }
        for dry_run, status in ((True, "completed"), (False, "stopped")):
            subject = PartitionFold(0, PARTITIONS, view_of(**changes, moderation={"dry_run": dry_run}))
            outputs, _ = subject.fold(records([decision(A), *run(A, pieces)]))
            if dry_run:
                assert text_of(outputs) == "".join(pieces)
                outputs += after(subject, scored(subject.windows[-1].at, 0.9))
                assert {(one.rule, one.action, one.would) for one in of(Verdict, outputs)} == {
                    ("degeneration.exact", "flag", "stop"),
                    ("stop", "flag", "stop"),
                    ("classifier.harmful", "flag", "stop"),
                }
            else:
                assert {one.would for one in of(Verdict, outputs)} == {""}
            assert the_end(outputs).status == status
