"""Rules that a policy may not have, each with what would mend it."""

from typing import Any

import pytest

from processors.errors import Invalid
from processors.rule import CATEGORIES
from tests.samples import policy

RULE = {"id": "r", "kind": "phrase", "phrases": ["a phrase"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"category": "toxicty"},
            r"rules\[0\]\.category: 'toxicty' is not known; known are toxicity, violence, .*ours",
        ),
        ({"category": ""}, r"rules\[0\]\.category: '' is not known"),
        ({"languages": ["ru", "de"]}, r"rules\[0\]\.languages: 'de' is no language .* known are en, ru"),
        ({"tenants": ["nobody"]}, r"rules\[0\]\.tenants: 'nobody' is not declared under tenants"),
        ({"phrases": []}, r"rules\[0\]\.phrases: is empty"),
        ({"detectors": ["email"]}, r"rules\[0\]\.detectors: has no place in a rule of kind phrase"),
        (
            {"kind": "regex"},
            r"rules\[0\]\.phrases: has no place in a rule of kind regex; its entries stand in patterns",
        ),
        (
            {"action": "block"},
            r"rules\[0\]\.action: invalid enum value 'block'; must be one of flag, mask, refuse, stop",
        ),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        policy(rules=[RULE | changes], categories=["ours"])
    with pytest.raises(Invalid, match="tenants.demo." + message):
        policy(tenants={"demo": {"rules": [RULE | changes]}}, categories=["ours"])


@pytest.mark.parametrize("category", [*CATEGORIES, "ours"])
def test_known_and_declared_categories(category: str) -> None:
    assert policy(rules=[RULE | {"category": category}], categories=["ours"]).policy.rules[0].category == category


def test_two_rules_of_one_name() -> None:
    with pytest.raises(Invalid, match=r"rules\[1\]\.id: 'r' stands twice"):
        policy(rules=[RULE, RULE])


def test_a_moderator_s_category_is_one_of_them() -> None:
    moderator = {"provider": "first", "model": "m", "category": "harm"}
    with pytest.raises(Invalid, match=r"moderator\.category: 'harm' is not known"):
        policy(moderator=moderator)
    with pytest.raises(Invalid, match=r"tenants\.demo\.moderator\.category: 'harm' is not known"):
        policy(tenants={"demo": {"moderator": moderator}})
    assert policy(moderator=moderator, categories=["harm"]).policy.moderator is not None
