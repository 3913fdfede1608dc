"""Leases and settlements of shared budgets: beside the guard's loop, which never waits for Redis.

A thread keeps the books. What they allow the guard takes from `leased` and writes to the journal. Where Redis has lost
them, or was away, the thread books what is missing out of the topic `outcomes` first; a lease that cannot be answered
in time gets what its policy says for that case.
"""

import contextlib
import logging
import math
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import NamedTuple

from confluent_kafka import KafkaException

from connectors.kafka.to_end import read_to_end
from connectors.policies import Policies
from connectors.redis.budgets import Books, BooksAway, Entry, Grant
from processors.budgets import LONGEST_WINDOW, Budget
from processors.codec import BadRecord, decode
from processors.events import Leased
from processors.guard.allowance import Booking
from processors.spending import Spending, Spent

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""How long the thread sleeps at most while nothing is asked."""
MARK_EVERY_S = 2.0
BEFORE_MS = 30_000
"""So much before its mark the log is read again: outcomes that were written by then may not have been settled."""
WAIT_S = 2.0
"""How long a lease may wait for the books, and how long they may be away before leases wait no more; after that the
policy's word counts."""
COOL_OFF_S = 0.5
"""How long Redis is left alone once it was away."""
MOST_AT_ONCE = 500
MOST_UNSETTLED = 100_000
CLOSE_S = 3.0


class _Waiting(NamedTuple):
    """A lease that was asked for, and until when it may wait."""

    partition: int
    booking: Booking
    until: float


