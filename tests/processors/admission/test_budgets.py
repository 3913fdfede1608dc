"""Requests whose shared budgets are used up: told so, and when to come back, without an order."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from processors.admission.budgets import over_budget
from processors.admission.decide import decide
from processors.admission.examine import Examined, examine
from processors.events import CachedAnswer, Order, Rejection, Usage
from processors.guard.rules import CompiledRules
from tests.samples import START, policy, request_id

A = request_id(0)


def examined(unavailable: str = "closed", **request: Any) -> Examined:
    budget = {"id": "day", "window": "day", "timezone": "UTC", "tokens": 100, "unavailable": unavailable}
    found = policy(budgets=[budget]).effective("demo")
    assert found is not None
    body = {"id": A, "tenant": "demo", "model": "assistant", "messages": [{"role": "user", "content": "hi"}]} | request
    judged = examine(json.dumps(body).encode(), [], START, START, lambda _: (found, CompiledRules(found)))
    assert isinstance(judged, Examined)
    return judged


def key() -> str:
    [account] = examined().accounts
    return account.key


def test_what_is_left_is_ordered() -> None:
    assert over_budget(examined(), {key(): 99}) is None
    assert over_budget(examined(), {key(): 0}) is None


def test_what_is_used_up_is_rejected_until_the_window_ends() -> None:
    rejection = over_budget(examined(), {key(): 100})
    assert rejection is not None
    assert (rejection.status, rejection.code) == (429, "budget_exhausted")
    assert rejection.message == "The budget is exhausted (budgets.day)."
    midnight = datetime(START.year, START.month, START.day, tzinfo=UTC)
    assert rejection.retry_after_s == pytest.approx(86_400 - (START - midnight).total_seconds(), abs=1)


def test_in_the_language_of_the_request() -> None:
    asked = examined(messages=[{"role": "user", "content": "Привет, расскажи сказку"}])
    rejection = over_budget(asked, {key(): 100})
    assert rejection is not None
    assert rejection.message == "Бюджет исчерпан (budgets.day)."


def test_while_nobody_knows_the_policy_decides() -> None:
    closed = over_budget(examined("closed"), None)
    assert closed is not None
    assert (closed.status, closed.code) == (503, "budget_unavailable")
    assert over_budget(examined("open"), None) is None


def test_a_stored_answer_is_served_all_the_same() -> None:
    stored = CachedAnswer((), "stop", Usage(), "id")

    def choice(cached: CachedAnswer | None) -> Any:
        return decide(examined(), cached, lambda _: False, lambda _: None, {key(): 100}).choice

    assert choice(stored) is stored
    assert isinstance(choice(None), Rejection)
    assert isinstance(decide(examined(), None, lambda _: False, lambda _: None, {}).choice, Order)
