"""A plain HTTP client that goes has left, and the journal knows within a second; one that stays has not."""

import socket
import time
import uuid
from contextlib import closing

import orjson
import pytest

from processors.events import Left
from tests.connectors.edge.conftest import KEY
from tests.connectors.edge.double import Pipeline, Stream
from tests.connectors.edge.running import RunningEdge
from tests.connectors.edge.test_sse import following

WITHIN_S = 1.0
"""The contract's bound, the way through Kafka and back to the test included."""


def begin(edge: RunningEdge, marker: str, stream: bool) -> socket.socket:
    """A request on a bare connection."""
    host, port = edge.url.removeprefix("http://").split(":")
    body = orjson.dumps({"model": "manual", "stream": stream, "messages": [{"role": "user", "content": marker}]})
    connection = socket.create_connection((host, int(port)), timeout=5)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def wait_for_left(pipeline: Pipeline, stream: Stream) -> float:
    """Seconds until the journal has it."""
    began = time.monotonic()
    pipeline.wait_about(stream.id, Left)
    return time.monotonic() - began


@pytest.mark.parametrize("streamed", [False, True])
def test_before_the_first_byte(edge: RunningEdge, pipeline: Pipeline, streamed: bool) -> None:
    marker = uuid.uuid4().hex
    with closing(begin(edge, marker, streamed)):
        stream = pipeline.submitted(marker)
        time.sleep(0.3)  # the control: who stays has not left
        assert not pipeline.about(stream.id, Left)
    assert wait_for_left(pipeline, stream) < WITHIN_S


@pytest.mark.parametrize("flowing", [False, True])
def test_in_the_middle(edge: RunningEdge, pipeline: Pipeline, flowing: bool) -> None:
    marker = uuid.uuid4().hex
    with closing(begin(edge, marker, stream=True)) as connection:
        stream = pipeline.submitted(marker)
        stream.text("first")
        assert b"200 OK" in connection.recv(65536)
        time.sleep(0.2)
        assert not pipeline.about(stream.id, Left)
    if flowing:
        stream.text(*map(str, range(50)))
    assert wait_for_left(pipeline, stream) < WITHIN_S


def test_a_reset_is_a_leave(edge: RunningEdge, pipeline: Pipeline) -> None:
    marker = uuid.uuid4().hex
    connection = begin(edge, marker, stream=True)
    stream = pipeline.submitted(marker)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert wait_for_left(pipeline, stream) < WITHIN_S


def test_the_submitters_leave_is_not_told_while_someone_follows(edge: RunningEdge, pipeline: Pipeline) -> None:
    marker = uuid.uuid4().hex
    connection = begin(edge, marker, stream=True)
    stream = pipeline.submitted(marker)
    stream.opened()
    stream.text("first")
    with following(edge, stream.id) as events:
        next(events)
        connection.close()
        time.sleep(0.3)
        assert not pipeline.about(stream.id, Left)
    assert wait_for_left(pipeline, stream) < WITHIN_S


def test_a_client_that_got_its_answer_has_not_left(edge: RunningEdge, pipeline: Pipeline) -> None:
    marker, other = uuid.uuid4().hex, uuid.uuid4().hex
    with closing(begin(edge, marker, stream=True)) as connection:
        stream = pipeline.submitted(marker)
        stream.text("first")
        stream.end()
        received = b""
        while b"[DONE]" not in received:
            received += connection.recv(65536)
    begin(edge, other, stream=True).close()
    wait_for_left(pipeline, pipeline.submitted(other))
    assert not pipeline.about(stream.id, Left)
