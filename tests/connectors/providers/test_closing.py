"""A call that nobody wants any more costs nothing any more: the provider sees its connection closed within 100 ms."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
import uvloop

from connectors.providers import CallEnded, ProviderClient
from connectors.simulated import SimulatedProvider
from processors.policy import Timeouts
from tests.connectors.providers.conftest import Caller, Peer, RawServer

Raw = Callable[..., Awaitable[RawServer]]
BOUND_S = 0.1


async def cancelled_after_start(call: Caller, sim: SimulatedProvider, model: str, deltas: int) -> float:
    """Seconds from cancelling the task that reads to the provider's seeing it."""
    task = asyncio.create_task(call(sim.url, model))
    await sim.log.wait(lambda c: c.deltas >= deltas)
    cancelled = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await sim.log.wait(lambda c: c.how is not None)
    assert record.how == "client_closed"
    assert record.ended_monotonic is not None
    return record.ended_monotonic - cancelled


MODELS = [
    ("hang", 0),
    ("hang-after?n=2", 2),
    ("endless?pace_ms=10", 3),
    ("slow?first_ms=5000", 0),
    ("story?whole=1&first_ms=5000", 0),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("model", "deltas"), MODELS)
async def test_cancelling_the_task(call: Caller, sim: SimulatedProvider, model: str, deltas: int) -> None:
    assert await cancelled_after_start(call, sim, model, deltas) < BOUND_S


@pytest.mark.parametrize(("model", "deltas"), MODELS[:3])
def test_cancelling_the_task_on_uvloop(model: str, deltas: int) -> None:
    async def run() -> float:
        async with ProviderClient() as client, SimulatedProvider() as sim:
            return await cancelled_after_start(Caller(client), sim, model, deltas)

    assert uvloop.run(run()) < BOUND_S


async def test_closing_the_iterator(call: Caller, sim: SimulatedProvider) -> None:
    async with aclosing(call.items(sim.url, "endless?pace_ms=10")) as items:
        async for _ in items:
            break
    closed = time.monotonic()
    record = await sim.log.wait(lambda c: c.how is not None)
    assert record.how == "client_closed"
    assert record.ended_monotonic is not None
    assert record.ended_monotonic - closed < BOUND_S


async def test_leaving_the_loop_without_closing_is_enough(call: Caller, sim: SimulatedProvider) -> None:
    async def first_only() -> None:
        async for _ in call.items(sim.url, "endless?pace_ms=10"):
            return

    await first_only()
    assert (await sim.log.wait(lambda c: c.how is not None, 2)).how == "client_closed"


async def test_a_broken_off_connection_is_not_used_again(call: Caller, sim: SimulatedProvider) -> None:
    async with aclosing(call.items(sim.url, "endless?pace_ms=10")) as items:
        async for _ in items:
            break
    assert (await call(sim.url, "say?text=clean"))[0] == "clean"


async def test_a_failed_call_is_closed_before_it_is_told(call: Caller, sim: SimulatedProvider) -> None:
    timeouts = Timeouts(connect_s=1, first_token_s=1, between_tokens_s=0.1)
    async with aclosing(call.items(sim.url, "hang-after?n=1", timeouts=timeouts)) as items:
        async for item in items:
            if isinstance(item, CallEnded):
                told = time.monotonic()
                record = await sim.log.wait(lambda c: c.how is not None)
                assert record.ended_monotonic is not None
                assert record.ended_monotonic - told < BOUND_S


async def test_while_the_request_is_still_being_sent(call: Caller, raw: Raw) -> None:
    """What is unsent then stays so, or a provider that reads slowly would hold the connection open."""
    arrived, cancelled = asyncio.Event(), asyncio.Event()
    received: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def answer(peer: Peer) -> None:
        count = len(await peer.reader.read(1))
        arrived.set()
        await cancelled.wait()
        while data := await peer.reader.read(1 << 20):
            count += len(data)
        received.set_result(count)

    server = await raw(answer, read_request=False)
    size = 32 << 20
    task = asyncio.create_task(call(server.url, text="x" * size))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled.set()
    assert await asyncio.wait_for(received, 5) < size


async def test_closing_the_client_ends_calls(sim: SimulatedProvider) -> None:
    async with ProviderClient() as client:
        task = asyncio.create_task(Caller(client)(sim.url, "hang-after?n=1"))
        await sim.log.wait(lambda c: c.deltas >= 1)
    _, ended = await task
    assert ended.error is not None
    assert ended.error.kind in ("connect", "truncated")
