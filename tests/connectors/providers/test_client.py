"""Calls that go well, in all the ways that providers write an answer."""

import asyncio
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvloop

from connectors.providers import CallEnded, ProviderClient
from connectors.providers.client import USER_AGENT
from connectors.simulated import SimulatedProvider
from connectors.simulated.texts import STORY, STORY_RU
from processors.events import ToolCall, Usage
from processors.policy import Provider
from tests.connectors.providers.conftest import HEAD, UNTIL_CLOSED, Caller, Peer, RawServer, chunked, event

Raw = Callable[..., Awaitable[RawServer]]
DONE = b"data: [DONE]\n\n"
ANSWER = event("Hi") + event(finish="stop") + DONE


async def test_a_story(call: Caller, sim: SimulatedProvider) -> None:
    batches, ended = await call.batches(sim.url, "story", api_key="sk-test", request_id="run-1")
    parts = [part for batch in batches for part in batch]
    assert "".join(part.text for part in parts) == STORY
    assert {part.kind for part in parts} == {"content"}
    assert (ended.error, ended.finish_reason) == (None, "stop")
    assert ended.usage == Usage(8, len(parts), source="provider")
    assert ended.raw_usage is not None
    assert ended.raw_usage["completion_tokens"] == len(parts)
    assert ended.provider_request_id is not None
    assert ended.provider_request_id.startswith("chatcmpl-sim-")
    assert ended.first_token_ms is not None
    assert 0 < ended.first_token_ms <= ended.total_ms
    (record,) = sim.calls
    assert (record.request_id, record.authorized, record.user_agent) == ("run-1", True, USER_AGENT)
    assert (record.how, record.deltas) == ("finished", len(parts))


@pytest.mark.parametrize(
    "options",
    [
        "gzip=1",
        "crlf=1&bom=1",
        "comments=1",
        "cut=7",
        "cut=3&gzip=1&crlf=1",
        "whole=1",
        "usage=last",
        "usage=every",
        "fault=no-done",
    ],
)
async def test_however_it_is_written_it_says_the_same(call: Caller, sim: SimulatedProvider, options: str) -> None:
    text, ended = await call(sim.url, f"story-ru?{options}")
    assert text == STORY_RU
    assert (ended.error, ended.finish_reason) == (None, "stop")
    assert ended.usage is not None
    assert ended.usage.source == "provider"


async def test_a_provider_without_usage(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, "story?usage=none")
    assert (ended.error, ended.usage, ended.raw_usage) == (None, None, None)


async def test_kinds(call: Caller, sim: SimulatedProvider) -> None:
    batches, ended = await call.batches(sim.url, "tool-call", text="boats")
    parts = [part for batch in batches for part in batch]
    assert parts[0].tool == ToolCall(0, "call_sim_1", "look_up")
    assert {part.tool for part in parts[1:]} == {ToolCall(0)}
    assert orjson.loads("".join(part.text for part in parts)) == {"query": "boats"}
    assert ended.finish_reason == "tool_calls"
    kinds = [part.kind for batch in (await call.batches(sim.url, "reasoning"))[0] for part in batch]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning", "content"}
    assert {part.kind for batch in (await call.batches(sim.url, "refusal"))[0] for part in batch} == {"refusal"}


async def test_the_orders_cap(call: Caller, sim: SimulatedProvider) -> None:
    text, ended = await call(sim.url, "endless", max_tokens=5)
    assert (text, ended.finish_reason, ended.error) == ("1 2 3 4 5 ", "length", None)
    assert sim.calls[0].max_tokens == 5


async def test_deltas_of_one_read_come_together(call: Caller, raw: Raw) -> None:
    server = await raw(UNTIL_CLOSED + b"".join(event(str(n)) for n in range(50)) + ANSWER)
    batches, _ = await call.batches(server.url)
    assert [len(batch) for batch in batches] == [51]


async def test_what_is_sent(call: Caller, raw: Raw) -> None:
    server = await raw(UNTIL_CLOSED + ANSWER)
    provider = Provider(base_url=server.url, headers={"OpenAI-Project": "p1", "User-Agent": "mine"})
    await call(server.url + "/", "m", provider=provider, request={"temperature": 0.5, "user": "u"})
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/chat/completions http/1.1"
    assert b"openai-project: p1" in lines
    assert f"user-agent: {USER_AGENT}".encode() in lines
    assert not any(line.startswith((b"authorization", b"cookie", b"x-request-id")) for line in lines)
    assert orjson.loads(body)["temperature"] == 0.5
    assert "user" not in orjson.loads(body)


