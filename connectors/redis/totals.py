"""What has been used of shared budgets, for who only looks: admission, before it orders an answer."""

from collections.abc import Collection

from connectors.redis.reader import Reader

READ_TIMEOUT_S = 0.5
"""Ten times what a look into the cache may take: that costs a miss, this a refusal where a budget is `closed`."""


class Totals:
    """Reads the books that the guard's ledger writes; made inside the event loop that uses it."""

    def __init__(self, url: str) -> None:
        """The address; nothing is connected yet."""
        self._reader = Reader(url, "the books of budgets", READ_TIMEOUT_S)

    async def read(self, keys: Collection[str]) -> dict[str, int] | None:
        """By account what is used and leased of it; None where Redis is away."""
        if not keys:
            return {}
        names = list(keys)
        values = await self._reader.read(names)
        return None if values is None else {name: int(value or 0) for name, value in zip(names, values, strict=True)}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._reader.redis.aclose()
