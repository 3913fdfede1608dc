"""Reads of Redis that a request waits for: they never fail and never take long."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.05
CONNECT_TIMEOUT_S = 1.0
COOL_OFF_S = 0.5
"""How long nothing is read after a read has failed: a Redis that hangs must not cost every batch its time-out."""

FAILURES = (RedisError, OSError, TimeoutError)


class Reader:
    """Values by their keys; made inside the event loop that uses it. `missed` counts what Redis left unanswered."""

    def __init__(self, url: str, what: str, timeout_s: float = READ_TIMEOUT_S) -> None:
        """`what` is read, for the log."""
        self.redis = connected(url)
        self.missed = 0
        self._what = what
        self._timeout_s = timeout_s
        self._away_since: float | None = None
        self._try_again_at = 0.0

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None] | None:
        """The values in the order of their keys, in one read; None where Redis is away."""
        if time.monotonic() < self._try_again_at:
            self.missed += len(keys)
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                values: Any = await self.redis.mget(keys)
        except FAILURES as error:
            self.missed += len(keys)
            self._away(error)
            return None
        self._back()
        return values  # type: ignore[no-any-return]

    def _away(self, error: BaseException) -> None:
        now = time.monotonic()
        self._try_again_at = now + COOL_OFF_S
        if self._away_since is None:
            self._away_since = now
            log.warning("%s cannot be read until Redis is back: %s", self._what, words(error))

    def _back(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            log.info("%s can be read again after %.1f s; %d reads missed since start", self._what, seconds, self.missed)
            self._away_since = None


def connected(url: str) -> Redis:
    """A client that tries once: one that retries by itself would outlast the time-outs here."""
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=CONNECT_TIMEOUT_S)


def words(error: BaseException) -> str:
    """An error as it is told; some have no words of their own."""
    return str(error) or type(error).__name__
