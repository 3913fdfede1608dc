"""What a policy asks of the classifier: labels that it has, and something to hold for."""

from typing import Any

import pytest

from processors.errors import Invalid
from processors.policy import check_labels
from tests.samples import policy

HARMFUL = {"labels": {"harmful": {"above": 0.9}}}
TYPO = {"labels": {"harmfull": {"above": 0.9}}}
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
        check_labels(policy(**changes), ("harmful", "toxicity"))
    assert str(told.value) == f"{path}: is no label of the classifier; it has harmful, toxicity"


def test_labels_that_it_has() -> None:
    check_labels(policy(classifier=HARMFUL, moderator=ASKS), ("harmful", "toxic"))
    check_labels(policy(), ())


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