async def test_the_base_urls_query_stays(call: Caller, raw: Raw) -> None:
    server = await raw(UNTIL_CLOSED + ANSWER)
    text, _ = await call(f"{server.url}/gpt%204?api-version=7")
    assert text == "Hi"
    assert server.requests[0].startswith(b"POST /v1/gpt%204/chat/completions?api-version=7 ")


async def test_a_connection_is_used_again(call: Caller, raw: Raw) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\nSet-Cookie: a=b\r\nX-Request-Id: r7\r\n\r\n")
        await peer.send(chunked(ANSWER))
        await peer.send(b"0\r\n\r\n")

    server = await raw(answer)
    for _ in range(3):
        text, ended = await call(server.url)
        assert (text, ended.error, ended.provider_request_id) == ("Hi", None, "r7")
    assert server.connections == 1
    assert not any(b"cookie" in request.lower() for request in server.requests)


async def test_a_connection_closed_before_it_was_sent_on_is_replaced(call: Caller, raw: Raw) -> None:
    """The provider closes it while its caller may not send yet."""
    closing = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(ANSWER) + b"0\r\n\r\n")
        if len(server.requests) == 1:
            await closing.wait()
            peer.writer.close()

    async def closed() -> None:
        closing.set()
        await asyncio.sleep(0.2)  # nobody tells when the close has come

    server = await raw(answer)
    assert (await call(server.url))[1].error is None
    text, ended = await call(server.url, before_sending=closed)
    assert (text, ended.error) == ("Hi", None)
    assert server.connections == 2


async def test_the_end_is_told_before_the_connection_is_drained(call: Caller, raw: Raw) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(ANSWER))
        await peer.closed()

    server = await raw(answer)
    text, ended = await call(server.url)
    assert (text, ended.error) == ("Hi", None)
    await call(server.url)
    assert server.connections == 2


async def test_proxies_of_the_environment_are_not_asked(
    call: Caller, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await call(sim.url, "say?text=hi"))[0] == "hi"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_answer_that_was_not_asked_for(call: Caller, raw: Raw, encoding: str) -> None:
    packed = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    body = packed.compress(ANSWER) + packed.flush()
    pieces = [body[i : i + 5] for i in range(0, len(body), 5)]
    head = HEAD + f"Content-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    server = await raw(head + chunked(*pieces) + b"0\r\n\r\n")
    text, ended = await call(server.url)
    assert (text, ended.error) == ("Hi", None)


async def test_a_request_id_that_is_no_text_becomes_one(call: Caller, raw: Raw) -> None:
    server = await raw(HEAD + b"X-Request-Id: a\xff\xfeb\r\nConnection: close\r\n\r\n" + ANSWER)
    _, ended = await call(server.url)
    assert ended.provider_request_id == "ab"


@pytest.mark.parametrize(
    "tail",
    [
        event(finish="stop"),
        event(finish="stop") + b"data: [DONE]",
        event(finish="stop").rstrip(b"\n"),
        event(finish="stop") + b"data: {",
    ],
)
async def test_an_end_that_is_only_nearly_right(call: Caller, raw: Raw, tail: bytes) -> None:
    server = await raw(UNTIL_CLOSED + event("Hi") + tail)
    text, ended = await call(server.url)
    assert (text, ended.finish_reason, ended.error) == ("Hi", "stop", None)


@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b"application/octet-stream"])
async def test_the_body_and_not_its_type_says_what_it_is(call: Caller, raw: Raw, content_type: bytes) -> None:
    for body in (ANSWER, b'\n {"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\n\r\n" % content_type
        text, ended = await call((await raw(head + body)).url)
        assert (text, ended.error) == ("Hi", None)


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run])
def test_a_connection_that_the_provider_has_just_closed_is_not_used(loop: Callable[..., Any]) -> None:
    """Its close lies in the socket, unread, as the loop is busy: the call takes a fresh one."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = head + chunked(ANSWER) + b"0\r\n\r\n"

    def serve(server: socket.socket, close: threading.Event, closed: threading.Event) -> None:
        for last in (False, True):
            connection, _ = server.accept()
            connection.recv(65_536)
            connection.sendall(answer)
            if not last:
                close.wait(10)
            connection.close()
            closed.set()

    async def run() -> list[tuple[str, CallEnded]]:
        close, closed = threading.Event(), threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve, args=(server, close, closed), daemon=True)
            thread.start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
            async with ProviderClient() as client:
                call = Caller(client)
                first = await call(url)
                close.set()
                assert closed.wait(10)  # and the loop with it
                return [first, await call(url)]

    for text, ended in loop(run()):
        assert (text, ended.error) == ("Hi", None)
