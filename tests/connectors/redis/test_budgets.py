"""The books of shared budgets in a real Redis: totals and parts as the model has them, and whole or not booked."""

import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from connectors.local.redis import LocalRedis
from connectors.redis.budgets import MARKS, Books, BooksAway, Entry, Grant
from processors.budgets import Account, Budget, accounts
from processors.guard.allowance import Booking, Line
from tests.processors.guard import books as model

NOW = datetime.now(UTC)


def account(limit: int, tenant: str = "") -> Account:
    budget = Budget("day", "day", "UTC", tokens=limit)
    [found] = accounts((budget,), tenant or str(uuid.uuid4()), None, None, NOW)
    return found


def lease(found: Account, request: str, needed: int, wanted: int) -> Entry:
    return Entry("lease", 0, request, (Line(found, needed, wanted),))


@pytest.fixture
def books(redis_url: str) -> Iterator[Books]:
    made = Books(redis_url, timeout_s=5.0)
    made.set_mark(0, "1")
    yield made
    made.close()


class TestBooking:
    def test_a_lease_twice_is_booked_once(self, books: Books) -> None:
        found = account(1000)
        entry = lease(found, "a", 5, 200)
        assert books.book([entry, entry]) == [(Grant(found, 200, False),)] * 2
        assert books.book([lease(found, "b", 5, 900)]) == [(Grant(found, 200, False),)]

    def test_near_the_limit_a_request_gets_what_it_needs_and_at_it_no_more(self, books: Books) -> None:
        found = account(100)
        assert books.book([lease(found, "a", 10, 300)]) == [(Grant(found, 25, False),)]
        assert books.book([lease(found, "b", 70, 300)]) == [(Grant(found, 70, False),)]
        assert books.book([lease(found, "c", 70, 300)]) == [(Grant(found, 5, True),)]
        assert books.book([lease(found, "a", 26, 300)]) == [(Grant(found, 25, True),)]

    def test_a_settlement_sets_and_a_restore_only_raises(self, books: Books, redis_url: str) -> None:
        found = account(100)
        books.book([lease(found, "a", 80, 80)])
        for kind, amount, then in (
            ("settlement", 130, 130),
            ("settlement", 20, 20),
            ("restore", 10, 20),
            ("restore", 50, 50),
        ):
            books.book([Entry(kind, 0, "a", (Line(found, amount, amount),))])  # type: ignore[arg-type]
            assert int(redis.Redis.from_url(redis_url).get(found.key)) == then

    def test_keys_end_with_their_window(self, books: Books, redis_url: str) -> None:
        found = account(100)
        books.book([lease(found, "a", 10, 10)])
        client = redis.Redis.from_url(redis_url)
        ends_ms = time.time() * 1000 + client.pttl(found.key)
        assert ends_ms == pytest.approx(found.until_ms + 86_400_000, abs=5000)
        assert 0 < client.pttl(f"{found.key}:a") <= 86_400_000

    def test_no_tenant_reaches_another_s_account(self, books: Books) -> None:
        """A name that looks like another's key with more behind it is escaped."""
        assert account(1, "a:b").key.split(":")[2] == "a%3Ab"
        mine, other = account(100, "t"), account(100, "t:day:-:tokens")
        books.book([lease(mine, "a", 60, 60)])
        assert books.book([lease(other, "a", 60, 60)]) == [(Grant(other, 60, False),)]

    def test_amounts_beyond_32_bits(self, books: Books) -> None:
        found = account(2**52)
        assert books.book([lease(found, "a", 2**51, 2**51)]) == [(Grant(found, 2**51, False),)]
        assert books.book([lease(found, "a", 2**51 + 1, 2**51 + 1)]) == [(Grant(found, 2**51 + 1, False),)]

    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_is_booked_is_as_in_the_model(self, books: Books, seed: int) -> None:
        chance, copy = random.Random(seed), model.Books()
        found = account(chance.choice((1, 50, 1000)))
        for step in range(60):
            kind, request = chance.choice(("lease", "lease", "settlement", "restore")), chance.choice("abcd")
            needed = chance.randrange(0, 300)
            line = Line(found, needed, needed + chance.choice((0, 1, 256)))
            [grants] = books.book([Entry(kind, 0, request, (line,))])  # type: ignore[arg-type]
            expected = copy.book(Booking(request, "t", "lease", (line,)), kind)
            assert grants is not None
            assert [(one.amount, one.exhausted) for one in grants] == expected, f"seed {seed}, step {step}"


class TestWholeness:
    def test_nothing_is_leased_where_the_mark_is_another(self, books: Books, redis_url: str) -> None:
        found = account(100)
        redis.Redis.from_url(redis_url).hset(MARKS, "0", "0")
        assert books.book([lease(found, "a", 10, 10)]) == [None]
        assert not books.renew(0, "3")
        books.set_mark(0, "2")
        assert books.book([lease(found, "a", 10, 10)]) == [(Grant(found, 10, False),)]

    def test_a_mark_is_moved_on_where_it_is_as_it_was_left(self, books: Books) -> None:
        assert books.renew(0, "2")
        assert books.mark(0) == "2"
        assert books.book([lease(account(100), "a", 10, 10)]) != [None]
        assert not books.renew(7, "2")

    def test_nothing_is_leased_for_a_partition_without_a_mark(self, books: Books) -> None:
        entry = Entry("lease", 7, "a", (Line(account(100), 10, 10),))
        assert books.book([entry]) == [None]
        assert books.mark(7) == ""

    def test_what_is_settled_is_booked_all_the_same(self, books: Books, redis_url: str) -> None:
        found = account(100)
        redis.Redis.from_url(redis_url).hset(MARKS, "0", "0")
        assert books.book([Entry("settlement", 0, "a", (Line(found, 10, 10),))]) == [(Grant(found, 10, False),)]


def test_a_redis_that_hangs_or_is_gone_is_away(tmp_path: Path) -> None:
    server = LocalRedis(tmp_path / "redis")
    books = Books(server.start(), timeout_s=0.2)
    try:
        books.set_mark(0, "1")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(BooksAway):
            books.book([lease(account(100), "a", 10, 10)])
        assert time.monotonic() - begun < 0.2 + 1.0
        os.kill(server.pid, signal.SIGCONT)
        server.kill()
        with pytest.raises(BooksAway):
            books.mark(0)
    finally:
        books.close()
        server.kill()
