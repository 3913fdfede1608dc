"""The answer cache in Redis. Reading never fails and never takes long: what Redis does not answer is a miss."""

import asyncio
from collections.abc import Sequence

from connectors.redis.reader import FAILURES, READ_TIMEOUT_S, Reader, words
from processors.cache import decode_answer
from processors.events import CachedAnswer

WRITE_TIMEOUT_S = 1.0


class CacheAway(Exception):
    """Redis did not take an entry: it is away, hangs, or refuses."""


class AnswerCache:
    """Look-ups for admission, writes for fill; made inside the event loop that uses it."""

    def __init__(self, url: str, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        """The address; nothing is connected yet."""
        self._reader = Reader(url, "the answer cache", read_timeout_s)

    @property
    def missed(self) -> int:
        """Look-ups that Redis left without an answer."""
        return self._reader.missed

    async def get_many(self, keys: Sequence[str]) -> list[CachedAnswer | None]:
        """The answers under these keys in their order, in one read; None for each that is not there."""
        values = await self._reader.read(keys) if keys else None
        if values is None:
            return [None] * len(keys)
        return [decode_answer(key, value) if value else None for key, value in zip(keys, values, strict=True)]

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep `value` under `key` for `ttl_s` seconds.

        Raises:
            CacheAway: Redis did not confirm it within a second.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._reader.redis.set(key, value, px=max(1, int(ttl_s * 1000)))
        except FAILURES as error:
            raise CacheAway(words(error)) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._reader.redis.aclose()
