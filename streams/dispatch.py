"""Dispatch: calls the provider for each order of the journal, and closes the connection when the journal says so."""

import asyncio
import contextlib
import logging
import sys
import threading
from typing import Any

from connectors.kafka.writer import AsyncWriter
from connectors.policies import Policies
from connectors.providers import ProviderClient
from streams.lanes import Lane, Lanes, Todo, follow
from streams.runs import Runs
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

SWITCH_S = 0.0005
"""The reading thread waits for the interpreter at most so long, instead of Python's 5 ms."""


class DispatchStage:
    """The loop in which the runs live. A thread reads the journal; threads follow partitions that were lost."""

    def __init__(self, context: Context, writer: AsyncWriter, runs: Runs, stopping: Stopping) -> None:
        self._context = context
        self._writer = writer
        self._runs = runs
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._tails: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._at_once = asyncio.Event()
        stopping.listen(self._signalled)

    async def run(self) -> None:
        """Work until asked to stop; then finish what is open, or end it at once."""
        lanes = Lanes(self._context, self._stopping, self._ask, self._lost, self._runs.read_back, self._runs.ids)
        failing = asyncio.create_task(self._writer.failure())
        reading = asyncio.create_task(asyncio.to_thread(lanes.run))
        try:
            first: set[asyncio.Future[Any]] = {reading, failing, self._broken}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            for ended in (failing, self._broken):
                if ended.done():
                    ended.result()  # raises what broke
        finally:
            failing.cancel()
            lanes.leave()
        left = await reading
        if not self._at_once.is_set():
            await self._drain(left)
        await self._runs.shut_down()
        if self._at_once.is_set():
            await asyncio.to_thread(lanes.give_up, left)
        await asyncio.gather(*self._tails)
        await self._writer.aclose()

    def _signalled(self) -> None:
        if self._stopping.now:
            self._loop.call_soon_threadsafe(self._at_once.set)

    def _ask(self, todo: Todo) -> None:
        self._loop.call_soon_threadsafe(self._runs.do, todo)

    def _lost(self, lanes: list[Lane]) -> None:
        self._loop.call_soon_threadsafe(self._follow, lanes)

    def _follow(self, lanes: list[Lane]) -> None:
        """Let the runs that are under way now be stopped by these partitions until they have ended."""
        if self._runs.count and lanes:
            tail = asyncio.create_task(self._tail(lanes))
            self._tails.add(tail)
            tail.add_done_callback(self._tail_ended)

    async def _tail(self, lanes: list[Lane]) -> None:
        over = threading.Event()
        following = asyncio.create_task(asyncio.to_thread(follow, self._context, lanes, self._ask, over))
        ended = asyncio.create_task(self._runs.wait_ended())
        try:
            await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.set()
        await following

    def _tail_ended(self, tail: "asyncio.Task[None]") -> None:
        self._tails.discard(tail)
        if not tail.cancelled() and tail.exception() is not None and not self._broken.done():
            self._broken.set_exception(tail.exception() or RuntimeError())

    async def _drain(self, lanes: list[Lane]) -> None:
        """Take no new order and finish the open runs, outside the group: a successor may take our place at once."""
        self._follow(lanes)
        self._context.announce_ready(draining=True)
        log.info("draining %d runs", self._runs.count)
        ended = asyncio.create_task(self._runs.wait_ended())
        at_once = asyncio.create_task(self._at_once.wait())
        first: set[asyncio.Future[Any]] = {ended, at_once, self._broken}
        await asyncio.wait(first, timeout=self._context.settings.drain_s, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        at_once.cancel()


async def main(context: Context) -> None:
    """Run the stage until a signal."""
    sys.setswitchinterval(SWITCH_S)
    stopping = Stopping().listen()
    policies = Policies(context.settings.kafka)
    await asyncio.to_thread(policies.wait_current)
    writer = AsyncWriter(context.settings.kafka, context.member)
    async with ProviderClient() as client:
        runs = Runs(client, policies, writer, context.settings.simulated)
        with contextlib.closing(policies):
            await DispatchStage(context, writer, runs, stopping).run()
