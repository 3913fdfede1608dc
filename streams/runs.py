"""The provider calls that are under way in this process, and what they write to the journal."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from connectors.kafka.batches import PAUSED_S
from connectors.kafka.writer import AsyncWriter
from connectors.policies import Policies
from connectors.providers import CallEnded, CallFailed, ProviderClient
from processors.codec import encode
from processors.dispatch.fold import Abort, Start
from processors.events import AnswerPart, Chunk, ErrorClass, Event, GivenUp, RunAlive, RunEnded, RunError, RunStarted
from streams.lanes import Seen

log = logging.getLogger(__name__)

ALIVE_EVERY_S = 0.5
MAX_AHEAD = 256
"""Chunks a run may have written that were not read back yet. A provider that sends without pace is not read beyond it:
else its chunks would stand in the journal before the stop that ends them, and before everybody else's records."""
READ_BACK_S = 10.0
"""By then a record that was acknowledged is read again: dispatch reads what it writes, some milliseconds later."""
ENDED_BY_US: dict[str, tuple[ErrorClass, str]] = {
    "cancelled": ("cancelled", "the request was cancelled"),
    "stopped": ("stopped", "the guard stopped the answer"),
    "superseded": ("interrupted", "another process runs this order"),
    "shutdown": ("shutdown", "the service is shutting down"),
    "broken": ("provider_error", "an internal error ended the provider call"),
}


class _Run:
    def __init__(self, start: Start) -> None:
        self.start = start
        self.id = uuid4().hex
        self.chunks = self.read = 0
        """Written, and read back in the journal."""
        self.room = asyncio.Event()
        self.room.set()
        self.began = self.wrote = time.monotonic()
        self.why: str | None = None
        self.ended = False  # its end is written
        self.task: asyncio.Task[None]

    def chunk(self, part: AnswerPart) -> Chunk:
        """The next chunk."""
        start = self.start
        return Chunk(start.id, start.tenant, self.id, self.chunks, part.text, part.kind, part.choice, part.tool)

    @property
    def has_room(self) -> bool:
        return self.chunks - self.read < MAX_AHEAD

    async def wait_room(self) -> None:
        """Wait until the journal was read back far enough."""
        while not self.has_room:
            self.room.clear()
            if not self.has_room:  # else it was read between the two
                await self.room.wait()