class Ledger:
    """Starts nothing before the first booking. One thread writes the books, and puts what they allow into `leased`."""

    def __init__(self, redis: str, kafka: str, policies: Policies, embedded: bool = False) -> None:
        """Addresses; nothing is connected yet. An embedded broker cannot look up times: all it keeps is read."""
        self.leased: SimpleQueue[Leased] = SimpleQueue()
        """What has come and was not taken yet."""
        self._kafka, self._policies, self._embedded = kafka, policies, embedded
        self._books = Books(redis)
        self._incoming: SimpleQueue[tuple[int, Booking | bool]] = SimpleQueue()
        """By partition what is to be booked, or that it is ours from now on, or no longer."""
        self._closing = Flag()
        self._thread: Thread | None = None
        self._leases: list[_Waiting] = []
        self._settlements: dict[str, Entry] = {}
        self._whole: set[int] = set()
        """Partitions whose requests' use is in the books, all of it."""
        self._wanted: set[int] = set()
        self._away_since, self._again_at, self._marked_at = math.inf, 0.0, 0.0

    def put(self, partition: int, bookings: Iterable[Booking | bool]) -> None:
        """Have these booked; True says that the partition is ours from now on, False that it is no longer. Returns at
        once."""
        for booking in bookings:
            self._incoming.put((partition, booking))
        if self._thread is None and not self._incoming.empty():
            self._thread = Thread(target=self._run, name="ledger", daemon=True)
            self._thread.start()

    def take(self) -> list[Leased]:
        """What has come since, for the journal."""
        return [self.leased.get_nowait() for _ in range(self.leased.qsize())]

    def close(self) -> None:
        """Settle what is to be settled, within a bound; what is not, is booked again out of the log some day."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._collect(LOOK_S)
            self._cycle()
        self._collect(0)
        self._cycle()
        self._books.close()

    def _cycle(self) -> None:
        if time.monotonic() >= self._again_at:
            try:
                self._settle()
                self._keep_whole()
                self._lease()
                self._back()
            except BooksAway as error:
                self._away(str(error))
            except KafkaException as error:
                self._away(f"outcomes cannot be read: {error.args[0].str()}")
            except Exception as error:  # whatever it is, leases must not wait for ever
                log.exception("budgets")
                self._away(type(error).__name__)
        self._answer_for_the_books()

    def _away(self, why: str) -> None:
        now = time.monotonic()
        self._again_at = now + COOL_OFF_S
        if self._away_since == math.inf:
            self._away_since = now
            log.warning("the books of budgets are away: %s", why)

    def _back(self) -> None:
        if self._away_since != math.inf:
            log.info("the books of budgets are back after %.1f s", time.monotonic() - self._away_since)
            self._away_since = math.inf

    def _collect(self, wait_s: float) -> None:
        with contextlib.suppress(Empty):
            self._sort(*self._incoming.get(timeout=wait_s))
            for _ in range(self._incoming.qsize()):
                self._sort(*self._incoming.get_nowait())

    def _sort(self, partition: int, what: Booking | bool) -> None:
        if isinstance(what, bool):
            (self._wanted.add if what else self._wanted.discard)(partition)
            self._whole.discard(partition)
            self._books.forget(partition)
        elif what.kind == "lease":
            self._wanted.add(partition)
            self._leases.append(_Waiting(partition, what, time.monotonic() + WAIT_S))
        else:
            # A lease after its settlement would be booked for good.
            self._leases = [one for one in self._leases if one.booking.id != what.id]
            self._settlements[what.id] = Entry("settlement", partition, what.id, what.lines)
            self._bound_settlements()

    def _bound_settlements(self) -> None:
        if len(self._settlements) > MOST_UNSETTLED:
            log.warning("%d settlements wait for Redis; they will be read from the log again", len(self._settlements))
            self._settlements.clear()
            self._whole.clear()

    def _settle(self) -> None:
        while self._settlements:
            some = [self._settlements[name] for name in list(self._settlements)[:MOST_AT_ONCE]]
            self._books.book(some)
            for entry in some:
                del self._settlements[entry.id]

    def _keep_whole(self) -> None:
        """See that the books hold all that the log tells, and leave a mark that they do."""
        if self._whole >= self._wanted and time.monotonic() - self._marked_at < MARK_EVERY_S:
            return
        self._marked_at = time.monotonic()
        for partition in list(self._wanted):  # others come and go while one is booked again
            now_ms = time.time_ns() // 1_000_000
            if partition not in self._whole or not self._books.renew(partition, str(now_ms)):
                self._whole.discard(partition)
                self._book_again(partition, now_ms)
                if self._books.renew(partition, str(now_ms)):  # else they were lost once more, meanwhile
                    self._whole.add(partition)

    def _book_again(self, partition: int, now_ms: int) -> None:
        mark = self._books.mark(partition)
        since_ms = int(mark) - BEFORE_MS if mark.isdecimal() else now_ms - int(LONGEST_WINDOW.total_seconds() * 1000)
        self._books.set_mark(partition, str(since_ms))
        began, spending = time.monotonic(), Spending(self._budgets_of, since_ms, now_ms)
        found: list[Spent] = []
        count = 0
        begin_ms = None if self._embedded else since_ms
        for message in read_to_end(self._kafka, "outcomes", [partition], "sluice-ledger", begin_ms):
            try:
                outcome = decode("outcomes", message.value(), message.headers())  # type: ignore[arg-type]
            except BadRecord:
                continue  # its judge is admission
            found += spending.take(outcome, message.timestamp()[1])
            if len(found) >= MOST_AT_ONCE:
                count += self._restore(partition, found)
        found += spending.rest()
        count += self._restore(partition, found)
        log.info("budgets: %d requests of partition %d booked in %.2f s", count, partition, time.monotonic() - began)

    def _restore(self, partition: int, found: list[Spent]) -> int:
        entries = [
            Entry("settlement" if one.whole else "restore", partition, one.id, one.lines)
            for one in found
            if one.id not in self._settlements
        ]
        found.clear()
        if entries:
            self._books.book(entries)
        self._collect(0)
        self._answer_for_the_books()
        return len(entries)

    def _lease(self) -> None:
        while self._leases:
            some = self._leases[:MOST_AT_ONCE]
            entries = [Entry("lease", one.partition, one.booking.id, one.booking.lines) for one in some]
            grants = self._books.book(entries)
            del self._leases[: len(some)]
            for one, found in zip(some, grants, strict=True):
                if found is None:
                    self._whole.discard(one.partition)
                    self._leases.append(one)
                else:
                    self.leased.put(_leased(one.booking, found))
            if not self._whole >= {one.partition for one in some}:
                return  # first the books

    def _answer_for_the_books(self) -> None:
        """Give leases that have waited too long what their policy says."""
        now = time.monotonic()
        gone = now - self._away_since >= WAIT_S
        waiting, self._leases = self._leases, []
        for one in waiting:
            if gone or one.until <= now:
                self.leased.put(_by_policy(one.booking))
            else:
                self._leases.append(one)

    def _budgets_of(self, version: str, tenant: str) -> tuple[Budget, ...]:
        policy = self._policies.known(version) or self._policies.current()
        view = policy.effective(tenant) if policy else None
        return view.budgets if view else ()


def _leased(booking: Booking, grants: Iterable[Grant]) -> Leased:
    found = list(grants)
    return Leased(
        booking.id,
        booking.tenant,
        {one.account.budget.id: one.amount for one in found},
        tuple(one.account.budget.id for one in found if one.exhausted),
    )


def _by_policy(booking: Booking) -> Leased:
    budgets = {line.account.budget.id: line for line in booking.lines}
    opened = {name: line.wanted for name, line in budgets.items() if line.account.budget.unavailable == "open"}
    return Leased(booking.id, booking.tenant, opened, tuple(name for name in budgets if name not in opened), away=True)
