"""The guard's fold of one partition of the journal: which record belongs to which request, and what counts.

A pure fold: outputs depend on the records alone, never on how they came in batches. `tick` only writes questions
(time-outs, cancels) to the journal; they count when they are read back.
"""

from collections.abc import Callable, Iterable

from processors.events import (
    Cancel,
    Chunk,
    Decision,
    EdgeRef,
    EdgeStarted,
    End,
    EndError,
    Event,
    GivenUp,
    Joined,
    Leased,
    Left,
    Opened,
    Opinion,
    RunAlive,
    RunEnded,
    RunStarted,
    Scored,
    Stop,
    TimedOut,
)
from processors.guard.allowance import ASK_AGAIN_MS, Booking
from processors.guard.keep import (
    CLOSED,
    OPEN,
    REST,
    Early,
    Kept,
    Rest,
    decode_closed,
    decode_rest,
    decode_stream,
    encode,
)
from processors.guard.opinion import Question
from processors.guard.outputs import Out, Rejected
from processors.guard.rules import CompiledRules
from processors.guard.stream import Stream
from processors.guard.windows import Window
from processors.identity import partition_of, uuid7_time
from processors.policy import Effective
from processors.record import Record
from processors.remembered import Remembered, too_old

UNTOLD_MS = 60_000
"""How long after a closed request's deadline the end of its run is waited for, to book what it cost."""


class PolicyUnknown(Exception):
    """It cannot be told now whether a version is published. Not the record's fault: the stage must not go on."""


