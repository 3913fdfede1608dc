"""A reader that takes nothing is cut within the bounds; one that takes the same volume as it comes is not."""

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from processors.edge import slow
from processors.events import Left
from processors.identity import uuid7
from tests.connectors.edge.conftest import KEY
from tests.connectors.edge.double import Pipeline, Stream, settle
from tests.connectors.edge.running import RunningEdge

PIECE = "x" * 16_384
"""Small enough for the broker, large enough to fill what the kernel keeps for a connection."""
SLACK_S = 1.5
"""Looks come every 0.25 s, and this machine has other things to do."""
HTTP, SSE, WS = "http", "sse", "ws"


def connected(edge: RunningEdge) -> socket.socket:
    """A connection whose client side keeps little."""
    host, port = edge.url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect((host, int(port)))
    return client


@contextmanager
def opened(edge: RunningEdge, pipeline: Pipeline, kind: str) -> Iterator[tuple[Any, Stream]]:
    """A client of one kind that has seen the first record of a stream."""
    marker = uuid.uuid4().hex
    request = {"model": "manual", "stream": True, "messages": [{"role": "user", "content": marker}]}
    headers = {"authorization": f"Bearer {KEY}"}
    with ExitStack() as stack:
        client = stack.enter_context(closing(connected(edge)))
        if kind == WS:
            websocket = stack.enter_context(connect(edge.ws, sock=client, additional_headers=headers, max_queue=1))
            websocket.send(orjson.dumps({"type": "submit", "request": request}).decode())
            stream = first_text(pipeline, marker)
            assert "accepted" in str(websocket.recv(10))
            assert "first" in str(websocket.recv(10))
            yield websocket, stream
            with suppress(OSError):  # no closing handshake with a reader that does not read
                client.shutdown(socket.SHUT_RDWR)
            return
        body = orjson.dumps(request)
        client.sendall(head("POST /v1/chat/completions", f"content-length: {len(body)}\r\n") + body)
        stream = first_text(pipeline, marker)
        assert b"first" in client.recv(4096)
        if kind == SSE:
            reader = stack.enter_context(closing(connected(edge)))
            reader.sendall(head(f"GET /v1/streams/{stream.id}?from_seq=1"))
            assert b"200 OK" in reader.recv(4096)
            client.close()
            client = reader
        yield client, stream


def head(line: str, more: str = "") -> bytes:
    return f"{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{more}\r\n".encode()


def first_text(pipeline: Pipeline, marker: str) -> Stream:
    stream = pipeline.submitted(marker)
    stream.text("first")
    return stream


def feed(pipeline: Pipeline, stream: Stream, kibibytes: int) -> None:
    stream.text(*[PIECE] * (kibibytes * 1024 // len(PIECE)))
    pipeline.flush()


@pytest.mark.parametrize("kind", [HTTP, SSE, WS])
def test_who_falls_behind_by_too_much_is_cut(
    edge: RunningEdge, pipeline: Pipeline, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow, "BURST_S", 0.5)
    cuts = edge.edge.watch.cut
    with opened(edge, pipeline, kind) as (client, stream):
        began = time.monotonic()
        feed(pipeline, stream, 1024)
        settle(lambda: edge.edge.watch.cut > cuts)
        assert time.monotonic() - began < slow.BURST_S + SLACK_S
        pipeline.wait_about(stream.id, Left)
        if kind == WS:
            assert read_to_the_close(client) == 1013


@pytest.mark.parametrize("kind", [HTTP, SSE, WS])
def test_who_takes_nothing_is_cut_however_little_waits(
    edge: RunningEdge, pipeline: Pipeline, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow, "STALL_S", 0.5)
    monkeypatch.setattr(slow, "MOST_UNSENT", 1 << 40)
    cuts = edge.edge.watch.cut
    with opened(edge, pipeline, kind) as (_, stream):
        began = time.monotonic()
        feed(pipeline, stream, 512)
        settle(lambda: edge.edge.watch.cut > cuts)
        assert 0.4 < time.monotonic() - began < 0.5 + SLACK_S
        pipeline.wait_about(stream.id, Left)


@pytest.mark.parametrize("kind", [HTTP, SSE, WS])
def test_the_control_who_takes_what_comes_is_kept(edge: RunningEdge, pipeline: Pipeline, kind: str) -> None:
    """The same volume, in one burst: a burst is no slowness of its reader."""
    cuts = edge.edge.watch.cut
    with opened(edge, pipeline, kind) as (client, stream):
        feed(pipeline, stream, 1024)
        stream.end()
        received, tail = 0, b""
        while b'"type":"end"' not in tail and b"[DONE]" not in tail:
            piece = client.recv(10).encode() if kind == WS else client.recv(65536)
            received += len(piece)
            tail = tail[-20:] + piece
        assert received > 1 << 20
    assert edge.edge.watch.cut == cuts


def test_a_long_backlog_is_no_slowness(edge: RunningEdge, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 MiB that stood there before, read at a leisurely pace: there is progress, and nothing was missed."""
    monkeypatch.setattr(slow, "BURST_S", 0.3)
    stream = pipeline.stream(uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]))
    feed(pipeline, stream, 2048)
    settle(lambda: (known := edge.edge.hub.get(stream.id)) is not None and known.next_seq == stream.seq)
    cuts = edge.edge.watch.cut
    with closing(connected(edge)) as reader:
        reader.sendall(head(f"GET /v1/streams/{stream.id}"))
        received = 0
        until = time.monotonic() + slow.BURST_S + 0.7
        while time.monotonic() < until:
            received += len(reader.recv(16_384))
            time.sleep(0.01)
    assert received > slow.MOST_UNSENT
    assert edge.edge.watch.cut == cuts


def read_to_the_close(client: ClientConnection) -> int | None:
    """The code of the close frame behind everything that was sent before it."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(10)
    return client.close_code
