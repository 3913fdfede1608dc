"""What outcomes tell of shared budgets: each run once, each request as a whole, windows that are over left out."""

import random
from datetime import UTC, datetime

import pytest

from processors.budgets import Budget
from processors.events import Cost, Outcome, Target, Usage
from processors.identity import uuid7
from processors.spending import OVER_MS, Spending, Spent
from tests.samples import START_MS, order

BUDGETS = (Budget("t", "day", "UTC", tokens=9), Budget("c", "month", "UTC", cost="9"))


def outcome(number: int, tokens: int, run: str = "r", open_: bool = False) -> Outcome:
    return Outcome(
        uuid7(START_MS, number.to_bytes(10, "big")), "demo", 1, run, "p", "b", "m", Target("first", "a"), "completed",
        order=order() if open_ else None, usage=Usage(input=tokens, output=1), cost=Cost(tokens * 10),
    )  # fmt: skip


def spent(outcomes: list[Outcome], since_ms: int = 0, now_ms: int = START_MS, step_ms: int = 1) -> list[Spent]:
    spending = Spending(lambda *_: BUDGETS, since_ms, now_ms)
    found = [one for n, item in enumerate(outcomes) for one in spending.take(item, START_MS + n * step_ms)]
    return [*found, *spending.rest()]


def amounts(found: Spent) -> list[int]:
    return [line.wanted for line in found.lines]


def test_runs_of_a_request_are_added_up_and_one_told_twice_counts_once() -> None:
    [found] = spent(
        [outcome(1, 5, "a", open_=True), outcome(1, 7, "b"), outcome(1, 7, "b"), outcome(1, 5, "a", open_=True)]
    )
    assert (amounts(found), found.whole) == ([14, 120], True)


def test_a_request_that_goes_on_is_not_whole() -> None:
    [found] = spent([outcome(1, 5, open_=True)])
    assert (amounts(found), found.whole) == ([6, 50], False)


def test_a_request_that_began_before_the_log_is_read_is_not_whole() -> None:
    """An earlier attempt of it may stand before: what is seen may be less than all."""
    [found] = spent([outcome(1, 5)], since_ms=START_MS + 1)
    assert not found.whole


def test_windows_that_are_over_are_left_out() -> None:
    noon = datetime.fromtimestamp(START_MS / 1000, UTC).replace(hour=12)
    day_later = int(noon.timestamp() * 1000) + 86_400_000
    [found] = spent([outcome(1, 5)], now_ms=day_later)
    assert [line.account.budget.id for line in found.lines] == ["c"]
    assert spent([outcome(1, 5)], now_ms=day_later + 32 * 86_400_000) == []


def test_a_request_is_given_as_soon_as_it_is_over_so_that_memory_is_bounded() -> None:
    spending = Spending(lambda *_: BUDGETS, 0, START_MS)
    assert [*spending.take(outcome(1, 5), START_MS)] == []
    assert [*spending.take(outcome(2, 5), START_MS + OVER_MS)] == []
    [first] = spending.take(outcome(3, 5), START_MS + OVER_MS + 1)
    assert first.id == outcome(1, 5).id


def test_nobody_s_outcome_and_a_tenant_without_budgets_are_passed_over() -> None:
    nameless = Outcome("x", "demo", 1, "r", "p", "b", "m", Target("first", "a"), "completed")
    assert spent([nameless]) == []
    spending = Spending(lambda *_: (), 0, START_MS)
    assert [*spending.take(outcome(1, 5), START_MS), *spending.rest()] == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_the_sums_are_those_of_the_runs(seed: int) -> None:
    chance = random.Random(seed)
    told = [outcome(chance.randrange(5), chance.randrange(100), f"r{chance.randrange(3)}") for _ in range(40)]
    first = {(item.id, item.run): item for item in reversed(told)}
    wanted: dict[str, int] = {}
    for item in first.values():
        assert item.usage is not None
        wanted[item.id] = wanted.get(item.id, 0) + item.usage.input + item.usage.output
    assert {one.id: amounts(one)[0] for one in spent(told)} == wanted, f"seed {seed}"
