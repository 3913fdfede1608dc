"""Dispatch in a simulated history: what streams/lanes.py and streams/runs.py do around the fold, and the provider."""

import contextlib
from dataclasses import dataclass, field

import msgspec

from processors.codec import CHUNK_PREFIX
from processors.dispatch.fold import Abort, DispatchFold, Settled, Start
from processors.events import Chunk, ErrorClass, Event, GivenUp, RunAlive, RunEnded, RunError, RunStarted, Usage
from processors.times import from_ms
from tests.simulation.guard import record_of
from tests.simulation.log import PARTITIONS, Fenced, Producer, place_of
from tests.simulation.policy import PHRASE
from tests.simulation.worker import Worker

KEPT = "dispatch/"
encode_settled = msgspec.json.encode
decode_settled = msgspec.json.Decoder(Settled).decode
ALIVE_EVERY_MS = 500
SILENT_MS = 4000
"""How long a provider may say nothing before its call is ended."""
ENDED_BY_US: dict[str, ErrorClass] = {"cancelled": "cancelled", "stopped": "stopped", "superseded": "interrupted"}

TEXTS = (
    "Hello there, my friend.",
    "Yes.",
    f"I say the {PHRASE} aloud",
    f"A {PHRASE}",
    "blocked roads, and blocked phrases too",
    "This answer is rather long, and it goes on and on.",
    "",
)
ENDINGS: tuple[ErrorClass | None, ...] = (
    None, None, None, "provider_error", "truncated", "connect", "invalid_request", "content_filter", "rate_limited",
)  # fmt: skip


@dataclass
class Call:
    """A call as the provider's own record has it. `text` is what it would say, `said` what it has said."""

    request: str
    attempt: int
    run: str
    text: str
    ending: ErrorClass | None
    hangs: bool
    read_to: int
    """How far the caller had read the journal when it called."""
    said: str = ""
    pieces: list[str] = field(default_factory=list)
    completed: bool = False
    open: bool = True