class PartitionFold:
    """State of all requests of one of `partitions` partitions.

    `effective(version, tenant)` gives what the tenant lives under; it may wait for a version that is on its way. It
    raises PolicyUnknown where that cannot be told, and anything else where there is none.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        effective: Callable[[str, str], tuple[Effective, CompiledRules]],
    ) -> None:
        self._partition, self._partitions = partition, partitions
        self._effective = effective
        self._open: dict[str, Stream] = {}
        self._done = Remembered[tuple[str, str]]()
        """Tenant and body hash of closed requests."""
        self._early = Remembered[list[Record]]()
        """Cancels, joins and leaves that stand before their decision."""
        self._edges: dict[str, str] = {}
        self._forgotten: list[str] = []
        self._closed_since: list[tuple[str, str, str]] = []
        self._closed_at = 0
        self._rest_changed = False
        self._out: list[Out] = []
        self._rejected: list[Rejected] = []
        self._journal_ms = 0
        """Append time of the newest record: what is old enough to be forgotten is told by it, not by the clock."""
        self.windows: list[Window] = []
        """Ends of texts that a classifier is to score; `to_score` gives those that still count."""
        self.questions: list[Question] = []
        """For moderators; `to_ask` gives those that still count."""
        self.bookings: list[Booking] = []
        """For shared budgets; whoever takes them clears them. A rebuild asks for leases again, and settles again what
        it reads again: both say how much in all, so that nothing is booked twice."""
        self.dropped = 0
        """Decisions that did not count: repeats of what stands in the journal already."""

    def fold(self, records: Iterable[Record]) -> tuple[list[Out], list[Rejected]]:
        """Take records in the order of the journal. One that cannot be folded ends its request and is rejected.

        Raises:
            PolicyUnknown: see there.
        """
        for record in records:
            self._journal_ms = record.time_ms
            try:
                self._fold(record)
            except PolicyUnknown:
                raise
            except Exception as error:
                self._poisoned(record, error)
        return self._given()

    def pass_over(self, record: Record) -> list[Out]:
        """End the request of a record that must not be folded, unless the record would not have counted."""
        self._journal_ms = record.time_ms
        if self._counts(record):
            self._break_off(record)
        return self._given()[0]

    def _given(self) -> tuple[list[Out], list[Rejected]]:
        outputs, rejected = self._out[:], self._rejected[:]
        self._out.clear()
        self._rejected.clear()
        return outputs, rejected

    def tick(self, now_ms: float) -> list[Out]:
        """What the wall clock asks for; the journal decides whether it still holds when it is read back."""
        out: list[Out] = []
        for stream in list(self._open.values()):
            if stream.closed and now_ms > stream.deadline_ms + UNTOLD_MS:
                self._close(stream)
            if now_ms - stream.last_ms > ASK_AGAIN_MS:
                stream.ask_again()
                self._take_windows(stream)
            stream.lease_again(now_ms)
            if stream.bookings:
                self._take_bookings(stream)
            out += [Out("journal", stream.id, silence) for silence in stream.silences(now_ms)]
            if stream.closed or stream.asked_at == stream.last_offset:
                continue
            question = self._question(stream, now_ms)
            if question is not None:
                stream.asked_at = stream.last_offset
                out.append(Out("journal", stream.id, question))
        self._done.forget(self._journal_ms)
        self._early.forget(self._journal_ms)
        return out

    def to_score(self) -> list[Window]:
        """What a classifier is to look at: new ends of texts, and after a rebuild those that no score covers yet."""
        windows, self.windows = self.windows, []
        return [one for one in windows if (stream := self._open.get(one.id)) and stream.is_unscored(one)]

    def to_ask(self) -> list[Question]:
        """What moderators are to be asked: new questions, and after a rebuild those that nothing has answered yet."""
        questions, self.questions = self.questions, []
        return [one for one in questions if (stream := self._open.get(one.id)) and stream.awaits(one)]

    def to_keep(self, before: int) -> list[Kept]:
        """What the log must acknowledge before `floor` may be committed, as (key, value) of the snapshots topic.

        Open requests are written where a rebuild would have to read from before offset `before` for them.
        """
        kept: list[Kept] = []
        if self._closed_since:
            kept.append(Kept(f"{CLOSED}{self._closed_at}", encode(self._closed_since)))
        if self._rest_changed:
            early = [record for records in self._early.values() for record in records]
            rest = Rest(self._edges, tuple(Early(record.offset, record.time_ms, record.event) for record in early))  # type: ignore[arg-type]
            kept.append(Kept(REST, encode(rest)))
        for name, stream in self._open.items():
            if stream.needed_from < before:
                kept.append(Kept(OPEN + name, encode(stream.snapshot()), stream.last_offset))
        # Last: a request that is forgotten before the list of closed ones has it would begin anew.
        return kept + [Kept(OPEN + name, None) for name in self._forgotten]

    def kept(self, written: list[Kept]) -> None:
        """All that `to_keep` gave stands in the log; nothing was folded in between."""
        self._forgotten.clear()
        self._closed_since.clear()
        self._rest_changed = False
        for item in written:
            stream = self._open.get(item.key.removeprefix(OPEN))
            if stream is not None and item.value is not None:
                stream.kept_to = item.offset

    def restore(self, key: str, value: bytes) -> None:
        """Take back what was kept. Records up to a request's snapshot are skipped for it.

        Raises:
            PolicyUnknown: see there.
            Exception: it is nothing of ours.
        """
        if key.startswith(CLOSED):
            closed = decode_closed(value)
            self._expect(request_id for request_id, _, _ in closed)
            for request_id, tenant, body_hash in closed:
                self._done.keep(request_id, (tenant, body_hash))
        elif key == REST:
            rest = decode_rest(value)
            self._expect(early.event.id for early in rest.early)  # type: ignore[union-attr]
            self._edges = dict(rest.edges)
            for early in rest.early:
                self._early.keep(early.event.id, []).append(Record(early.offset, early.time_ms, early.event))  # type: ignore[union-attr]
        elif key.startswith(OPEN):
            state = decode_stream(value)
            self._expect([state.decision.id])
            if key != OPEN + state.decision.id:
                raise ValueError(f"is of request {state.decision.id!r}")
            effective, rules = self._effective(state.decision.policy, state.decision.tenant)
            stream = self._open[state.decision.id] = Stream.restore(state, effective, rules, self._out)
            self.questions += stream.take_questions()

    def lost(self, before: int) -> list[Out]:
        """The log before this offset is gone: stops for the requests that would have to be read from there."""
        return [
            Out("journal", stream.id, Stop(stream.id, stream.tenant, "log_lost"))
            for stream in self._open.values()
            if stream.needed_from < before and not stream.closed
        ]

    def floor(self, position: int) -> int:
        """The lowest offset that a rebuild must start from, where everything before `position` has been folded.

        Never beyond `position`, although a request restored from its snapshot needs nothing of what others still have
        to read there.
        """
        return min([position, *(stream.needed_from for stream in self._open.values())])

    @property
    def open_streams(self) -> int:
        """Requests that are not done."""
        return len(self._open)

    def _question(self, stream: Stream, now_ms: float) -> Event | None:
        if stream.reader_gone(now_ms):
            return Cancel(stream.id, stream.tenant, "reader_gone")
        if now_ms >= stream.deadline_ms:
            return TimedOut(stream.id, stream.tenant, "deadline", stream.last_offset)
        if now_ms > stream.until_ms:
            return TimedOut(stream.id, stream.tenant, "limit", stream.last_offset)
        if now_ms - stream.last_ms >= stream.effective.timeouts.idle_s * 1000:
            return TimedOut(stream.id, stream.tenant, "idle", stream.last_offset)
        return None

    def _fold(self, record: Record) -> None:
        event = record.event
        kind = type(event)
        if kind is EdgeStarted:
            self._edge_started(event.edge, record)  # type: ignore[attr-defined]
            return
        stream = self._open.get(event.id)  # type: ignore[attr-defined]
        if stream is None:
            self._without_stream(event, record)
            return
        if record.offset <= stream.restored_to:
            return
        if stream.tenant != event.tenant:  # type: ignore[attr-defined]
            self._foreign(event, record)
            return
        if kind is Chunk:
            stream.on_chunk(event, record)  # type: ignore[arg-type]
        else:
            self._with_stream(stream, event, record)
        if stream.windows:
            self._take_windows(stream)
        if stream.bookings:
            self._take_bookings(stream)
        stream.last_offset, stream.last_ms = record.offset, record.time_ms
        if stream.closed and stream.done:
            self._close(stream)

    def _take_windows(self, stream: Stream) -> None:
        if not stream.closed:
            self.windows += stream.windows
        stream.windows.clear()

    def _take_bookings(self, stream: Stream) -> None:
        self.bookings += stream.bookings
        stream.bookings.clear()

    def _with_stream(self, stream: Stream, event: Event, record: Record) -> None:
        match event:
            case Decision():
                self._again(stream, event, record)
            case RunStarted():
                stream.on_run_started(event, record)
            case RunEnded():
                stream.on_run_ended(event, record)
            case Scored():
                stream.on_scored(event, record)
                self.questions += stream.take_questions()
            case Opinion():
                stream.on_opinion(event, record)
            case Leased():
                stream.on_leased(event, record)
            case GivenUp():
                stream.on_given_up(event, record)
            case Cancel():
                stream.on_cancel(event.by, record)
            case Stop():
                stream.on_stop(event, record)
            case TimedOut():
                stream.on_timed_out(event, record)
            case Joined():
                stream.readers.joined(event.edge)
            case Left():
                stream.readers.left(event.edge, record.time_ms)
            case RunAlive():
                pass

    def _without_stream(self, event: Event, record: Record) -> None:
        done = self._done.get(event.id)  # type: ignore[attr-defined]
        misplaced = self._misplaced(event.id) if done is None else None  # type: ignore[attr-defined]
        if misplaced:
            self._rejected.append(Rejected(record.offset, "wrong_partition", misplaced))
        elif isinstance(event, Decision):
            self._first_decision(event, record)
        elif isinstance(event, Cancel | Left | Joined) and done is None:
            self._early.keep(event.id, []).append(record)
            self._rest_changed = True

    def _first_decision(self, decision: Decision, record: Record) -> None:
        done = self._done.get(decision.id)
        if done is not None:
            self._repeat(decision, record, *done)
            return
        if decision.attempt != 1 or too_old(decision.id, record.time_ms):
            self.dropped += 1
            return
        effective, rules = self._effective(decision.policy, decision.tenant)
        early = self._early.pop(decision.id) or []
        self._rest_changed |= bool(early)
        stream = Stream.begin(decision, record, effective, rules, self._out)
        self._open[decision.id] = stream
        if (
            decision.edge
            and self._edges.get(decision.edge.instance, decision.edge.incarnation) != decision.edge.incarnation
        ):
            stream.readers.left(decision.edge, record.time_ms)
        for kept in early:
            if kept.event.tenant == decision.tenant:  # type: ignore[attr-defined]
                self._with_stream(stream, kept.event, Record(record.offset, record.time_ms, kept.event))
        if stream.done:
            self._close(stream)

    def _again(self, stream: Stream, decision: Decision, record: Record) -> None:
        if decision.attempt == 1:
            self._repeat(decision, record, stream.tenant, stream.body_hash)
        elif not stream.on_decision(decision, record):
            self.dropped += 1

    def _repeat(self, decision: Decision, record: Record, tenant: str, body_hash: str) -> None:
        """A second first decision: the same request again is dropped, another under its id is dead-lettered."""
        self.dropped += 1
        if decision.attempt == 1 and (decision.tenant, decision.body_hash) != (tenant, body_hash):
            self._rejected.append(
                Rejected(record.offset, "id_reused", "the id belongs to another request", bytes(decision.request))
            )

    def _foreign(self, event: Event, record: Record) -> None:
        if isinstance(event, Decision) and event.attempt == 1:
            stream = self._open[event.id]
            self._repeat(event, record, stream.tenant, stream.body_hash)
        else:
            self._rejected.append(Rejected(record.offset, "foreign_tenant", "the id belongs to another tenant"))

    def _edge_started(self, edge: EdgeRef, record: Record) -> None:
        self._edges[edge.instance] = edge.incarnation
        self._rest_changed = True
        for stream in self._open.values():
            stream.readers.edge_started(edge, record.time_ms)

    def _close(self, stream: Stream) -> None:
        del self._open[stream.id]
        stream.settle()
        self._take_bookings(stream)
        self._done.replace(stream.id, (stream.tenant, stream.body_hash))
        self._closed_since.append((stream.id, stream.tenant, stream.body_hash))
        self._closed_at = stream.last_offset
        if stream.kept_to is not None:
            self._forgotten.append(stream.id)

    def _misplaced(self, request_id: str) -> str | None:
        try:
            uuid7_time(request_id)
        except ValueError as error:
            return str(error)
        expected = partition_of(request_id, self._partitions)
        return None if expected == self._partition else f"the id belongs into partition {expected}"

    def _expect(self, request_ids: Iterable[str]) -> None:
        """Raises: ValueError: an id cannot be of a request of this partition."""
        for request_id in request_ids:
            wrong = self._misplaced(request_id)
            if wrong:
                raise ValueError(f"{request_id!r}: {wrong}")

    def _counts(self, record: Record) -> bool:
        event = record.event
        if isinstance(event, EdgeStarted) or self._misplaced(event.id):  # type: ignore[attr-defined]
            return False
        stream = self._open.get(event.id)  # type: ignore[attr-defined]
        if stream is not None:
            return stream.tenant == event.tenant and record.offset > stream.restored_to  # type: ignore[attr-defined]
        return self._done.get(event.id) is None and not too_old(event.id, record.time_ms)  # type: ignore[attr-defined]

    def _poisoned(self, record: Record, error: Exception) -> None:
        self._rejected.append(Rejected(record.offset, "fold_failed", f"{type(error).__name__}: {error}"))
        self._break_off(record)

    def _break_off(self, record: Record) -> None:
        """The record's request ends as failed."""
        event = record.event
        stream = self._open.get(getattr(event, "id", ""))
        if stream is not None:
            if not stream.closed:
                stream.break_off(record)
            if stream.done:
                self._close(stream)
        elif isinstance(event, Decision) and event.attempt == 1:
            self._out += stillborn(event)
            self._done.replace(event.id, (event.tenant, event.body_hash))
            self._closed_since.append((event.id, event.tenant, event.body_hash))
            self._closed_at = record.offset


def stillborn(decision: Decision) -> list[Out]:
    """The end of a request whose first decision could not be folded: the stop, the id, the terminal event."""
    error = EndError(502, "api_error", "internal_error")
    message = "An internal error ended the request."
    return [
        Out("journal", decision.id, Stop(decision.id, decision.tenant, "internal_error")),
        Out("tokens", decision.id, Opened(decision.id, decision.tenant, decision.model)),
        Out("tokens", decision.id, End(decision.id, decision.tenant, 0, "failed", "internal_error", message, error)),
    ]
