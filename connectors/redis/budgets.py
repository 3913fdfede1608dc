"""The books of shared budgets in Redis: totals by account, and each request's part of them.

They can be lost: the log can tell them again. A mark for each partition of the log says up to when they are whole;
where it is not as it was left, they are not, and nothing is leased before what is missing was booked again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from processors.budgets import PREFIX, Account
from processors.guard.allowance import Line

TIMEOUT_S = 0.25
"""For each answer of Redis; after that it counts as away."""
REMEMBERED_MS = 86_400_000
"""How long a request's part is: as long as the journal, out of which it may be booked again."""
MARKS = f"{PREFIX}marks"

Kind = Literal["lease", "settlement", "restore"]


class BooksAway(Exception):
    """Redis does not answer, or refuses."""


class Entry(NamedTuple):
    """To be booked for a request of a partition."""

    kind: Kind
    partition: int
    id: str
    lines: tuple[Line, ...]


class Grant(NamedTuple):
    """What a request has of an account, and whether that will give no more."""

    account: Account
    amount: int
    exhausted: bool


class Books:
    """Reads and writes them; for one thread."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self._redis: Redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._renew = self._redis.register_script(_RENEW)
        self._marks: dict[int, str] = {}
        """By partition the mark as it was left."""

    def book(self, entries: Sequence[Entry]) -> list[tuple[Grant, ...] | None]:
        """Book all of these in one go. None for each lease that was not booked because the books are not whole.

        Raises:
            BooksAway: nothing is known of any of them; all may be booked again.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for entry in entries:
            self._script(*self._arguments(entry), client=pipeline)
        replies: list[Any] = self._answer(pipeline.execute)
        return [_grants(entry, reply) for entry, reply in zip(entries, replies, strict=True)]

    def mark(self, partition: int) -> str:
        """Up to when a partition's books are whole, by what stands there; empty where that is unknown.

        Raises:
            BooksAway: see there.
        """
        found: bytes | None = self._answer(lambda: self._redis.hget(MARKS, str(partition)))
        return (found or b"").decode()

    def renew(self, partition: int, mark: str) -> bool:
        """Move a partition's mark on, if it is as it was left; what it tells of is lost otherwise.

        Raises:
            BooksAway: see there.
        """
        if partition not in self._marks:
            return False
        left = self._marks[partition]
        renewed = bool(self._answer(lambda: self._renew([MARKS], [partition, left, mark])))
        if renewed:
            self._marks[partition] = mark
        return renewed

    def set_mark(self, partition: int, mark: str) -> None:
        """The books are whole up to there, at least.

        Raises:
            BooksAway: see there.
        """
        self._answer(lambda: self._redis.hset(MARKS, str(partition), mark))
        self._marks[partition] = mark

    def forget(self, partition: int) -> None:
        """Another has the partition now, and will leave marks of its own."""
        self._marks.pop(partition, None)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _arguments(self, entry: Entry) -> tuple[list[str], list[str | int]]:
        keys: list[str] = [MARKS]
        arguments: list[str | int] = [entry.kind, entry.partition, self._marks.get(entry.partition, "?"), REMEMBERED_MS]
        for account, needed, wanted in entry.lines:
            keys += [account.key, f"{account.key}:{entry.id}"]
            arguments += [account.budget.limit, needed, wanted, account.until_ms]
        return keys, arguments

    def _answer(self, ask: Any) -> Any:
        try:
            return ask()
        except (RedisError, OSError) as error:
            raise BooksAway(str(error) or type(error).__name__) from None


def _grants(entry: Entry, reply: list[int] | None) -> tuple[Grant, ...] | None:
    if reply is None:
        return None
    accounts = [line.account for line in entry.lines]
    return tuple(
        Grant(account, amount, bool(no_more))
        for account, amount, no_more in zip(accounts, reply[::2], reply[1::2], strict=True)
    )


_RENEW = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""
_SCRIPT = Path(__file__).with_name("budgets.lua").read_text(encoding="utf-8")
