"""The keeper of shared budgets' books, on a real broker and a real Redis that dies, forgets and comes back."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from connectors.kafka import admin
from connectors.kafka.writer import Writer
from connectors.local.redis import LocalRedis
from connectors.redis.budgets import MARKS
from processors.budgets import Account, Budget, accounts
from processors.codec import encode
from processors.events import Cost, Leased, Outcome, Target, Usage
from processors.guard.allowance import Booking, Line
from processors.identity import partition_of, uuid7
from processors.policy import VersionedPolicy
from streams import ledger as module
from streams import topology
from streams.ledger import WAIT_S, Ledger
from tests import samples
from tests.streams.stage_process import until

pytestmark = pytest.mark.kafka
LIMIT = 1000


class Known:
    """The policies that have been read: one."""

    def __init__(self, policy: VersionedPolicy) -> None:
        self._policy = policy

    def known(self, version: str) -> VersionedPolicy | None:
        return self._policy if version == self._policy.version else None

    def current(self) -> VersionedPolicy:
        return self._policy


class Scene:
    """A tenant of its own with one budget, in partition 0 of the shared broker."""

    def __init__(self, kafka: str, server: LocalRedis, unavailable: str = "closed") -> None:
        self.kafka, self.server = kafka, server
        self.tenant = f"t{uuid.uuid4().hex[:8]}"
        budget = {"id": "day", "window": "month", "timezone": "UTC", "tokens": LIMIT, "unavailable": unavailable}
        self.policy = samples.policy(tenants={self.tenant: {"budgets": [budget]}, "demo": {}})
        self.partitions = topology.load().partitions
        self.ledger = Ledger(server.address, kafka, Known(self.policy))  # type: ignore[arg-type]
        view = self.policy.effective(self.tenant)
        assert view is not None
        self.budgets: tuple[Budget, ...] = view.budgets

    def request(self) -> str:
        now_ms = int(time.time() * 1000)
        while True:
            request = uuid7(now_ms, os.urandom(10))
            if partition_of(request, self.partitions) == 0:
                return request

    @property
    def account(self) -> Account:
        [found] = accounts(self.budgets, self.tenant, None, None, datetime.now(UTC))
        return found

    def lease(self, request: str, amount: int) -> None:
        self.ledger.put(0, [Booking(request, self.tenant, "lease", (Line(self.account, amount, amount),))])

    def settle(self, request: str, amount: int) -> None:
        self.ledger.put(0, [Booking(request, self.tenant, "settlement", (Line(self.account, amount, amount),))])

    def answer(self, within_s: float = 10.0) -> Leased:
        return self.ledger.leased.get(timeout=within_s)

    def granted(self, request: str, amount: int) -> Leased:
        self.lease(request, amount)
        return self.answer()

    def outcome(self, request: str, tokens: int, run: str = "run-1", open_: bool = False) -> None:
        """As the guard writes it at the end of a run."""
        writer = Writer(self.kafka, "test")
        usage = Usage(input=tokens - 1, output=1, source="provider")
        order = samples.order() if open_ else None
        outcome = Outcome(
            request, self.tenant, 1, run, self.policy.version, "b", "m", Target("first", "a"), "completed",
            usage=usage, cost=Cost(5), order=order,
        )  # fmt: skip
        writer.send("outcomes", request, encode(outcome))
        writer.flush()

    def total(self) -> int:
        with redis.Redis.from_url(self.server.address) as client:
            return int(client.get(self.account.key) or 0)


@pytest.fixture
def broker(kafka: str) -> str:
    shape = topology.load()
    admin.apply(kafka, shape.specs(), shape.groups())
    return kafka


@pytest.fixture
def scene(broker: str, own_redis: LocalRedis) -> Iterator[Scene]:
    found = Scene(broker, own_redis)
    yield found
    found.ledger.close()


def test_leases_and_settlements_are_booked(scene: Scene) -> None:
    request = scene.request()
    assert scene.granted(request, 300) == Leased(request, scene.tenant, {"day": 300})
    assert scene.granted(scene.request(), 900).granted == {"day": 700}
    scene.settle(request, 40)
    until(lambda: scene.total() == 740)


def test_a_lease_and_its_settlement_in_one_go_leave_what_was_used(scene: Scene) -> None:
    request, other = scene.request(), scene.request()
    scene.lease(request, 300)
    scene.settle(request, 40)
    scene.granted(other, 10)
    until(lambda: scene.total() == 50)


def test_partitions_may_come_while_others_are_looked_through(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(scene.partitions):
        scene.ledger.put(number, [True])
    with redis.Redis.from_url(scene.server.address) as client:
        until(lambda: client.hlen(MARKS) == scene.partitions)
    assert "away" not in caplog.text


class TestLost:
    def test_what_redis_has_lost_is_booked_again_before_anything_is_leased(self, scene: Scene) -> None:
        """Two attempts of one request, one of them told twice, and a request that is still open."""
        request, still = scene.request(), scene.request()
        scene.granted(request, 600)
        scene.outcome(request, 300, "run-1", open_=True)
        scene.outcome(request, 500, "run-2")
        scene.outcome(request, 500, "run-2")
        scene.outcome(still, 100, open_=True)
        with redis.Redis.from_url(scene.server.address) as client:
            client.flushall()
        told = scene.granted(scene.request(), 500)
        assert (told.granted, told.exhausted) == ({"day": 100}, ("day",))
        assert scene.total() == LIMIT

    def test_control_without_the_log_it_would_all_be_leased_again(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "read_to_end", lambda *_: iter(()))
        request = scene.request()
        scene.granted(request, 600)
        scene.outcome(request, 800)
        with redis.Redis.from_url(scene.server.address) as client:
            client.flushall()
        assert scene.granted(scene.request(), 500).granted == {"day": 500}

    def test_an_older_state_of_redis_is_seen_by_its_mark(self, scene: Scene) -> None:
        """As after a restart from a snapshot of a minute ago."""
        request = scene.request()
        scene.granted(scene.request(), 10)
        with redis.Redis.from_url(scene.server.address) as client:
            scene.outcome(request, 900)
            client.hset(MARKS, "0", str(int(time.time() * 1000) - 60_000))
        assert scene.granted(scene.request(), 500).granted == {"day": 90}

    def test_a_new_keeper_takes_the_books_over_as_they_are(self, scene: Scene) -> None:
        request = scene.request()
        scene.granted(request, 600)
        successor = Scene(scene.kafka, scene.server)
        successor.tenant, successor.policy, successor.budgets = scene.tenant, scene.policy, scene.budgets
        try:
            assert successor.granted(request, 600).granted == {"day": 600}
            assert scene.total() == 600
        finally:
            successor.ledger.close()


class TestAway:
    def test_closed_gives_nothing_more_and_says_why(self, scene: Scene) -> None:
        scene.granted(scene.request(), 10)
        scene.server.kill()
        request = scene.request()
        begun = time.monotonic()
        scene.lease(request, 300)
        assert scene.answer(WAIT_S + 3) == Leased(request, scene.tenant, {}, ("day",), away=True)
        assert time.monotonic() - begun < WAIT_S + 1.5

    def test_open_lets_pass_and_books_it_later(self, broker: str, own_redis: LocalRedis) -> None:
        scene = Scene(broker, own_redis, "open")
        try:
            scene.granted(scene.request(), 10)
            own_redis.kill()
            request, other = scene.request(), scene.request()
            scene.lease(request, 300)
            assert scene.answer(WAIT_S + 3) == Leased(request, scene.tenant, {"day": 300}, away=True)
            scene.settle(request, 250)
            scene.outcome(request, 250)
            own_redis.start()
            until(lambda: scene.granted(other, 20) == Leased(other, scene.tenant, {"day": 20}))
            assert scene.total() >= 250 + 20
        finally:
            scene.ledger.close()

    def test_a_short_absence_is_waited_for(self, scene: Scene) -> None:
        scene.granted(scene.request(), 10)
        assert scene.server.pid is not None
        os.kill(scene.server.pid, signal.SIGSTOP)
        request = scene.request()
        scene.lease(request, 300)
        until(lambda: scene.ledger._again_at > 0, what="it does not notice")
        os.kill(scene.server.pid, signal.SIGCONT)
        assert scene.answer() == Leased(request, scene.tenant, {"day": 300})
