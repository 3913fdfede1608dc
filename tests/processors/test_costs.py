"""Limits of cost that cannot be kept are refused when the policy is loaded."""

from typing import Any

import pytest

from processors.errors import Invalid
from tests.samples import policy

BUDGETS = [
    {"id": "tokens", "window": "day", "timezone": "UTC", "tokens": 9},
    {"id": "cost", "window": "day", "timezone": "UTC", "cost": "1"},
]
FREE = {"per_million": {"input": 0, "output": 0, "cached": 0}}
PROVIDERS = {
    "first": {"base_url": "http://127.0.0.1:1/v1", "prices": {"currency": "USD", "per_million": {"output": 2}}},
    "second": {"base_url": "http://127.0.0.1:2/v1"},
}
"""The second is at the policy's prices, in RUB."""
ROUTES = {"a": [{"provider": "first", "model": "a"}], "b": [{"provider": "second", "model": "b"}]}


@pytest.mark.parametrize(
    ("limiting", "path"),
    [
        ({"limits": {"max_cost": "1"}}, r"limits\.max_cost"),
        ({"budgets": BUDGETS}, r"budgets\[1\]\.cost"),
        ({"tenants": {"demo": {"limits": {"max_cost": 1}}, "other": {}}}, r"tenants\.demo\.limits\.max_cost"),
        ({"tenants": {"demo": {"budgets": BUDGETS}, "other": {}}}, r"tenants\.demo\.budgets\[1\]\.cost"),
    ],
)
class TestLimits:
    """Of each kind, for all tenants or for one."""

    def test_two_currencies(self, limiting: dict[str, Any], path: str) -> None:
        told = rf"^{path}: .* tenant demo \(first in USD, second in RUB\)"
        with pytest.raises(Invalid, match=told):
            policy(**limiting, providers=PROVIDERS)

    def test_no_price(self, limiting: dict[str, Any], path: str) -> None:
        with pytest.raises(Invalid, match=rf"^{path}: is never reached"):
            policy(**limiting, prices=FREE)

    def test_one_currency_will_do(self, limiting: dict[str, Any], path: str) -> None:
        policy(**limiting)
        free = PROVIDERS | {"first": PROVIDERS["first"] | {"prices": FREE}}
        policy(**limiting, providers=free)  # nothing in USD is ever added up
        policy(**limiting, providers=PROVIDERS, routes={"b": ROUTES["b"]})  # nobody is sent to the other


def test_two_currencies_without_a_limit_are_fine() -> None:
    assert policy(providers=PROVIDERS, budgets=BUDGETS[:1]).uses_budgets


def test_a_limit_for_all_is_one_for_those_who_pay() -> None:
    policy(limits={"max_cost": 1}, tenants={"demo": {"prices": FREE}, "other": {}})
    with pytest.raises(Invalid, match=r"^limits\.max_cost: is never reached"):
        policy(limits={"max_cost": 1}, tenants={"demo": {"prices": FREE}, "other": {"prices": FREE}})
