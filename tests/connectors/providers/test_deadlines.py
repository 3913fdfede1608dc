"""Each time-out ends a call with its own class, and only for what the provider is to blame for."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, aclosing

import pytest
import uvloop

from connectors.providers import CallEnded, deadlines
from connectors.simulated import SimulatedProvider
from processors.policy import Timeouts
from tests.connectors.providers.conftest import HEAD, UNTIL_CLOSED, Caller, Peer, RawServer, event

Raw = Callable[..., Awaitable[RawServer]]


def timeouts(connect_s: float = 2, first_token_s: float = 2, between_tokens_s: float = 2) -> Timeouts:
    return Timeouts(connect_s=connect_s, first_token_s=first_token_s, between_tokens_s=between_tokens_s)


def kind(ended: CallEnded) -> str | None:
    return None if ended.error is None else ended.error.kind


async def test_connect(call: Caller) -> None:
    """A listener whose backlog is full drops what knocks."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(address)
        _, ended = await call(f"http://127.0.0.1:{address[1]}/v1", timeouts=timeouts(connect_s=0.15))
    assert kind(ended) == "timeout_connect"
    assert 150 <= ended.total_ms < 2000


@pytest.mark.parametrize("model", ["hang", "hang-after?n=0", "slow?first_ms=5000"])
async def test_first_token(call: Caller, sim: SimulatedProvider, model: str) -> None:
    text, ended = await call(sim.url, model, timeouts=timeouts(first_token_s=0.15))
    assert (text, kind(ended), ended.first_token_ms) == ("", "timeout_first_token", None)
    assert 150 <= ended.total_ms < 2000
    assert (await sim.log.wait(lambda c: c.how is not None)).how == "client_closed"


async def test_what_we_do_before_sending_is_not_the_providers_time(call: Caller, sim: SimulatedProvider) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.6)

    limits = timeouts(connect_s=0.3, first_token_s=0.3)
    text, ended = await call(sim.url, "numbers?n=2", timeouts=limits, before_sending=slowly)
    assert (text, ended.error) == ("1 2 ", None)
    assert ended.first_token_ms is not None
    assert ended.first_token_ms < 300
    _, ended = await call(sim.url, "hang", timeouts=limits, before_sending=slowly)
    assert kind(ended) == "timeout_first_token"
    _, ended = await call(sim.url, timeouts=limits, before_sending=slowly, deadline=0.3)
    assert kind(ended) == "timeout_total"


async def test_between_tokens(call: Caller, sim: SimulatedProvider) -> None:
    text, ended = await call(sim.url, "hang-after?n=2", timeouts=timeouts(between_tokens_s=0.15))
    assert (text, kind(ended)) == ("1 2 ", "timeout_between_tokens")
    assert ended.first_token_ms is not None


async def test_total(call: Caller, sim: SimulatedProvider) -> None:
    text, ended = await call(sim.url, "endless?pace_ms=10", deadline=0.2)
    assert (text[:4], kind(ended)) == ("1 2 ", "timeout_total")
    assert 200 <= ended.total_ms < 2000


async def test_total_also_where_data_never_stops(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, "endless", deadline=0.2)
    assert kind(ended) == "timeout_total"


async def test_no_time_left_is_no_call(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, deadline=0.0)
    assert kind(ended) == "timeout_total"
    assert sim.calls == []


async def test_tokens_that_come_in_time_are_no_time_out(call: Caller, sim: SimulatedProvider) -> None:
    text, ended = await call(
        sim.url, "numbers?n=8&pace_ms=80", timeouts=timeouts(first_token_s=0.4, between_tokens_s=0.4)
    )
    assert (text, ended.error) == ("1 2 3 4 5 6 7 8 ", None)
    assert ended.total_ms > 400


async def test_comments_and_empty_deltas_are_no_tokens(call: Caller, raw: Raw) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(UNTIL_CLOSED + event("Hi"))
        gone = asyncio.create_task(peer.closed())
        while not gone.done():
            await peer.send(b": still here\n\n" + event(""))
            await asyncio.wait([gone], timeout=0.02)

    text, ended = await call((await raw(answer)).url, timeouts=timeouts(between_tokens_s=0.15))
    assert (text, kind(ended)) == ("Hi", "timeout_between_tokens")


async def test_a_slow_consumer_is_not_the_providers_fault(call: Caller, sim: SimulatedProvider) -> None:
    async with aclosing(
        call.items(sim.url, "numbers?n=3&pace_ms=60", timeouts=timeouts(between_tokens_s=0.1))
    ) as items:
        async for item in items:
            ended = item
            await asyncio.sleep(0.15)
    assert isinstance(ended, CallEnded)
    assert ended.error is None


async def test_after_the_finish_reason_silence_is_an_end(
    call: Caller, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "FINISH_GRACE_S", 0.1)

    async def answer(peer: Peer) -> None:
        await peer.send(UNTIL_CLOSED + event("Hi") + event(finish="stop"))
        await peer.closed()

    text, ended = await call((await raw(answer)).url)
    assert (text, ended.finish_reason, ended.error) == ("Hi", "stop", None)
    assert 100 <= ended.total_ms < 2000


async def test_an_error_whose_body_does_not_end(call: Caller, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.providers.exchange.ERROR_BODY_S", 0.1)

    async def answer(peer: Peer) -> None:
        await peer.send(HEAD.replace(b"200 OK", b"429 Slow") + b"Retry-After: 3\r\nContent-Length: 100\r\n\r\n<html>")
        await peer.closed()

    _, ended = await call((await raw(answer)).url)
    assert ended.error is not None
    assert (ended.error.kind, ended.error.status, ended.error.retry_after_s) == ("rate_limited", 429, 3.0)


def test_a_timer_that_is_almost_due_may_be_set_again() -> None:
    """uvloop rounds to milliseconds and gives a handle of another class for none: seen as an AttributeError."""

    async def wait_twice() -> bool:
        watched = deadlines.Deadlines(timeouts(), 0.0004)
        rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched.watch(lambda: rung.done() or rung.set_result(None))
        watched.unwatch()
        watched.watch(lambda: rung.done() or rung.set_result(None))
        async with asyncio.timeout(2):
            await rung
        return True

    assert uvloop.run(wait_twice())
