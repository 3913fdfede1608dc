"""Dispatch's fold of one partition of the journal: which orders are to be called, and which runs are over."""

from collections.abc import Container, Iterable
from typing import Literal, NamedTuple

import msgspec

from processors.attempts import may_retry
from processors.events import (
    Cancel,
    Decision,
    Event,
    GivenUp,
    Order,
    RunEnded,
    RunStarted,
    Stop,
    Target,
    TimedOut,
)
from processors.identity import uuid7_time
from processors.record import Record
from processors.remembered import Remembered, too_old
from processors.times import from_ms

ORPHAN_AFTER_MS = 2000
"""A run without a record for so long has no process any more: its owner writes one every 0.5 s."""


class Start(NamedTuple):
    """Call the provider for this order. `body` is the request as its producer wrote it."""

    id: str
    tenant: str
    attempt: int
    policy: str
    order: Order
    body: bytes


class Abort(NamedTuple):
    """Close the provider's connection of this request's runs: all but `keep`, or `only` one."""

    id: str
    reason: str
    keep: str | None = None
    only: str | None = None


class Orphan(NamedTuple):
    """A run that was begun by a process that is gone, as far as the journal tells."""

    id: str
    tenant: str
    attempt: int
    run: str
    target: Target


Phase = Literal["ordered", "called", "running", "failed", "closing"]
"""ordered: nobody calls yet; called: this process does; running: the run stands in the journal; failed: the attempt is
over, another may follow; closing: nothing more is wanted, but the run's end, and so its cost, is still to come."""


class Settled(msgspec.Struct, frozen=True):
    """What has been settled since the last one was kept: closed requests, and cancels (id, tenant) before decisions.

    Kept in the log, so that a successor need not read it from where they stand.
    """

    closed: tuple[str, ...]
    cancelled: tuple[tuple[str, str], ...]


class _Open:
    """A request that may still need a provider call, or whose run has not ended. `mine`: this process calls."""

    __slots__ = ("attempt", "body", "first_offset", "id", "last_ms", "last_offset", "mine", "order", "phase", "policy",
                 "run", "tenant", "told", "until_ms")  # fmt: skip

    def __init__(self, decision: Decision, order: Order, record: Record) -> None:
        self.id, self.tenant = decision.id, decision.tenant
        self.body = bytes(decision.request)
        self.first_offset = record.offset
        self.until_ms = order.deadline.timestamp() * 1000
        self.saw(record)
        self.take(decision, order)

    def take(self, decision: Decision, order: Order) -> None:
        self.attempt, self.policy, self.order = decision.attempt, decision.policy, order
        self.phase: Phase = "ordered"
        self.run = ""
        self.mine = self.told = False

    def saw(self, record: Record) -> None:
        self.last_offset, self.last_ms = record.offset, record.time_ms


