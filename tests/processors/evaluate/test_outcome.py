"""A row's outcome: what the guard released is what it is said to have released, and what counts as found."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.errors import Invalid
from processors.evaluate import run
from processors.evaluate.outcome import Outcome, outcome, score_of, tokens_of
from processors.evaluate.rows import Row, Task, TrueSpan
from processors.evaluate.run import Guard, GuardFailed, Seen, asked, every_detector
from processors.events import Verdict
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out, Rejected
from processors.policy import Effective
from tests.samples import policy

RULES = [
    {"id": "stop", "kind": "phrase", "phrases": ["stop here"], "action": "stop", "severity": 9},
    {"id": "mask", "kind": "phrase", "phrases": ["mask me"], "action": "mask", "severity": 4},
    {"id": "flag", "kind": "regex", "patterns": ["me and|odd"], "action": "flag", "severity": 2},
    {"id": "mail", "kind": "detector", "detectors": ["email"], "action": "mask"},
]
WORDS = ["stop", "here", "mask", "me", "and", "odd", "слово", "write", "a@b.org", "c@d.com"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
cuts = st.lists(st.integers(1, 20), min_size=1, max_size=20)


def effective(**changes: Any) -> Effective:
    found = policy(**{"rules": RULES, "degeneration": {}} | changes).effective("demo")
    assert found is not None
    return found


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, at = [], 0
    for size in [*sizes, len(text)]:
        if at < len(text):
            pieces.append(text[at : at + size])
        at += size
    return pieces


def row(text: str, positive: bool = True, spans: tuple[TrueSpan, ...] = ()) -> Row:
    return Row("r", text, "label", positive, "en", "s", spans)


def judged(task: Task, given_row: Row, size: int = 4) -> Outcome:
    guard = Guard(asked(effective(), task))
    seen = guard.judge(cut(given_row.text, [size] * 99), count(step=500).__next__)
    return outcome(task, given_row, seen, guard.effective.limits)


class TestGuard:
    """The fold is the real one."""

    @given(texts, cuts)
    def test_how_a_text_is_cut_changes_no_finding(self, text: str, sizes: list[int]) -> None:
        guard = Guard(asked(effective(), "moderation"))
        one, other = (guard.judge(pieces, lambda: 0) for pieces in (cut(text, sizes), [text]))
        assert one.stopped == other.stopped
        if not one.stopped:  # behind a stop it depends on the chunks how much was seen
            assert [(v.rule, v.span) for v in one.verdicts] == [(v.rule, v.span) for v in other.verdicts]

    def test_nothing_goes_in_after_a_stop(self) -> None:
        guard = Guard(asked(effective(), "moderation"))
        seen = guard.judge(["stop ", "here", " and ", "go ", "on"], count(step=500).__next__)
        assert (seen.stopped, seen.fed, seen.chunks, seen.nanoseconds) == (True, 14, 3, 1500)

    @pytest.mark.parametrize(
        "limits",
        [
            {"limits": {"max_output_tokens": 1}},
            {"limits": {"max_cost": "0.000001"}},
            {"limits": {"max_seconds": 0.000001}},
            {"budgets": [{"id": "day", "window": "day", "timezone": "UTC", "tokens": 1}]},
        ],
    )
    def test_no_limit_of_the_policy_ends_a_text(self, limits: dict[str, Any]) -> None:
        guard = Guard(asked(effective(**limits), "moderation"))
        assert not guard.judge(["ha " * 2000], lambda: 0).stopped

    def test_nothing_is_saved_by_what_nobody_looked_for(self) -> None:
        guard = Guard(effective(limits={"max_output_tokens": 2}))
        text = "no more than this and much more"
        seen = guard.judge(cut(text, [4] * 9), lambda: 0)
        assert seen.stopped
        assert outcome("moderation", row(text), seen, guard.effective.limits).counts.ratios["tokens_saved"][0] == 0

    def test_a_loop_stops_only_where_loops_are_asked_for(self) -> None:
        text = "stop here " + "ha ha ha, he said. " * 300
        assert [v.rule for v in Guard(asked(effective(), "moderation")).judge([text], lambda: 0).verdicts] == ["stop"]
        found = Guard(asked(effective(), "loops")).judge([text], lambda: 0).verdicts
        assert [v.rule for v in found] == ["degeneration.exact"]

    def test_a_fault_of_the_guard_is_no_figure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(self: PartitionFold, events: Any) -> tuple[list[Out], list[Rejected]]:
            return [], [Rejected(0, "fold_failed", "ValueError: oh")]

        monkeypatch.setattr(run.PartitionFold, "fold", broken)
        with pytest.raises(GuardFailed, match="ValueError: oh"):
            Guard(effective()).judge(["a"], lambda: 0)

    def test_loops_that_are_ignored_cannot_be_judged(self) -> None:
        ignored = dict.fromkeys(("exact", "counting", "run", "drift"), "ignore")
        with pytest.raises(Invalid, match="degeneration: ignores loops of every kind"):
            asked(effective(degeneration=ignored), "loops")
        assert asked(effective(degeneration=ignored), "moderation").rules

    def test_personal_data_is_judged_by_detectors_alone(self) -> None:
        assert [rule.id for rule in asked(effective(), "pii").rules] == ["mail"]
        assert {"email", "phone", "card"} <= {rule.id for rule in asked(every_detector(effective()), "pii").rules}
        none = policy().effective("demo")
        assert none is not None
        with pytest.raises(Invalid, match="no rule of kind detector"):
            asked(none, "pii")


class TestTexts:
    """Rows that are right or wrong as a whole."""

    def test_a_stop(self) -> None:
        found = judged("early-stop", row("so we stop here and go on and on"))
        assert (found.score, found.action, found.rule, found.position) == (0.9, "stop", "stop", 16)
        assert (found.counts.right, found.counts.wrong, found.counts.missed, found.alarm) == (1, 0, 0, None)
        assert found.counts.proportions == {"recall_on_time": (1, 1)}
        assert found.counts.ratios == {
            "seen_at_decision": (4 / 8, 1),
            "tokens_saved": (4, 8),
            "leaked_characters": (6, 1),
            "leaked_share": (6, 32),
            "us_per_chunk": (2, 4),
        }

    def test_a_stop_at_the_end_is_not_on_time(self) -> None:
        found = judged("early-stop", row("so we stop here"))
        assert (found.counts.right, found.counts.proportions) == (1, {"recall_on_time": (0, 1)})
        assert found.counts.ratios["tokens_saved"] == (0, 4)

    @pytest.mark.parametrize(("task", "right"), [("moderation", 1), ("early-stop", 0)])
    def test_a_mask_decides_what_is_moderated_and_stops_nothing(self, task: Task, right: int) -> None:
        found = judged(task, row("please mask me now"))
        assert (found.counts.right, found.counts.missed, found.action, found.score) == (right, 1 - right, "mask", 0.4)
        assert found.counts.ratios["leaked_characters"] == (len("please mask me now") - len("mask me"), 1)

    def test_a_flag_gives_a_score_and_decides_nothing(self) -> None:
        found = judged("moderation", row("an odd thing", positive=False))
        assert (found.score, found.action, found.rule, found.alarm) == (0.2, "flag", "flag", False)
        assert (found.counts.right, found.counts.wrong, found.counts.missed) == (0, 0, 0)

    def test_a_false_alarm(self) -> None:
        found = judged("moderation", row("stop here", positive=False))
        assert (found.counts.wrong, found.alarm, found.counts.ratios["leaked_share"]) == (1, True, (0, 0))

    def test_a_loop_counts_as_found_whatever_is_done_about_it(self) -> None:
        text = "ha ha ha, he said. " * 300
        for reaction, right in (("stop", 1), ("flag", 1), ("ignore", 0)):
            guard = Guard(asked(effective(degeneration={"exact": reaction}), "loops"))
            seen = guard.judge(cut(text, [10] * 999), lambda: 0)
            found = outcome("loops", row(text), seen, guard.effective.limits)
            assert (found.counts.right, found.counts.ratios["tokens_saved"][0] > 0) == (right, reaction == "stop")


class TestSpans:
    """Personal data."""

    TEXT = "write a@b.org or c@d.com now"
    FIRST, SECOND = TrueSpan(6, 13, "EMAIL_ADDRESS"), TrueSpan(17, 24, "email")

    def test_found_and_exact(self) -> None:
        found = judged("pii", row(self.TEXT, True, (self.FIRST, self.SECOND)))
        assert (found.counts.right, found.counts.wrong, found.counts.missed, found.alarm) == (2, 0, 0, None)
        assert found.counts.proportions == {"exact_recall": (2, 2)}
        assert found.counts.ratios["leaked_characters"] == (0, 2)
        assert found.types["email"][:3] == (2, 0, 0)

    def test_an_overlap_is_found_but_not_exact_and_the_rest_of_it_has_leaked(self) -> None:
        found = judged("pii", row(self.TEXT, True, (TrueSpan(4, 10, "EMAIL"), self.SECOND)))
        assert (found.counts.right, found.counts.proportions) == (2, {"exact_recall": (1, 2)})
        assert found.counts.ratios["leaked_characters"] == (2, 2)
        assert found.counts.ratios["leaked_share"] == (2, 13)

    def test_another_type_in_its_place_is_a_miss_and_a_false_find(self) -> None:
        found = judged("pii", row(self.TEXT, True, (TrueSpan(6, 13, "PHONE"), self.SECOND)))
        assert (found.counts.right, found.counts.wrong, found.counts.missed) == (1, 1, 1)
        assert found.types["phone"][:3] == (0, 0, 1)
        assert found.types["email"][:3] == (1, 1, 0)

    def test_what_is_not_scored_is_neither_hit_nor_miss(self) -> None:
        found = judged("pii", row(self.TEXT, True, (TrueSpan(0, 13, "SHOE_SIZE"), self.SECOND)))
        assert (found.counts.right, found.counts.wrong, found.counts.missed) == (1, 0, 0)
        assert not judged("pii", row(self.TEXT, True, (TrueSpan(0, 28, "SHOE_SIZE"),))).alarm

    def test_a_find_where_nothing_is(self) -> None:
        found = judged("pii", row(self.TEXT, False))
        assert (found.counts.wrong, found.alarm, found.positive) == (2, True, False)


def verdict(**changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "id": "i", "tenant": "t", "run": "r", "n": 0, "rule": "rule", "category": "c", "severity": 7, "policy": "p",
        "source": "answer",
    }  # fmt: skip
    return Verdict(**fields | changes)


def test_a_classifier_s_score_counts_where_there_is_one() -> None:
    class Scored:
        score, severity = 0.83, 2

    assert score_of(verdict()) == 0.7
    assert score_of(Scored()) == 0.83  # type: ignore[arg-type]


def test_tokens_are_estimated_as_the_guard_does() -> None:
    limits = effective().limits
    for text in ("hello there", "привет, мир", "half на half"):
        seen: Seen = Guard(asked(effective(), "moderation")).judge([text + " odd"], lambda: 0)
        assert seen.verdicts[0].seen_tokens == tokens_of(text + " odd", limits)
