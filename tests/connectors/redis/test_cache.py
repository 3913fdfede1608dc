"""The answer cache against a real Redis, also one that hangs, dies and comes back."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis

from connectors.local.redis import LocalRedis
from connectors.redis import reader as module
from connectors.redis.cache import AnswerCache, CacheAway
from connectors.redis.reader import READ_TIMEOUT_S
from processors.cache import cache_key, encode_answer
from processors.events import AnswerPart, CachedAnswer, Usage

KEYS = [cache_key(b'{"seed":%d}' % number, "demo", "p1") for number in range(3)]
ANSWERS = [CachedAnswer((AnswerPart("content", f"answer {number}"),), "stop", Usage(), "id") for number in range(3)]


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[AnswerCache]:
    # A time-out that a busy machine does not reach; that it is kept to is tested by itself.
    async with made(redis_url, read_timeout_s=5.0) as cache:
        yield cache


@asynccontextmanager
async def made(url: str, read_timeout_s: float = READ_TIMEOUT_S) -> AsyncIterator[AnswerCache]:
    cache = AnswerCache(url, read_timeout_s)
    yield cache
    await cache.aclose()


async def put(cache: AnswerCache, number: int, ttl_s: float = 60.0) -> None:
    await cache.put(KEYS[number], encode_answer("demo", KEYS[number], ANSWERS[number]), ttl_s)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - nothing tells when Redis is back
            await asyncio.sleep(0.02)


async def test_what_was_put_is_got_in_order_until_its_time_is_over(cache: AnswerCache, redis_url: str) -> None:
    await put(cache, 0)
    await put(cache, 2, ttl_s=0.2)
    assert await cache.get_many([KEYS[2], KEYS[1], KEYS[0]]) == [ANSWERS[2], None, ANSWERS[0]]
    with redis.Redis.from_url(redis_url) as client:
        assert 55_000 < client.pttl(KEYS[0]) <= 60_000

    async def gone() -> bool:
        return await cache.get_many([KEYS[2]]) == [None]

    await until(gone)


async def test_many_keys_are_one_read(cache: AnswerCache, redis_url: str) -> None:
    await put(cache, 0)
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        await cache.get_many(KEYS)
        calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    assert calls["cmdstat_mget"] == 1
    assert "cmdstat_get" not in calls


async def test_no_keys_are_no_read(cache: AnswerCache) -> None:
    assert await cache.get_many([]) == []


async def test_a_value_that_belongs_elsewhere_is_a_miss(cache: AnswerCache) -> None:
    await cache.put(KEYS[0], encode_answer("demo", KEYS[1], ANSWERS[1]), 60)
    await cache.put(KEYS[1], b"\x00 no answer", 60)
    assert await cache.get_many(KEYS[:2]) == [None, None]
    assert cache.missed == 0, "Redis did answer"


async def test_a_redis_that_hangs_costs_one_time_out_and_gives_misses(
    own_redis: LocalRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "COOL_OFF_S", 0.3)
    caplog.set_level(logging.INFO)
    async with made(own_redis.address) as cache:

        async def reached() -> bool:
            return await cache.get_many(KEYS) == [ANSWERS[0], None, None]

        await put(cache, 0)
        await until(reached)
        caplog.clear()
        missed = cache.missed
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGSTOP)
        begun = time.perf_counter()
        assert await cache.get_many(KEYS) == [None, None, None]
        first = time.perf_counter() - begun
        assert await cache.get_many(KEYS[:1]) == [None]
        assert READ_TIMEOUT_S * 0.9 < first < READ_TIMEOUT_S + 0.5
        assert time.perf_counter() - begun - first < READ_TIMEOUT_S, "the second look-up does not wait"
        assert cache.missed - missed == 4
        with pytest.raises(CacheAway):
            await put(cache, 1)
        os.kill(own_redis.pid, signal.SIGCONT)
        await until(reached)
        said = [record.getMessage() for record in caplog.records]
        assert [line[:27] for line in said] == ["the answer cache cannot be ", "the answer cache can be rea"]


async def test_after_a_time_out_no_look_up_gets_the_answer_to_another(own_redis: LocalRedis) -> None:
    async with made(own_redis.address, read_timeout_s=5.0) as cache:
        for number in range(3):
            await put(cache, number)
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGSTOP)
        reader = cache._reader
        reader._timeout_s = 0.05
        assert await cache.get_many([KEYS[0]]) == [None]
        reader._timeout_s, reader._try_again_at = 5.0, 0.0
        os.kill(own_redis.pid, signal.SIGCONT)
        assert await reader.read([KEYS[1]]) == [encode_answer("demo", KEYS[1], ANSWERS[1])], "not that of the first"


async def test_a_redis_that_dies_gives_misses_and_comes_back(own_redis: LocalRedis) -> None:
    async with made(own_redis.address, read_timeout_s=5.0) as cache:
        await put(cache, 0)
        own_redis.kill()
        assert await cache.get_many(KEYS[:1]) == [None]
        with pytest.raises(CacheAway):
            await put(cache, 0)
        own_redis.start()
        await put(cache, 0)

        async def back() -> bool:
            return await cache.get_many(KEYS[:1]) == [ANSWERS[0]]

        await until(back)


async def test_a_redis_that_refuses_is_away_too(own_redis: LocalRedis) -> None:
    async with made(own_redis.address) as cache:
        with redis.Redis.from_url(own_redis.address) as client:
            client.config_set("maxmemory", "1")
        with pytest.raises(CacheAway, match="maxmemory"):
            await put(cache, 0)
