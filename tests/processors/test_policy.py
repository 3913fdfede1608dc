"""What a policy asks of the classifier: labels that it has, and something to hold for."""

from typing import Any

import pytest

from processors.errors import Invalid
from processors.policy import check_labels
from tests.samples import policy

HARMFUL = {"labels": {"harmful": {"above": 0.9}}}
TYPO = {"labels": {"harmfull": {"above": 0.9}}}
LABELS = {"harmful": 1600, "toxicity": 400}
"""And how much of a text's end each looks at."""
ASKS = {"provider": "first", "model": "m", "ask": {"toxic": 0.5}}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"classifier": TYPO}, "classifier.labels.harmfull"),
        ({"moderator": ASKS}, "moderator.ask.toxic"),
        ({"tenants": {"demo": {"classifier": TYPO}}}, "tenants.demo.classifier.labels.harmfull"),
        ({"tenants": {"demo": {"moderator": ASKS}}}, "tenants.demo.moderator.ask.toxic"),
    ],
)
def test_labels_that_the_classifier_lacks(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as told:
        check_labels(policy(**changes), LABELS)
    assert str(told.value) == f"{path}: is no label of the classifier; it has harmful, toxicity"


def test_labels_that_it_has() -> None:
    check_labels(policy(classifier=HARMFUL, moderator=ASKS), {"harmful": 1600, "toxic": 400})
    check_labels(policy(), {})


TOXIC = {"labels": {"toxicity": {"above": 0.9}}}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"classifier": TOXIC | {"stride_chars": 401}}, "classifier.stride_chars"),
        ({"classifier": HARMFUL | {"stride_chars": 401}, "moderator": ASKS | {"ask": {"toxicity": 0.5}}}, "classifier"),
        ({"tenants": {"demo": {"classifier": TOXIC | {"stride_chars": 500}}}}, "tenants.demo.classifier.stride_chars"),
    ],
)
def test_a_stride_that_leaves_out_what_a_label_does_not_look_back_at(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid, match="toxicity looks at 400 characters; a longer stride leaves some out") as told:
        check_labels(policy(**changes), LABELS)
    assert told.value.path.startswith(path)
    check_labels(policy(classifier={"labels": HARMFUL["labels"], "stride_chars": 1600}), LABELS)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"classifier": {"window_chars": 299}}, "classifier.stride_chars"),
        ({"tenants": {"demo": {"classifier": {"stride_chars": 1601}}}}, "tenants.demo.classifier.stride_chars"),
    ],
)
def test_a_stride_longer_than_the_window(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid, match="what lies between two windows would never be looked at") as told:
        policy(**changes)
    assert told.value.path == path


def test_a_policy_for_nobody() -> None:
    with pytest.raises(Invalid, match="tenants: is empty, so nobody could ask anything; declare one"):
        policy(tenants={})


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"classifier": {"hold": True}}, "classifier.hold"),
        ({"tenants": {"demo": {"classifier": {"hold": True}}}}, "tenants.demo.classifier.hold"),
        ({"classifier": HARMFUL | {"hold": True}, "tenants": {"demo": {"classifier": {"labels": {}}}}},
         "tenants.demo.classifier.hold"),
    ],
)  # fmt: skip
def test_to_hold_until_nothing_is_scored(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid, match=path + ": holds nothing without `labels`"):
        policy(**changes)


def test_to_hold_until_something_is() -> None:
    assert policy(classifier=HARMFUL | {"hold": True}).uses_classifier


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"moderation": {"hold": "word"}},
            "moderation.hold: invalid enum value 'word'; must be one of match, sentence",
        ),
        (
            {"classifier": {"labels": {"toxicity": {"above": 0.5}, "harmful": {"above": 0.5, "action": "halt"}}}},
            "classifier.labels.harmful.action: invalid enum value 'halt'; must be one of flag, stop",
        ),
        (
            {"tenants": {"demo": {"classifier": {"labels": {"toxicity": {"above": 7}}}}}},
            "tenants.demo.classifier.labels.toxicity.above: expected `float` <= 1.0",
        ),
        ({"limits": {"chars_per_token": {"ru": "x"}}}, "limits.chars_per_token.ru: expected `float`, got `str`"),
        (
            {"limits": {"chars_per_token": {"de": 4}}},
            "limits.chars_per_token.de: is no language that is told apart; known are en, ru",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_may_stand_there(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid) as error:
        policy(**changes)
    assert str(error.value) == told


def test_who_overrides_a_price_keeps_the_others() -> None:
    changes = {"prices": {"per_million": {"input": 5}}, "limits": {"chars_per_token": {"ru": 2}}}
    found = policy(prices={"per_million": {"input": 120, "output": 480}}, tenants={"demo": changes}).effective("demo")
    assert found is not None
    assert (found.price_list.per_million.input, found.price_list.per_million.output) == (5, 480)
    assert found.limits.chars_per_token == {"en": 4, "ru": 2}