class Provider:
    """What it says is the scheduler's choice; it keeps a record of its calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.runs = 0
        self.kept = 0
        """Lists of what was settled, each with a key of its own."""


@dataclass
class Run:
    """A provider call of a process, from its announcement on."""

    owner: "Dispatch"
    start: Start
    id: str
    wrote_ms: int
    heard_ms: int = 0
    announced: bool = False
    call: Call | None = None
    chunks: int = 0


class Lane:
    """A partition of the journal: streams.lanes.Lane."""

    def __init__(self, committed: int, live_from: int) -> None:
        self.fold = DispatchFold()
        self.position = self.committed = committed
        self.live_from = live_from


class Dispatch(Worker):
    """A process of the stage: DispatchStage and Runs. One that has lost its partitions follows them as a tail."""

    group = "dispatch"

    def assigned(self) -> None:
        """Lanes._assigned: restore what was settled, go on from the committed offset."""
        self.runs: dict[str, Run] = {}
        self.tail = False
        self.lanes = [
            Lane(self.log.offset("dispatch", ("journal", number)), self.log.end(("journal", number)))
            for number in range(PARTITIONS)
        ]
        for number, lane in enumerate(self.lanes):
            for key, value in self.log.snapshots[number].items():
                if key.startswith(KEPT):
                    lane.fold.restore(decode_settled(value))

    def take(self, number: int, most: int) -> None:
        """Lanes._cycle, or follow where the partitions are gone."""
        lane = self.lanes[number]
        todo: list[Start | Abort] = []
        for entry in self.log.read(("journal", number), lane.position, most):
            if entry.value.startswith(CHUNK_PREFIX):
                lane.fold.saw_chunk(entry.key or "", entry.offset, entry.time_ms)
            else:
                todo += lane.fold.fold([record_of(entry)])
            lane.position = entry.offset + 1
        self.do(todo)
        if not lane.fold.live and lane.position >= lane.live_from:
            self.do(lane.fold.go_live())

    def do(self, todo: list[Start | Abort]) -> None:
        """Runs.do; a tail only obeys."""
        for item in todo:
            if isinstance(item, Abort):
                self.abort(item)
            elif not self.tail:
                self.start(item)

    def start(self, order: Start) -> None:
        """Runs._start: announce the run. The provider is called once the log has that."""
        now = from_ms(self.log.now_ms)
        if now >= order.order.expires_at or now >= order.order.deadline:
            self.write(GivenUp(order.id, order.tenant, order.attempt, "expired"))
            return
        self.world.provider.runs += 1
        run = Run(self, order, f"run-{self.world.provider.runs}", self.log.now_ms)
        self.runs[run.id] = run
        started = RunStarted(order.id, order.tenant, order.attempt, run.id, order.order.target)
        self.producer.event("journal", order.id, started, on_ack=lambda: setattr(run, "announced", True))

    def abort(self, abort: Abort) -> None:
        """Runs._abort: the connection is closed, and the end written."""
        for run in list(self.runs.values()):
            if run.start.id == abort.id and run.id != abort.keep and abort.only in (None, run.id):
                self.end(run, RunError(ENDED_BY_US[abort.reason], abort.reason))

    def advance(self, run: Run) -> None:
        """A run goes a step on: the call, a piece, the end."""
        if run.id not in self.runs:
            return
        if not run.announced:
            return
        if self.log.now_ms >= run.start.order.deadline.timestamp() * 1000:
            self.end(run, RunError("timeout_total", "too long"))
            return
        if run.call is None:
            self.call(run)
            return
        call, waited = run.call, self.log.now_ms - run.heard_ms
        if call.hangs:
            if waited > SILENT_MS:
                self.end(run, RunError("timeout_between_tokens" if call.said else "timeout_first_token", "silent"))
        elif call.pieces:
            self.say(run, call, call.pieces.pop(0))
        elif call.ending is not None:
            self.end(run, RunError(call.ending, "the script says so"))
        else:
            call.completed = True
            self.end(run, None)

    def call(self, run: Run) -> None:
        """Runs._call. The choices make the answer."""
        pick = self.world.pick
        order = run.start
        text, ending = TEXTS[pick(len(TEXTS))], ENDINGS[pick(len(ENDINGS))]
        size = pick(12) + 3
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        if ending is not None:
            pieces = pieces[: pick(len(pieces) + 1)]
        read_to = self.lanes[place_of(order.id)].position
        run.heard_ms = self.log.now_ms
        run.call = Call(order.id, order.attempt, run.id, text, ending, pick(12) == 11, read_to, pieces=pieces)
        self.world.provider.calls.append(run.call)

    def say(self, run: Run, call: Call, piece: str) -> None:
        """A chunk, sent and not waited for."""
        call.said += piece
        self.write(Chunk(run.start.id, run.start.tenant, run.id, run.chunks, piece))
        run.chunks += 1
        run.wrote_ms = run.heard_ms = self.log.now_ms

    def end(self, run: Run, error: RunError | None) -> None:
        """The end of a run: streams.runs._end."""
        del self.runs[run.id]
        if run.call is not None:
            run.call.open = False
        order = run.start
        usage = Usage(5, run.chunks, source="provider") if error is None else None
        reason = "stop" if error is None else None
        target = order.order.target
        ended = RunEnded(order.id, order.tenant, order.attempt, run.id, target, run.chunks, reason, error, usage)
        self.write(ended)

    def say_alive(self) -> None:
        """Runs._say_alive."""
        for run in self.runs.values():
            if self.log.now_ms - run.wrote_ms >= ALIVE_EVERY_MS:
                run.wrote_ms = self.log.now_ms
                self.write(RunAlive(run.start.id, run.start.tenant, run.id))

    def end_orphans(self) -> None:
        """Lanes._end_orphans."""
        for lane in self.lanes if not self.tail else ():
            for item in lane.fold.orphans(self.log.now_ms, self.runs) if lane.fold.live else ():
                error = RunError("interrupted", "the process that called the provider is gone")
                self.write(RunEnded(item.id, item.tenant, item.attempt, item.run, item.target, 0, error=error))

    def commit(self) -> None:
        """Lanes._commit: what was settled is acknowledged, by a producer of its own, before offsets pass it."""
        if self.tail:
            return
        self.may_crash("dispatch is about to keep")
        keeper = Producer(self.log)
        offsets: dict[int, int] = {}
        for number, lane in enumerate(self.lanes):
            if lane.fold.live:
                lane.fold.forget(self.log.now_ms)
            settled = lane.fold.settled()
            if settled is not None:
                self.world.provider.kept += 1
                keeper.send("snapshots", f"{KEPT}{self.world.provider.kept}", encode_settled(settled), number)
            floor = lane.fold.floor()
            offset = lane.position if floor is None else floor
            if offset > lane.committed:
                offsets[number] = offset
        keeper.flush()
        self.may_crash("dispatch is about to commit")
        for number, offset in offsets.items():
            with contextlib.suppress(Fenced):
                self.commit_offset(("journal", number), offset)
                self.lanes[number].committed = offset

    def lost(self) -> None:
        """Lanes._revoked and follow: read on, outside the group, until the runs under way have ended."""
        self.tail = True
        self.ended = not self.runs and not self.producer.queues

    def write(self, event: Event) -> None:
        """Queue a record of the journal."""
        self.producer.event("journal", event.id, event)  # type: ignore[attr-defined]
