"""Providers that fail: each way has its class, text that came before it counts, and no message holds a secret."""

import socket
from collections.abc import Awaitable, Callable

import pytest

from connectors.simulated import SimulatedProvider
from processors.policy import Provider
from tests.connectors.providers.conftest import HEAD, UNTIL_CLOSED, Caller, Peer, RawServer, chunked, event

Raw = Callable[..., Awaitable[RawServer]]
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HI = event("Hi")


@pytest.mark.parametrize(
    ("model", "kind", "text"),
    [
        ("fail-400", "invalid_request", ""),
        ("fail-401", "unauthorized", ""),
        ("fail-404", "not_found", ""),
        ("fail-429?retry_after=2", "rate_limited", ""),
        ("fail-503", "provider_error", ""),
        ("no-such-model", "not_found", ""),
        ("html", "bad_response", ""),
        ("redirect", "bad_response", ""),
        ("die-before", "connect", ""),
        ("reset", "connect", ""),
        ("die-after?n=3", "truncated", "1 2 3 "),
        ("reset-after?n=3&pace_ms=5", "truncated", "1 2 3 "),
        ("torn-after?n=3", "truncated", "1 2 3 "),
        ("no-finish?n=3", "truncated", "1 2 3 "),
        ("no-finish?n=3&whole=1", "truncated", "1 2 3 "),
        ("error-after?n=3", "provider_error", "1 2 3 "),
        ("error-after?n=3&error=dashscope", "provider_error", "1 2 3 "),
        ("malformed-after?n=3", "bad_response", "1 2 3 "),
        ("garbage?mb=100", "bad_response", ""),
        ("garbage?mb=100&char={", "bad_response", ""),
        ("story?n=2&finish_reason=content_filter", "content_filter", "The lock "),
        ("story?n=2&finish_reason=error", "provider_error", "The lock "),
    ],
)
async def test_classes(call: Caller, sim: SimulatedProvider, model: str, kind: str, text: str) -> None:
    came, ended = await call(sim.url, model)
    assert ended.error is not None
    assert (came, ended.error.kind) == (text, kind)
    assert ended.error.message


async def test_retry_after(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, "fail-429?retry_after=2")
    assert ended.error is not None
    assert (ended.error.status, ended.error.retry_after_s) == (429, 2.0)


async def test_a_failure_late_in_the_answer_keeps_its_usage(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, "die-after?n=3&usage=every")
    assert ended.usage is not None
    assert ended.usage.output == 3


async def test_refused(call: Caller) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    _, ended = await call(f"http://127.0.0.1:{port}/v1")
    assert ended.error is not None
    assert (ended.error.kind, ended.error.message) == ("connect", f"127.0.0.1:{port}: Connection refused")


async def test_unknown_host(call: Caller) -> None:
    _, ended = await call("http://no-such-host.invalid/v1")
    assert ended.error is not None
    assert ended.error.kind == "connect"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"", "connect", ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "bad_response", ""),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "bad_response", ""),
        (UNTIL_CLOSED, "truncated", ""),
        (UNTIL_CLOSED + b"\n\n: nothing\n\n", "truncated", ""),
        (UNTIL_CLOSED + HI + b"data: [DONE]\n\n", "truncated", "Hi"),
        (UNTIL_CLOSED + HI + b'data: {"choices":[{"delta":{"content":"cut o', "truncated", "Hi"),
        (UNTIL_CLOSED + b"  \n<!doctype html>", "bad_response", ""),
        (UNTIL_CLOSED + b'{"choices":[{"message":{"content":"cut o', "bad_response", ""),
        (UNTIL_CLOSED + b'{"error":{"message":"no"}}', "provider_error", ""),
        (UNTIL_CLOSED + HI + b"data: " + b"x" * (2 << 20) + b"\n\n", "bad_response", "Hi"),
        (CHUNKED + chunked(HI), "truncated", "Hi"),
        (CHUNKED + chunked(HI) + b"zz\r\n", "bad_response", ""),
        (CHUNKED + chunked(HI)[:-9], "truncated", ""),
        (HEAD + b"Content-Length: 5000\r\n\r\n" + HI, "truncated", "Hi"),
        (HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\nnot gzip", "bad_response", ""),
        (HEAD.replace(b"200 OK", b"204 No Content") + b"\r\n", "bad_response", ""),
        (HEAD.replace(b"200 OK", b"500 No") + b"Content-Length: 9000\r\n\r\n{", "provider_error", ""),
    ],
)
async def test_what_no_decent_server_sends(call: Caller, raw: Raw, answer: bytes, kind: str, text: str) -> None:
    came, ended = await call((await raw(answer)).url)
    assert ended.error is not None
    assert (came, ended.error.kind) == (text, kind)


async def test_a_connection_lost_after_the_finish_reason_is_a_finished_answer(call: Caller, raw: Raw) -> None:
    text, ended = await call((await raw(CHUNKED + chunked(HI + event(finish="stop")))).url)
    assert (text, ended.finish_reason, ended.error) == ("Hi", "stop", None)


async def test_a_whole_answer_is_bounded(call: Caller, raw: Raw) -> None:
    async def answer(peer: Peer) -> None:
        await peer.send(UNTIL_CLOSED + b'{"x":"')
        for _ in range(400):
            await peer.send(b"x" * 65_536)

    _, ended = await call((await raw(answer)).url)
    assert ended.error is not None
    assert (ended.error.kind, "larger than" in ended.error.message) == ("bad_response", True)


@pytest.mark.parametrize(
    "url", ["simulated:", "", "ftp://host/v1", "http://", "http://[::1", "/v1", "http://h:99999/v1"]
)
async def test_base_urls_that_are_none(call: Caller, url: str) -> None:
    _, ended = await call(url)
    assert ended.error is not None
    assert ended.error.kind == "invalid_request"


async def test_a_request_that_json_cannot_carry(call: Caller, sim: SimulatedProvider) -> None:
    _, ended = await call(sim.url, request={"seed": 1 << 70})
    assert ended.error is not None
    assert (ended.error.kind, sim.calls) == ("invalid_request", [])


KEY = "my-key-1234567890"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD.replace(b"200 OK", b"401 No")
        + b"Connection: close\r\n\r\n"
        + b'{"error":{"message":"bad key my-key-1234567890"}}',
        UNTIL_CLOSED + b'data: {"error":{"message":"bad key my-key-1234567890, also hidden-99"}}\n\n',
        UNTIL_CLOSED + b'data: {"choices":"my-key-1234567890"}\n\n',
    ],
)
async def test_no_message_holds_a_secret(call: Caller, raw: Raw, answer: bytes) -> None:
    server = await raw(answer)
    provider = Provider(base_url=server.url, headers={"authorization-2": "Api-Key hidden-99"})
    _, ended = await call(server.url, api_key=KEY, provider=provider)
    assert ended.error is not None
    assert KEY not in repr(ended)
    assert "hidden-99" not in repr(ended)


@pytest.mark.parametrize("key", [KEY + "\r\nX: y", KEY + "\0"])
async def test_a_key_that_is_no_header_value(call: Caller, sim: SimulatedProvider, key: str) -> None:
    _, ended = await call(sim.url, api_key=key)
    assert ended.error is not None
    assert (ended.error.kind, KEY in repr(ended)) == ("invalid_request", False)
