"""The same key and body follow the stream that was begun first; another body is a conflict; without Redis, 503."""

import asyncio
import time
import uuid
from typing import Any

import aiohttp
import httpx2
import orjson
import pytest
from redis import Redis

from connectors.edge import chat
from connectors.local.redis import LocalRedis
from processors.events import Joined
from processors.identity import uuid7
from tests.connectors.edge.conftest import KEY, OTHER_KEY, Start
from tests.connectors.edge.double import Pipeline
from tests.connectors.edge.running import RunningEdge


def body(content: str = "a|b", model: str = "echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}]} | more


def post(edge: RunningEdge, data: dict[str, Any], key: str, api_key: str = KEY) -> httpx2.Response:
    headers = {"authorization": f"Bearer {api_key}", "idempotency-key": key}
    return httpx2.post(f"{edge.url}/v1/chat/completions", content=orjson.dumps(data), headers=headers, timeout=20)


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def count(pipeline: Pipeline, content: str) -> int:
    return sum(content in str(request) for request in pipeline.requests.values())


def test_a_repeat_is_served_from_the_stored_stream(edge: RunningEdge, pipeline: Pipeline, key: str) -> None:
    first, second = post(edge, body(key), key), post(edge, body(key), key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    assert count(pipeline, key) == 1


def test_an_error_is_repeated_too(edge: RunningEdge, key: str) -> None:
    data = body(key, "fails-504")
    first, second = post(edge, data, key), post(edge, data, key)
    assert (first.status_code, second.status_code) == (504, 504)
    assert first.headers["x-request-id"] == second.headers["x-request-id"]


def test_a_repeat_while_the_first_still_runs_follows_it(edge: RunningEdge, pipeline: Pipeline, key: str) -> None:
    async def both() -> list[str]:
        headers = {"authorization": f"Bearer {KEY}", "idempotency-key": key}
        data = orjson.dumps(body(key, "manual", stream=True))
        async with aiohttp.ClientSession(headers=headers) as session:

            async def ask(reads: asyncio.Event) -> str:
                async with session.post(f"{edge.url}/v1/chat/completions", data=data) as answer:
                    assert answer.status == 200
                    reads.set()
                    return await answer.text()

            reading = [asyncio.Event() for _ in range(5)]
            waiting = [asyncio.create_task(ask(reads)) for reads in reading]
            stream = await asyncio.to_thread(pipeline.submitted, key)
            stream.opened()
            stream.text("one")
            for reads in reading:  # one that comes after the end would follow nobody
                await asyncio.wait_for(reads.wait(), 30)
            stream.text("two")
            stream.end()
            return await asyncio.gather(*waiting)

    answers = asyncio.run(both())
    assert len(set(answers)) == 1
    assert count(pipeline, key) == 1
    assert not pipeline.about(pipeline.submitted(key).id, Joined)  # the submitter was there all the while


def test_another_body_is_a_conflict(edge: RunningEdge, key: str) -> None:
    assert post(edge, body(key), key).status_code == 200
    answer = post(edge, body(key, temperature=1), key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict")


def test_another_tenants_key_is_another_key(edge: RunningEdge, pipeline: Pipeline, key: str) -> None:
    ids = {post(edge, body(key), key, api_key).headers["x-request-id"] for api_key in (KEY, OTHER_KEY)}
    assert len(ids) == 2


@pytest.mark.parametrize("bad", ["", "k" * 256])
def test_a_key_that_is_none(edge: RunningEdge, bad: str) -> None:
    assert post(edge, body(), bad).status_code == 400


def test_a_rejected_request_binds_no_key(edge: RunningEdge, key: str) -> None:
    assert post(edge, body(key, n=2), key).status_code == 400
    assert post(edge, body(key), key).status_code == 200


def stored(redis_url: str, request_id: str) -> tuple[Redis, str]:
    """The key in Redis that is bound to a request."""
    redis = Redis.from_url(redis_url, decode_responses=True)
    for name in redis.scan_iter("sluice:idempotency:*", count=1000):
        if redis.get(name).startswith(request_id):
            return redis, name
    raise AssertionError("nothing is stored")


def test_it_is_kept_for_a_day(edge: RunningEdge, redis_url: str, key: str) -> None:
    redis, name = stored(redis_url, post(edge, body(key), key).headers["x-request-id"])
    with redis:
        assert 86_000 < redis.ttl(name) <= 86_400
        assert key not in name
        assert key not in redis.get(name)


@pytest.mark.parametrize("age_s", [0, 3600])
def test_a_request_that_never_came_to_be(
    edge: RunningEdge, redis_url: str, pipeline: Pipeline, key: str, age_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge died between Redis and the log: a young one may still be on its way, an old one is begun anew."""
    first = post(edge, body(key), key).headers["x-request-id"]
    redis, name = stored(redis_url, first)
    with redis:
        never = uuid7((int(time.time()) - age_s) * 1000, uuid.uuid4().bytes[:10])
        redis.set(name, redis.get(name).replace(first, never), keepttl=True)
        monkeypatch.setattr(chat, "LONGEST_WAIT_S", 0.2)
        answer = post(edge, body(key), key)
        if age_s:
            assert answer.status_code == 200
            assert redis.get(name).startswith(answer.headers["x-request-id"])
            assert redis.ttl(name) > 86_000
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "idempotency_underway")


def test_without_redis_only_such_requests_are_refused(start_edge: Start, own_redis: LocalRedis, key: str) -> None:
    own = start_edge(redis=own_redis.address)
    assert post(own, body(key), key).status_code == 200
    assert httpx2.get(f"{own.url}/readyz").json() == {"ready": True, "missing": [], "degraded": []}
    own_redis.stop()
    answer = post(own, body(key), key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "idempotency_unavailable")
    assert "retry-after" in answer.headers
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx2.post(f"{own.url}/v1/chat/completions", json=body(), headers=headers).status_code == 200
    state = httpx2.get(f"{own.url}/readyz")
    assert (state.status_code, state.json()["degraded"]) == (200, ["redis"])
    own_redis.start()
    assert post(own, body(key), key + "-2").status_code == 200
