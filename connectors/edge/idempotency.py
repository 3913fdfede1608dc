"""`Idempotency-Key`: the same key and body within a day follow the stream that was begun first. Kept in Redis."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from connectors.edge.errors import ApiError, unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

KEPT_S = 24 * 3600
TIMEOUT_S = 1.0
LONGEST_KEY = 255

_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 1
"""
"""Replaces or deletes a value only while it is the one expected."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key bound to a request. `fresh`: by this call, so that the request is to be published."""

    name: str
    request_id: str
    body: str
    fresh: bool

    @property
    def value(self) -> str:
        return f"{self.request_id} {self.body}"


class Idempotency:
    """Keys and the requests they stand for."""

    def __init__(self, url: str) -> None:
        # One try each: a client that retries by itself would outlast the time-out here.
        self._redis: Redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=TIMEOUT_S, decode_responses=True
        )

    async def claim(self, tenant: str, key: str, request_id: str, body: str) -> Claim:
        """Bind the key to this request, or find the one it is bound to.

        Raises:
            ApiError: 400 for a key that is none, 409 if it was used with another body, 503 while Redis is away.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            raise ApiError(400, "invalid_value", f"Idempotency-Key must have 1 to {LONGEST_KEY} characters")
        name = f"sluice:idempotency:{tenant}:{hashlib.sha256(key.encode()).hexdigest()}"
        claim = Claim(name, request_id, body, fresh=True)
        for _ in range(2):  # a value may expire between the two commands, once
            if await _bounded(self._redis.set(name, claim.value, nx=True, ex=KEPT_S)):
                return claim
            stored: str | None = await _bounded(self._redis.get(name))
            if stored is not None:
                return _matching(name, stored, body)
        raise unavailable("idempotency_unavailable", "the Idempotency-Key could not be stored; try again")

    async def replace(self, stale: Claim, request_id: str) -> Claim | None:
        """Bind a key whose request never came to be to a new one; None if another has done so."""
        fresh = Claim(stale.name, request_id, stale.body, fresh=True)
        done = await _bounded(self._redis.eval(_REPLACE, 1, stale.name, stale.value, fresh.value, str(KEPT_S)))
        return fresh if done else None

    async def release(self, claim: Claim) -> None:
        """Free the key of a request that was certainly not published."""
        try:
            await _bounded(self._redis.eval(_REPLACE, 1, claim.name, claim.value, "", "0"))
        except ApiError:
            log.warning("an idempotency key could not be freed; its request was not published")

    async def reachable(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(await _bounded(self._redis.ping()))
        except ApiError:
            return False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _matching(name: str, stored: str, body: str) -> Claim:
    request_id, _, bound = stored.partition(" ")
    if bound != body:
        raise ApiError(409, "idempotency_conflict", "this Idempotency-Key was used with another body")
    return Claim(name, request_id, body, fresh=False)


async def _bounded(command: Awaitable[Any] | Any) -> Any:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await command
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("Redis did not answer: %r", error)
        raise unavailable("idempotency_unavailable", "Idempotency-Key cannot be served now; try again") from None
