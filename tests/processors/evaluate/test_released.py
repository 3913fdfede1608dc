"""What a reader got of a text is told by what was released."""

import re
from typing import Any

import pytest
from hypothesis import given

from processors.evaluate.released import released, within
from processors.evaluate.run import Guard, Seen, asked
from processors.events import Scored, Verdict
from tests.processors.evaluate.test_outcome import cut, cuts, effective, texts, verdict

STOPS = {"labels": {"harmful": {"above": 0.5, "action": "stop"}}, "window_chars": 40, "stride_chars": 20}


def seen_of(text: str, sizes: list[int], **changes: Any) -> Seen:
    return Guard(asked(effective(**changes), "moderation")).judge(cut(text, sizes), lambda: 0)


@given(texts, cuts)
def test_each_character_that_was_released_is_accounted_for(text: str, sizes: list[int]) -> None:
    seen = seen_of(text, sizes)
    free = "".join(text[start:end] for start, end in released(seen.given, seen.verdicts))
    assert free == re.sub(r"\[(?:CUSTOM|EMAIL)_\d+\]", "", seen.given)


@given(texts, cuts)
def test_none_of_them_stands_in_a_mask_or_behind_a_stop_of_a_rule(text: str, sizes: list[int]) -> None:
    seen = seen_of(text, sizes)
    spans = released(seen.given, seen.verdicts)
    for found in seen.verdicts:
        if found.action == "stop":
            assert within(spans, found.span[0], len(text)) == 0
        elif found.action == "mask":
            assert within(spans, *found.span) == 0


def test_a_classifier_s_stop_takes_nothing_back() -> None:
    """Its span is what was looked at, and that was released long before."""
    text = "one two three four five six seven eight nine ten "

    def scorer(windows: Any) -> list[Scored]:
        return [Scored(one.id, one.tenant, one.run, one.at, {"harmful": 0.9}, "m") for one in windows]

    seen = Guard(asked(effective(classifier=STOPS), "early-stop"), scorer).judge(cut(text, [10] * 9), lambda: 0)
    assert seen.verdicts[0].span == (0, 20)
    assert released(seen.given, seen.verdicts) == [(0, 19)]  # the last word may be one of an address


def test_a_mask_that_goes_on_has_one_placeholder() -> None:
    endless = "a" * 5000
    rule = {"id": "long", "kind": "regex", "patterns": ["a{3,}"], "action": "mask"}
    seen = seen_of(f"so {endless} it is", [100] * 99, rules=[rule])
    assert seen.given == "so [CUSTOM_1] it is"
    assert released(seen.given, seen.verdicts)[-1] == (5003, 5009)
    assert within(released(seen.given, seen.verdicts), 0, 6000) == 9


@pytest.mark.parametrize(
    ("masks", "text", "spans"),
    [
        ([], "abc", [(0, 3)]),
        ([(1, 4)], "a[X_1]bc", [(0, 1), (4, 6)]),
        ([(1, 4), (2, 6)], "a[X_1]bc", [(0, 1), (6, 8)]),  # found by two rules
        ([(1, 4), (4, 6)], "a[X_1][Y_2]bc", [(0, 1), (4, 4), (6, 8)]),
        ([(5, 8)], "abc", [(0, 3)]),  # it ended before that
    ],
)
def test_masks_are_cut_out(masks: list[tuple[int, int]], text: str, spans: list[tuple[int, int]]) -> None:
    verdicts: list[Verdict] = [verdict(span=span, action="mask") for span in masks]
    assert released(text, verdicts) == spans