class Runs:
    """Starts runs and aborts them. Every run that was announced writes its end, however it ends."""

    def __init__(self, client: ProviderClient, policies: Policies, writer: AsyncWriter, simulated: str) -> None:
        self._client = client
        self._policies = policies
        self._writer = writer
        self._simulated = simulated
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, list[_Run]] = {}
        """By request; more than one where an order was begun twice, until the journal says which counts."""
        self.ids: set[str] = set()
        """The runs of this process, until their end has stood in the journal for `READ_BACK_S`."""
        self._looking: dict[str, asyncio.Event] = {}
        """Runs that wait until their sign of life has been read back."""
        self._alive = asyncio.create_task(self._say_alive())

    @property
    def count(self) -> int:
        """How many requests have a run under way."""
        return len(self._runs)

    async def wait_ended(self) -> None:
        """Wait until the runs that are under way now have ended."""
        tasks = [run.task for run in self._under_way()]
        if tasks:
            await asyncio.wait(tasks)

    def do(self, todo: Iterable[Start | Abort | Seen]) -> None:
        """What a partition's fold asked for, in its order."""
        for item in todo:
            if isinstance(item, Abort):
                self._abort(item)
            elif isinstance(item, Start):
                self._start(item)
            elif item.run in self._looking:
                self._looking[item.run].set()

    def read_back(self, request_id: str) -> None:
        """A chunk of the request was read in the journal. Called by the thread that reads it."""
        for run in self._runs.get(request_id, ())[-1:]:
            run.read += 1
            if not run.room.is_set() and run.has_room:
                self._loop.call_soon_threadsafe(run.room.set)

    async def shut_down(self) -> None:
        """Abort everything, and wait until each end is written."""
        self._alive.cancel()
        for run in self._under_way():
            _end_early(run, "shutdown")
        await self.wait_ended()

    def _under_way(self) -> list[_Run]:
        return [run for runs in self._runs.values() for run in runs]

    def _start(self, order: Start) -> None:
        """Call the provider, unless it is too late, or this process does so already under an earlier assignment."""
        now = datetime.now(UTC)
        if now >= order.order.expires_at or now >= order.order.deadline:
            self._write(order.id, GivenUp(order.id, order.tenant, order.attempt, "expired"))
            return
        runs = self._runs.setdefault(order.id, [])
        if any(run.start.attempt == order.attempt for run in runs):
            return
        run = _Run(order)
        runs.append(run)
        self.ids.add(run.id)
        run.task = asyncio.create_task(self._run(run))
        run.task.add_done_callback(lambda _: self._ended(run))

    def _ended(self, run: _Run) -> None:
        runs = self._runs[run.start.id]
        runs.remove(run)
        if not runs:
            del self._runs[run.start.id]

    def _abort(self, abort: Abort) -> None:
        for run in self._runs.get(abort.id, ()):
            if run.id != abort.keep and abort.only in (None, run.id):
                _end_early(run, abort.reason)

    async def _run(self, run: _Run) -> None:
        order = run.start
        try:
            started = RunStarted(order.id, order.tenant, order.attempt, run.id, order.order.target)
            await self._call(run, self._writer.deliver("journal", order.id, encode(started)))
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("run %s failed", run.id)
            run.why = "broken"
        if not run.ended:
            self._write_end(run, None)

    async def _call(self, run: _Run, announced: "asyncio.Future[int]") -> None:
        """Write what the provider says. Its end is written as soon as it is known; the connection is then read to the
        end of the HTTP answer, without which it could not be used again."""
        order = run.start
        try:
            body = msgspec.json.decode(order.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the journal's reader does not look into it
            unreadable = RunError("invalid_request", f"the request is not readable: {error}")
            self._write_end(run, CallEnded(None, unreadable, None, None, None, None, 0.0))
            return
        policy = self._policies.known(order.policy)
        if policy is None:
            policy = await asyncio.to_thread(self._policies.find, order.policy, 10.0)
        if policy is None:  # the guard has refused its decision as well
            raise LookupError(f"policy {order.policy} was never published")
        provider = policy.policy.providers[order.order.target.provider]
        effective = policy.effective(order.tenant)
        timeouts = effective.timeouts if effective else policy.policy.timeouts
        remaining = (order.order.deadline - datetime.now(UTC)).total_seconds()
        call = self._client.call(
            provider,
            provider.url(self._simulated),
            os.environ.get(provider.api_key_env) if provider.api_key_env else None,
            body,
            order.order.target.model,
            order.order.max_tokens,
            timeouts,
            remaining,
            request_id=run.id,
            before_sending=lambda: self._may_send(run, announced),
        )
        async with aclosing(call) as items:
            async for item in items:
                if isinstance(item, CallEnded):
                    self._write_end(run, item)
                    continue
                for part in item:
                    await run.wait_room()
                    send = self._writer.send_with_others if run.chunks else self._writer.send
                    send("journal", order.id, encode(run.chunk(part)))
                    run.chunks += 1
                run.wrote = time.monotonic()

    async def _may_send(self, run: _Run, announced: "asyncio.Future[int]") -> None:
        """A run is announced before it is called: a successor must know of it, or it would call a second time. And who
        has stood still between the two may have a successor that ended it. So a sign of life is written and read back:
        by then an end that stands before it has broken this off."""
        await announced
        if time.monotonic() - run.began <= PAUSED_S:
            return
        seen = self._looking[run.id] = asyncio.Event()
        self._write(run.start.id, RunAlive(run.start.id, run.start.tenant, run.id))
        try:
            async with asyncio.timeout(READ_BACK_S):
                await seen.wait()
        except TimeoutError:
            raise CallFailed(RunError("interrupted", "whether the call is still wanted cannot be read")) from None
        finally:
            del self._looking[run.id]

    def _write_end(self, run: _Run, ended: CallEnded | None) -> None:
        run.ended = True
        written = self._writer.deliver("journal", run.start.id, encode(_end(run, ended)))
        written.add_done_callback(lambda _: self._loop.call_later(READ_BACK_S, self.ids.discard, run.id))

    def _write(self, request_id: str, event: Event) -> None:
        self._writer.send("journal", request_id, encode(event))

    async def _say_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S / 2)
            now = time.monotonic()
            for run in self._under_way():
                if now - run.wrote >= ALIVE_EVERY_S and not run.ended:
                    run.wrote = now
                    self._write(run.start.id, RunAlive(run.start.id, run.start.tenant, run.id))


def _end_early(run: _Run, why: str) -> None:
    if run.why is None:
        run.why = why
        run.task.cancel()


def _end(run: _Run, ended: CallEnded | None) -> RunEnded:
    """The end of a run as the provider gave it, or as we did."""
    order = run.start
    if ended is None:
        kind, message = ENDED_BY_US[run.why or "shutdown"]
        error, total_ms = RunError(kind, message), (time.monotonic() - run.began) * 1000
        return RunEnded(
            order.id,
            order.tenant,
            order.attempt,
            run.id,
            order.order.target,
            run.chunks,
            error=error,
            total_ms=total_ms,
        )
    return RunEnded(
        id=order.id,
        tenant=order.tenant,
        attempt=order.attempt,
        run=run.id,
        target=order.order.target,
        chunks=run.chunks,
        finish_reason=ended.finish_reason,
        error=ended.error,
        usage=ended.usage,
        raw_usage=ended.raw_usage,
        first_token_ms=ended.first_token_ms,
        total_ms=ended.total_ms,
        provider_request_id=ended.provider_request_id,
    )
