"""Shared budgets through the whole pipeline: concurrent answers, a guard that dies, a Redis that forgets."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml

from tests.e2e.pipeline import POLICY, Pipeline, running
from tests.e2e.test_path import script

LIMIT = 1600
"""Tokens of a tenant's day: fewer than the answers below would like to have."""
LONG = 240
"""Tokens after which an answer is ended by its own limit."""
BUDGET = {"id": "day", "window": "month", "timezone": "Europe/Moscow", "tokens": LIMIT}


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    home = tmp_path_factory.mktemp("budgeted")
    policy = yaml.safe_load(POLICY.read_text())
    policy["tenants"] = {
        "demo": {"budgets": [BUDGET | {"per": "key", "tokens": 100}]},
        "many": {"budgets": [BUDGET]},
        "killed": {"budgets": [BUDGET]},
        "forgotten": {"budgets": [BUDGET]},
        "free": {},
    }
    policy["limits"]["max_output_tokens"] = LONG
    file = home / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, allow_unicode=True))
    with running(home / "home", policy=file) as started:
        yield started


def asked(pipeline: Pipeline, tenant: str, count: int) -> list[str]:
    return [pipeline.ask("endless", tenant=tenant) for _ in range(count)]


def released(pipeline: Pipeline, request: str) -> tuple[str, dict[str, Any]]:
    """Text and end of a request; what a rebuilt guard has written again it has written alike."""
    *events, end = pipeline.records("tokens", request, "end")
    parts: dict[int, str] = {}
    for event in events:
        if event["type"] == "tokens":
            assert parts.setdefault(event["seq"], event["text"]) == event["text"]
    assert [*parts] == [*range(end["seq"])]
    return "".join(parts.values()), end


def shown(pipeline: Pipeline, requests: list[str]) -> tuple[int, list[str]]:
    """Tokens that all answers together have had, prompts included, and how each ended."""
    total, reasons = 0, []
    for request in requests:
        text, end = released(pipeline, request)
        [decision] = pipeline.records("journal", request, "decision")
        if text:
            total += decision["prompt_tokens"] + -(-len(text) // 4)
        reasons.append(end["reason"])
    return total, reasons


def test_concurrent_answers_share_a_budget_and_end_at_it(budgeted: Pipeline) -> None:
    """Of nine answers that want 2,100 tokens none goes beyond its grant, so all of them not beyond 1,600."""
    total, reasons = shown(budgeted, asked(budgeted, "many", 9))
    assert 0.8 * LIMIT < total <= LIMIT
    assert {"token_limit", "budget_exhausted"} == {*reasons}
    # What was leased is given back, so what is told as used can be more only by what providers had sent already.
    text, end = budgeted.stream(asked(budgeted, "many", 1)[0])
    assert (text, end["status"]) == ("", "failed") or end["reason"] == "budget_exhausted"


def test_control_without_a_budget_all_of_them_are_whole(budgeted: Pipeline) -> None:
    total, reasons = shown(budgeted, asked(budgeted, "free", 9))
    assert total > LIMIT
    assert {*reasons} == {"token_limit"}


def test_a_guard_that_dies_neither_forgets_nor_books_twice(budgeted: Pipeline) -> None:
    requests = asked(budgeted, "killed", 9)
    budgeted.records("tokens", requests[0], "tokens")
    budgeted.stage("guard").send_signal(signal.SIGKILL)
    total, reasons = shown(budgeted, requests)
    assert 0.8 * LIMIT < total <= LIMIT
    assert {"token_limit", "budget_exhausted"} == {*reasons}


def test_what_redis_forgets_is_booked_again(budgeted: Pipeline) -> None:
    first, _ = shown(budgeted, asked(budgeted, "forgotten", 4))
    with redis.Redis.from_url(budgeted.services["redis"]) as client:
        client.flushall()
    second, reasons = shown(budgeted, asked(budgeted, "forgotten", 6))
    assert 0.8 * LIMIT < first + second <= LIMIT
    assert "budget_exhausted" in reasons


def post(pipeline: Pipeline, deltas: list[str]) -> tuple[int, Any, dict[str, str]]:
    body = {"model": "script", "messages": [{"role": "user", "content": script(*deltas)}]}
    headers = {"Authorization": f"Bearer {pipeline.key}"}
    request = urllib.request.Request(f"{pipeline.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def test_a_key_whose_budget_is_used_up_is_told_so_and_when_to_come_back(budgeted: Pipeline) -> None:
    status, answer, _ = post(budgeted, ["abcd" * 400])
    assert (status, answer["choices"][0]["finish_reason"]) == (200, "length")
    calls = len(budgeted.provider_calls())
    status, answer, headers = post(budgeted, ["abcd"])
    assert (status, answer["error"]["code"], answer["error"]["type"]) == (429, "budget_exhausted", "rate_limit_error")
    assert 1 <= int(headers["retry-after"]) <= 31 * 86_400
    assert len(budgeted.provider_calls()) == calls  # nothing was ordered, so nothing is paid
    # The tenant's requests by Kafka have no key, and none of its budget.
    assert budgeted.stream(budgeted.ask("story"))[1]["reason"] == "stop"