class DispatchFold:
    """State of the requests of one partition. `fold` says what to do."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._closed = Remembered[bool]()
        self._cancelled = Remembered[set[str]]()
        """Cancels that stand before their decision: the tenants that said so, of which one may be the request's."""
        self._closed_since: list[str] = []
        self._cancelled_since: list[tuple[str, str]] = []
        self._journal_ms = 0
        self.live = False
        """False while the journal is read again, after an assignment or a pause: orders are noted and not called."""

    def fold(self, records: Iterable[Record]) -> list[Start | Abort]:
        """Take records in the order of the journal; chunks may be left out."""
        todo: list[Start | Abort] = []
        for record in records:
            self._journal_ms = record.time_ms
            todo += self._fold(record)
        return todo

    def settled(self) -> Settled | None:
        """What the log must have acknowledged before `floor` may be committed; each is told once."""
        if not self._closed_since and not self._cancelled_since:
            return None
        settled = Settled(tuple(self._closed_since), tuple(self._cancelled_since))
        self._closed_since.clear()
        self._cancelled_since.clear()
        return settled

    def restore(self, settled: Settled) -> None:
        """Take back what a predecessor kept.

        Raises:
            ValueError: an id is none, so that it is nothing of ours.
        """
        for request_id in [*settled.closed, *(request_id for request_id, _ in settled.cancelled)]:
            uuid7_time(request_id)
        for request_id in settled.closed:
            self._closed.keep(request_id, True)
        for request_id, tenant in settled.cancelled:
            self._cancelled.keep(request_id, set()).add(tenant)

    def saw_chunk(self, request_id: str, offset: int, time_ms: int) -> None:
        """A chunk of the request stands in the journal: whoever runs it is alive."""
        request = self._open.get(request_id)
        if request is not None:
            request.last_offset, request.last_ms = offset, time_ms

    def go_live(self) -> list[Start | Abort]:
        """The journal has been read to its end: call what was ordered and not begun."""
        self.live = True
        return [self._start(request) for request in self._in("ordered")]

    def orphans(self, now_ms: float, ours: Container[str]) -> list[Orphan]:
        """Runs of other processes of which nothing was heard for too long. Each is named once.

        `ours` are the runs of this process. After an outage, or in partitions that come back, the journal may not show
        yet that they are alive.
        """
        silent = [
            request
            for request in self._open.values()
            if request.run
            and not request.mine
            and not request.told
            and now_ms - request.last_ms > ORPHAN_AFTER_MS
            and request.run not in ours
        ]
        for request in silent:
            request.told = True  # until its end, which the caller writes, is read back
        return [Orphan(item.id, item.tenant, item.attempt, item.run, item.order.target) for item in silent]

    def unstarted(self) -> list[Start]:
        """Orders whose run does not stand in the journal."""
        return [_as_start(request) for request in [*self._in("ordered"), *self._in("called")]]

    def floor(self) -> int | None:
        """The lowest offset that a rebuild must start from; None where nothing is open."""
        return min((request.first_offset for request in self._open.values()), default=None)

    def forget(self, now_ms: float) -> None:
        """Drop closed requests past their memory (told by the journal's time), and open ones past their deadline by the
        clock: the guard ends those."""
        self._closed.forget(self._journal_ms)
        self._cancelled.forget(self._journal_ms)
        for request in list(self._open.values()):
            if now_ms > request.until_ms + 1000:
                self._close(request)

    def _in(self, phase: Phase) -> list[_Open]:
        return [request for request in self._open.values() if request.phase == phase]

    def _fold(self, record: Record) -> list[Start | Abort]:
        event = record.event
        request = self._open.get(getattr(event, "id", ""))
        if request is None:
            return self._without_request(event, record)
        if request.tenant != event.tenant:  # type: ignore[attr-defined]
            return []
        todo = self._with_request(request, event, record)
        request.saw(record)
        return todo

    def _without_request(self, event: Event, record: Record) -> list[Start | Abort]:
        if isinstance(event, Cancel):
            self._cancel_early(event)
        if not isinstance(event, Decision) or event.attempt != 1:
            return []
        if self._closed.get(event.id) or _misdated(event.id, record.time_ms):
            return []
        cancelled = event.tenant in (self._cancelled.pop(event.id) or ())
        if cancelled or not isinstance(event.choice, Order):
            self._settle(event.id)
            return []
        request = self._open[event.id] = _Open(event, event.choice, record)
        return [self._start(request)] if self.live else []

    def _with_request(self, request: _Open, event: Event, record: Record) -> list[Start | Abort]:
        match event:
            case Decision():
                return self._next_attempt(request, event)
            case RunStarted():
                return self._run_started(request, event)
            case RunEnded():
                return self._run_ended(request, event, record)
            case Cancel():
                return self._abort(request, "cancelled")
            case Stop():
                return self._abort(request, "stopped")
            case TimedOut() if event.seen >= request.last_offset:
                return self._abort(request, "cancelled")
            case GivenUp() if event.attempt == request.attempt:
                return self._abort(request, "cancelled")
        return []

    def _next_attempt(self, request: _Open, decision: Decision) -> list[Start | Abort]:
        if request.phase != "failed" or decision.attempt != request.attempt + 1:
            return []
        if not isinstance(decision.choice, Order):
            self._close(request)
            return []
        request.take(decision, decision.choice)
        return [self._start(request)] if self.live else []

    def _run_started(self, request: _Open, event: RunStarted) -> list[Start | Abort]:
        if event.attempt != request.attempt:
            return []
        if request.phase == "failed":  # a zombie's, announced after another run of the attempt has ended
            return [Abort(request.id, "superseded", only=event.run)] if self.live or request.mine else []
        if not request.run:
            request.run = event.run
            if request.phase in ("ordered", "called"):
                request.phase = "running"
        return [Abort(request.id, "superseded", keep=request.run)] if self.live or request.mine else []

    def _run_ended(self, request: _Open, event: RunEnded, record: Record) -> list[Start | Abort]:
        if event.run != request.run:
            return []
        # Perhaps the run of a process that was only slow or frozen, ended by its successor: nobody reads its text.
        given_up = event.error is not None and event.error.kind == "interrupted" and (self.live or request.mine)
        retry = event.error is not None and may_retry(request.order, event.error, from_ms(record.time_ms))
        if request.phase == "running" and retry:
            request.phase, request.run = "failed", ""
        else:
            self._close(request)
        return [Abort(request.id, "superseded", only=event.run)] if given_up else []

    def _abort(self, request: _Open, reason: str) -> list[Start | Abort]:
        if request.phase in ("ordered", "failed"):
            self._close(request)
        else:
            request.phase = "closing"
        return [Abort(request.id, reason)]

    def _start(self, request: _Open) -> Start:
        request.phase, request.mine = "called", True
        return _as_start(request)

    def _close(self, request: _Open) -> None:
        del self._open[request.id]
        self._settle(request.id)

    def _settle(self, request_id: str) -> None:
        self._closed.keep(request_id, True)
        self._closed_since.append(request_id)

    def _cancel_early(self, event: Cancel) -> None:
        if self._closed.get(event.id) is None and not _misdated(event.id, 0):
            self._cancelled.keep(event.id, set()).add(event.tenant)
            self._cancelled_since.append((event.id, event.tenant))


def _as_start(request: _Open) -> Start:
    return Start(request.id, request.tenant, request.attempt, request.policy, request.order, request.body)


def _misdated(request_id: str, now_ms: int) -> bool:
    """Whether the id is none, or too old for a decision to count."""
    try:
        return too_old(request_id, now_ms)
    except ValueError:
        return True
