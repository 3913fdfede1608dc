"""The answer cache in Redis. Reading never fails and never takes long: what Redis does not answer is a miss."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from processors.cache import decode_answer
from processors.events import CachedAnswer

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.05
WRITE_TIMEOUT_S = 1.0
COOL_OFF_S = 0.5
"""How long no look-up is tried after one has failed: a Redis that hangs must not cost every batch its time-out."""

Failures = (RedisError, OSError, TimeoutError)


class CacheAway(Exception):
    """Redis did not take an entry: it is away, hangs, or refuses."""


class AnswerCache:
    """Look-ups for admission, writes for fill; made inside the event loop that uses it.

    `missed` counts the look-ups that Redis left without an answer.
    """

    def __init__(self, url: str, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        # One try each: a client that retries by itself would outlast the time-outs here.
        self._redis: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=WRITE_TIMEOUT_S)
        self._read_timeout_s = read_timeout_s
        self._away_since: float | None = None
        self._try_again_at = 0.0
        self.missed = 0

    async def get_many(self, keys: Sequence[str]) -> list[CachedAnswer | None]:
        """The answers under these keys in their order, in one read; None for each that is not there."""
        values: Sequence[bytes | None] | None = None
        if keys and time.monotonic() >= self._try_again_at:
            values = await self._read(keys)
        if values is None:
            self.missed += len(keys)
            return [None] * len(keys)
        return [decode_answer(key, value) if value else None for key, value in zip(keys, values, strict=True)]

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep `value` under `key` for `ttl_s` seconds.

        Raises:
            CacheAway: Redis did not confirm it within a second.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._redis.set(key, value, px=max(1, int(ttl_s * 1000)))
        except Failures as error:
            raise CacheAway(_words(error)) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _read(self, keys: Sequence[str]) -> Sequence[bytes | None] | None:
        try:
            async with asyncio.timeout(self._read_timeout_s):
                values: Any = await self._redis.mget(keys)
        except Failures as error:
            self._away(error)
            return None
        self._back()
        return values  # type: ignore[no-any-return]

    def _away(self, error: BaseException) -> None:
        now = time.monotonic()
        self._try_again_at = now + COOL_OFF_S
        if self._away_since is None:
            self._away_since = now
            log.warning("the answer cache is away, every look-up is a miss until it is back: %s", _words(error))

    def _back(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            log.info("the answer cache is back after %.1f s; %d look-ups missed since start", seconds, self.missed)
            self._away_since = None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
