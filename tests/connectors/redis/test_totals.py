"""What is used of budgets, read from a real Redis that is slow or hangs."""

import asyncio
import os
import signal

import redis

from connectors.local.redis import LocalRedis
from connectors.redis.cache import AnswerCache
from connectors.redis.reader import READ_TIMEOUT_S
from connectors.redis.totals import Totals

SLOW_S = 2 * READ_TIMEOUT_S


async def while_it_stands(server: LocalRedis, totals: Totals) -> dict[str, int] | None:
    """One read under a Redis that stands still for a moment in which a look into the cache gives up."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(SLOW_S, os.kill, server.pid, signal.SIGCONT)
    cache = AnswerCache(server.address)
    found, looked = await asyncio.gather(totals.read(["spent", "unspent"]), cache.get_many(["spent"]))
    assert (looked, cache.missed) == ([None], 1), "the control: it was too slow for the cache"
    await cache.aclose()
    return found


async def test_a_slow_redis_is_waited_for(own_redis: LocalRedis) -> None:
    """Its first request too, which has to connect: a refusal would be the answer where a budget is closed."""
    with redis.Redis.from_url(own_redis.address) as client:
        client.set("spent", 7)
    totals = Totals(own_redis.address)
    assert await while_it_stands(own_redis, totals) == {"spent": 7, "unspent": 0}
    await totals.aclose()


async def test_one_that_hangs_is_away(own_redis: LocalRedis) -> None:
    assert own_redis.pid is not None
    os.kill(own_redis.pid, signal.SIGSTOP)
    totals = Totals(own_redis.address)
    async with asyncio.timeout(5):
        assert await totals.read(["spent"]) is None
    await totals.aclose()
