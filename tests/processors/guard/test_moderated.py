"""The guard for one text, as a library: it gives what a stage's stream would."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.errors import Invalid
from processors.events import Scored, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.moderated import Moderated, ModeratedText
from processors.guard.rules import CompiledRules
from processors.guard.windows import Window
from processors.policy import Effective
from tests.processors.guard.test_fold import A, of, text_of
from tests.samples import PARTITIONS, Cuts, decision, policy, records, run

RULES = [
    {"id": "stop", "kind": "phrase", "phrases": ["stop here"], "action": "stop", "severity": 9},
    {"id": "mask", "kind": "detector", "detectors": ["email"], "action": "mask", "category": "personal"},
    {"id": "flag", "kind": "phrase", "phrases": ["odd"], "action": "flag"},
]
WORDS = ["stop", "here", "odd", "so", "write", "a@b.org", "слово."]
LABELS = {"labels": {"harmful": {"above": 0.5, "action": "stop"}}, "window_chars": 30, "stride_chars": 20}


def under(**changes: Any) -> Effective:
    found = policy(**{"rules": RULES} | changes).effective("demo")
    assert found is not None
    return found


def fed(text: ModeratedText, pieces: Sequence[str]) -> tuple[str, list[Verdict], Moderated]:
    """All that was released, all that was found, and what came last."""
    parts = [*map(text.feed, pieces), text.finish()]
    return "".join(part.text for part in parts), [one for part in parts for one in part.verdicts], parts[-1]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), st.lists(st.integers(1, 9), min_size=9))
def test_it_gives_what_a_stream_gives(text: str, sizes: list[int]) -> None:
    effective, pieces, at = under(), [], 0
    for size in [*sizes, len(text)]:
        pieces += [text[at : at + size]] if at < len(text) else []
        at += size
    released, verdicts, last = fed(ModeratedText(effective, id=A), pieces)
    compiled = CompiledRules(effective)
    outputs, _ = PartitionFold(0, PARTITIONS, lambda *_: (effective, compiled)).fold(
        records([decision(A), *run(A, pieces)])
    )
    assert released == text_of(outputs)
    assert [(one.rule, one.span, one.n) for one in verdicts] == [
        (one.rule, one.span, one.n) for one in of(Verdict, outputs)
    ]
    assert (last.stop is not None) == any(one.action == "stop" for one in verdicts)


def test_behind_a_stop_nothing_is_given() -> None:
    text = ModeratedText(under(), language="ru")
    assert text.feed("so stop ").text == "so "
    found = text.feed("here and on")
    assert (found.text, [one.rule for one in found.verdicts], found.stop) == ("", ["stop"], ("content_filter", "stop"))
    assert text.feed("more") == text.finish() == ("", (), ("content_filter", "stop"))


def test_the_limit_of_tokens_holds() -> None:
    released, verdicts, last = fed(ModeratedText(under(limits={"max_output_tokens": 2})), ["one two three"])
    assert (released, last.stop) == ("one two ", ("token_limit", "limits.max_output_tokens"))
    assert [(one.rule, one.category) for one in verdicts] == [("limits.max_output_tokens", "limits")]


def scorer(score: float | None) -> Any:
    def scored(windows: Sequence[Window]) -> list[Scored]:
        scores = {} if score is None else {"harmful": score}
        return [Scored(one.id, one.tenant, one.run, one.at, scores, "m", one.kind, one.choice) for one in windows]

    return scored


@pytest.mark.parametrize(
    ("score", "hold", "released", "stopped"),
    [
        (0.9, False, True, True),
        (0.9, True, False, True),
        (0.1, True, True, False),
        (None, True, False, True),
        (None, False, True, False),
    ],
)
def test_a_classifier_stops_it_where_there_is_one(
    score: float | None, hold: bool, released: bool, stopped: bool
) -> None:
    text = ModeratedText(under(classifier=LABELS | {"hold": hold}), scorer=scorer(score))
    given_back, _, last = fed(text, ["a quiet river ran ", "past the mill"])
    assert (given_back != "", last.stop is not None) == (released, stopped)
    if not stopped:
        assert given_back == "a quiet river ran past the mill"


def test_without_one_a_policy_that_holds_cannot_be_kept() -> None:
    with pytest.raises(Invalid, match=r"classifier\.hold"):
        ModeratedText(under(classifier=LABELS | {"hold": True}))
    assert fed(ModeratedText(under(classifier=LABELS)), ["some text"])[0] == "some text"
    dry = under(classifier=LABELS | {"hold": True}, moderation={"dry_run": True})
    assert fed(ModeratedText(dry), ["some text"])[0] == "some text"


REPEATED = ["I will do it again. ", "stop here ", "odd ", "Row 17 of 40 is done. ", "a@b.org ", "x" * 90]


@pytest.mark.parametrize("hold", ["match", "sentence"])
@given(
    st.lists(st.tuples(st.sampled_from(REPEATED), st.integers(1, 30)), min_size=1, max_size=5),
    st.lists(st.integers(0, 2000), max_size=12),
)
@example([(REPEATED[5], 3), (REPEATED[0], 1), (REPEATED[1], 1)], [256])  # a run that is flagged, then a stop
def test_in_whatever_pieces_a_text_comes_the_same_is_released_and_found(
    hold: str, parts: list[tuple[str, int]], cuts: list[int]
) -> None:
    """Also where it says the same over and over, and all of it comes at once: what stands behind a stop is withheld."""
    effective = under(
        degeneration={"exact": "stop", "counting": "flag", "run": "flag"},
        moderation={"hold": hold},
        limits={"max_output_tokens": 900},
    )
    text = "".join(piece * times for piece, times in parts)
    compiled = CompiledRules(effective)
    whole, pieces = (fed(ModeratedText(effective, compiled), Cuts(text, sorted(where)).pieces) for where in ([], cuts))
    assert [(one.rule, one.span) for one in pieces[1]] == [(one.rule, one.span) for one in whole[1]]
    assert (pieces[0], pieces[2].stop) == (whole[0], whole[2].stop)
