"""The provider calls that are under way in this process, and what they write to the journal."""

import asyncio
import logging
import os
import time
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from connectors.kafka.writer import AsyncWriter
from connectors.policies import Policies
from connectors.providers import CallEnded, ProviderClient
from processors.codec import encode
from processors.dispatch.fold import Abort, Start
from processors.events import AnswerPart, Chunk, ErrorClass, Event, GivenUp, RunAlive, RunEnded, RunError, RunStarted
from processors.policy import Provider

log = logging.getLogger(__name__)

SIMULATED = "simulated:"
"""A base URL that stands for the simulated provider of this installation."""
ALIVE_EVERY_S = 0.5
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
        self.chunks = 0
        self.began = self.wrote = time.monotonic()
        self.why: str | None = None
        self.task: asyncio.Task[None]


class Runs:
    """Starts runs and aborts them. Every run that was announced writes its end, however it ends."""

    def __init__(self, client: ProviderClient, policies: Policies, writer: AsyncWriter, simulated: str) -> None:
        self._client = client
        self._policies = policies
        self._writer = writer
        self._simulated = simulated
        self._runs: dict[str, _Run] = {}
        self._alive = asyncio.create_task(self._say_alive())

    @property
    def count(self) -> int:
        """How many runs are under way."""
        return len(self._runs)

    def under_way(self) -> set[str]:
        """The ids of the runs under way."""
        return set(self._runs)

    def start(self, order: Start) -> None:
        """Call the provider, unless it is too late."""
        now = datetime.now(UTC)
        if now >= order.order.expires_at or now >= order.order.deadline:
            self._write(order.id, GivenUp(order.id, order.tenant, order.attempt, "expired"))
            return
        run = _Run(order)
        self._runs[run.id] = run
        run.task = asyncio.create_task(self._run(run))
        run.task.add_done_callback(lambda _: self._runs.pop(run.id, None))

    def abort(self, abort: Abort) -> None:
        """Close the provider's connection of the request's runs."""
        for run in list(self._runs.values()):
            if run.start.id == abort.id and run.id != abort.keep and run.why is None:
                run.why = abort.reason
                run.task.cancel()

    async def shut_down(self) -> None:
        """Abort everything, and wait until each end is written."""
        self._alive.cancel()
        for run in list(self._runs.values()):
            run.why = run.why or "shutdown"
            run.task.cancel()
        await asyncio.gather(*(run.task for run in list(self._runs.values())), return_exceptions=True)

    async def _run(self, run: _Run) -> None:
        order = run.start
        ended: CallEnded | None = None
        try:
            # Announced before it is called: a successor must know of it, or it would call a second time.
            await self._deliver(run, RunStarted(order.id, order.tenant, order.attempt, run.id, order.order.target))
            ended = await self._call(run)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("run %s failed", run.id)
            run.why = "broken"
        self._write(order.id, _end(run, ended))

    async def _call(self, run: _Run) -> CallEnded | None:
        order = run.start
        policy = self._policies.known(order.policy)
        if policy is None:
            policy = await asyncio.to_thread(self._policies.wait_for, order.policy, 10.0)
        provider = policy.policy.providers[order.order.target.provider]
        effective = policy.effective(order.tenant)
        timeouts = effective.timeouts if effective else policy.policy.timeouts
        remaining = (order.order.deadline - datetime.now(UTC)).total_seconds()
        call = self._client.call(
            provider,
            self._base_url(provider),
            os.environ.get(provider.api_key_env) if provider.api_key_env else None,
            msgspec.json.decode(order.body),
            order.order.target.model,
            order.order.max_tokens,
            timeouts,
            remaining,
            request_id=run.id,
        )
        async with aclosing(call) as items:
            async for item in items:
                if isinstance(item, CallEnded):
                    return item
                for part in item:
                    chunk = Chunk(
                        order.id, order.tenant, run.id, run.chunks, part.text, part.kind, part.choice, part.tool
                    )
                    self._writer.send("journal", order.id, encode(chunk))
                    run.chunks += 1
                run.wrote = time.monotonic()
        return None

    def _base_url(self, provider: Provider) -> str:
        return self._simulated + "/v1" if provider.base_url == SIMULATED else provider.base_url

    async def _deliver(self, run: _Run, event: Event) -> None:
        await self._writer.deliver("journal", run.start.id, encode(event))

    def _write(self, request_id: str, event: Event) -> None:
        self._writer.send("journal", request_id, encode(event))

    async def _say_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S / 2)
            now = time.monotonic()
            for run in self._runs.values():
                if now - run.wrote >= ALIVE_EVERY_S:
                    run.wrote = now
                    self._write(run.start.id, RunAlive(run.start.id, run.start.tenant, run.id))


def _chunk(run: _Run, part: AnswerPart) -> Chunk:
    order = run.start
    return Chunk(order.id, order.tenant, run.id, run.chunks, part.text, part.kind, part.choice, part.tool)


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
