"""`WS /v1/ws` with the `websockets` client: who may, what is answered, many streams on one socket."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from connectors.edge import server, session, ws
from connectors.kafka.keys import publish_key, revoke_key
from processors.events import Cancel, Joined, Left
from processors.identity import uuid7
from tests.connectors.edge.conftest import KEY, LOST_KEY, OTHER_KEY, Start
from tests.connectors.edge.double import Pipeline, Stream
from tests.connectors.edge.running import RunningEdge


class Socket:
    """A client that speaks frames as objects."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, **frame: Any) -> None:
        self.connection.send(orjson.dumps(frame).decode())

    def hear(self, within_s: float = 10.0) -> dict[str, Any]:
        frame: dict[str, Any] = orjson.loads(self.connection.recv(within_s))
        return frame

    def ask(self, **frame: Any) -> dict[str, Any]:
        self.say(**frame)
        return self.hear()

    def submit(self, content: str = "hello| world", model: str = "echo", **more: Any) -> str:
        request = {"model": model, "messages": [{"role": "user", "content": content}]}
        frame = self.ask(type="submit", ref=content, request=request, **more)
        assert (frame["type"], frame["ref"]) == ("accepted", content), frame
        request_id: str = frame["id"]
        return request_id

    def closed_with(self) -> int | None:
        """The code with which the server closes."""
        with pytest.raises(ConnectionClosed):
            self.connection.recv(10)
        return self.connection.close_code


def opened(edge: RunningEdge, key: str = KEY) -> ClientConnection:
    return connect(edge.ws, additional_headers={"authorization": f"Bearer {key}"})


@pytest.fixture
def socket(edge: RunningEdge) -> Iterator[Socket]:
    with opened(edge) as connection:
        yield Socket(connection)


def kafka_stream(pipeline: Pipeline, *texts: str) -> Stream:
    stream = pipeline.stream(uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]))
    stream.opened()
    stream.text(*texts)
    return stream


def test_submit(socket: Socket) -> None:
    request_id = socket.submit()
    frames = [socket.hear() for _ in range(3)]
    assert [frame.get("text") for frame in frames] == ["hello", " world", None]
    assert [frame["seq"] for frame in frames] == [0, 1, 2]
    assert {frame["id"] for frame in frames} == {request_id}
    end = frames[-1]
    assert (end["type"], end["status"], end["reason"]) == ("end", "completed", "stop")
    assert end["usage"]["source"] == "provider"
    assert end["cost"] == {"micros": 420, "currency": "RUB", "prices": "v"}


def test_many_streams_on_one_socket(socket: Socket) -> None:
    for number in range(50):
        request = {"model": "echo", "messages": [{"role": "user", "content": f"{number}|!"}]}
        socket.say(type="submit", ref=number, request=request)
    refs: dict[str, int] = {}
    texts: dict[str, str] = {}
    ended = 0
    while ended < 50:
        frame = socket.hear()
        if frame["type"] == "accepted":
            refs[frame["id"]] = frame["ref"]
        elif frame["type"] == "tokens":
            assert frame["id"] in refs, "tokens came before the request was accepted"
            texts[frame["id"]] = texts.get(frame["id"], "") + frame["text"]
        else:
            ended += 1
    assert {refs[request_id]: text for request_id, text in texts.items()} == {n: f"{n}!" for n in range(50)}


def test_the_key_as_a_subprotocol(edge: RunningEdge) -> None:
    with connect(edge.ws, subprotocols=["sluice", f"sluice-key.{KEY}"]) as connection:  # type: ignore[list-item]
        assert connection.subprotocol == "sluice"
        Socket(connection).submit()
    with connect(edge.ws, subprotocols=[f"sluice-key.{KEY}"]) as connection:  # type: ignore[list-item]
        assert connection.subprotocol is None
        Socket(connection).submit()


def test_the_key_as_the_first_frame(edge: RunningEdge) -> None:
    with connect(edge.ws) as connection:
        socket = Socket(connection)
        socket.say(type="auth", key=KEY)
        socket.submit()


@pytest.mark.parametrize("frame", [{"type": "auth", "key": "nobody"}, {"type": "submit"}, {"type": "auth"}, 3])
def test_a_bad_first_frame_closes(edge: RunningEdge, frame: Any) -> None:
    with connect(edge.ws) as connection:
        socket = Socket(connection)
        connection.send(orjson.dumps(frame).decode())
        assert socket.hear()["code"] == "invalid_api_key"
        assert socket.closed_with() == 1008


def test_no_first_frame_closes(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "AUTH_S", 0.1)
    with connect(edge.ws) as connection:
        socket = Socket(connection)
        assert socket.hear()["code"] == "invalid_api_key"
        assert socket.closed_with() == 1008


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"authorization": "Bearer nobody"}, 401), ({"authorization": f"Bearer {LOST_KEY}"}, 403)],
)
def test_a_bad_key_is_refused_in_the_handshake(edge: RunningEdge, headers: dict[str, str], status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(edge.ws, additional_headers=headers)
    assert caught.value.response.status_code == status
    assert orjson.loads(caught.value.response.body or b"")["error"]["code"]


def test_too_many_strangers_are_refused(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws, "MOST_STRANGERS", 1)
    with connect(edge.ws), pytest.raises(InvalidStatus) as caught:
        connect(edge.ws)
    assert caught.value.response.status_code == 503


def test_whatever_is_wrong_the_socket_stays_open(socket: Socket) -> None:
    for text, code in (("{", "invalid_json"), ("[]", "invalid_frame"), ("{}", "unknown_type")):
        socket.connection.send(text)
        assert socket.hear()["code"] == code
    socket.connection.send(b"\x00binary")
    assert socket.hear()["code"] == "invalid_frame"
    unknown = socket.ask(type="session.update", ref=7)
    assert (unknown["type"], unknown["code"], unknown["param"], unknown["ref"]) == ("error", "unknown_type", "type", 7)
    assert socket.ask(type={"a": 1})["code"] == "unknown_type"
    socket.submit()


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (None, None),
        ({"model": "echo", "messages": []}, "messages"),
        ({"model": "nothing", "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "echo", "messages": [{"role": "user", "content": "x"}], "on_disconnect": "cancel"}, "on_disconnect"),
    ],
)
def test_a_wrong_request_is_answered_by_its_ref(socket: Socket, request_: Any, param: str | None) -> None:
    error = socket.ask(type="submit", ref="r", request=request_)
    assert (error["type"], error["ref"], error.get("param")) == ("error", "r", param)


def test_a_wrong_frame_names_its_field(socket: Socket) -> None:
    wrong = [
        ({"type": "submit", "request": {}, "on_disconnect": "wait"}, "on_disconnect"),
        ({"type": "follow"}, "id"),
        ({"type": "cancel", "id": 3}, "id"),
        ({"type": "unfollow", "id": "x"}, "id"),
        ({"type": "follow", "id": "x", "from_seq": "y"}, "from_seq"),
        ({"type": "follow", "id": "x", "wait_s": 31}, "wait_s"),
        ({"type": "follow", "id": "x", "cursor": "y"}, "cursor"),
    ]
    for frame, param in wrong:
        error = socket.ask(**frame)
        assert (error["type"], error["param"]) == ("error", param)


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ({"type": "submit", "request": {}, "foo": 1}, "foo"),
        ({"type": "follow", "id": "x", "form_seq": 3}, "form_seq"),
        ({"type": "unfollow", "id": "x", "cursor": "y"}, "cursor"),
        ({"type": "cancel", "id": "x", "reason": "y"}, "reason"),
    ],
)
def test_an_unknown_field_is_never_dropped(socket: Socket, frame: dict[str, Any], param: str) -> None:
    error = socket.ask(**frame, ref=7)
    assert (error["type"], error["code"], error["param"], error["ref"]) == ("error", "unknown_parameter", param, 7)
    assert param in error["message"]
    socket.submit()


def test_an_unknown_field_beside_the_key_closes(edge: RunningEdge) -> None:
    with connect(edge.ws) as connection:
        socket = Socket(connection)
        assert socket.ask(type="auth", key=KEY, tenant="demo")["param"] == "tenant"
        assert socket.closed_with() == 1008


def test_follow_from_a_cursor_and_from_a_seq(socket: Socket, pipeline: Pipeline) -> None:
    stream = kafka_stream(pipeline, "zero", "one", "two")
    socket.say(type="follow", id=stream.id, wait_s=10)
    frames = [socket.hear() for _ in range(3)]
    assert [frame["text"] for frame in frames] == ["zero", "one", "two"]
    assert socket.ask(type="follow", id=stream.id)["code"] == "already_followed"
    for place in ({"from_seq": 2}, {"cursor": frames[1]["cursor"]}, {"cursor": frames[1]["cursor"], "from_seq": 0}):
        socket.say(type="unfollow", id=stream.id)
        assert socket.ask(type="follow", id=stream.id, **place)["text"] == "two"
    stream.end()
    assert socket.hear()["type"] == "end"
    assert socket.ask(type="follow", id=stream.id, from_seq=9)["code"] == "stream_over"


def test_unknown_and_foreign_streams_look_alike(edge: RunningEdge, socket: Socket, pipeline: Pipeline) -> None:
    stream = kafka_stream(pipeline, "zero")
    assert socket.ask(type="follow", id=stream.id, wait_s=10)["text"] == "zero"
    unknown = str(uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]))
    with opened(edge, OTHER_KEY) as connection:
        other = Socket(connection)
        for kind in ("follow", "cancel"):
            for request_id in (unknown, stream.id):
                error = other.ask(type=kind, id=request_id)
                assert (error["code"], error["id"]) == ("not_found", request_id)
    assert not pipeline.about(stream.id, Cancel)


def test_unfollow_is_silence(socket: Socket, pipeline: Pipeline) -> None:
    stream = kafka_stream(pipeline, "zero")
    assert socket.ask(type="follow", id=stream.id, wait_s=10)["text"] == "zero"
    socket.say(type="unfollow", id=stream.id)
    pipeline.wait_about(stream.id, Left)
    stream.text("one")
    socket.submit("only|this")
    assert [socket.hear()["text"] for _ in range(2)] == ["only", "this"]


def test_a_wait_can_be_given_up(socket: Socket, pipeline: Pipeline) -> None:
    stream = pipeline.stream(uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]))
    socket.say(type="follow", id=stream.id, wait_s=30)
    socket.say(type="unfollow", id=stream.id)
    stream.opened()
    stream.text("zero")
    socket.submit("a")
    assert socket.hear()["text"] == "a"
    assert not pipeline.about(stream.id, Joined)


def test_cancel(socket: Socket, pipeline: Pipeline) -> None:
    request_id = socket.submit("c", model="manual")
    socket.say(type="cancel", id=request_id)
    end = socket.hear()
    assert (end["type"], end["status"], end["reason"]) == ("end", "cancelled", "client")
    assert len(pipeline.about(request_id, Cancel)) == 1


def test_a_full_socket_takes_no_stream_more_but_cancels(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_STREAMS", 2)
    first, _ = socket.submit(model="manual"), socket.submit(model="manual")
    request = {"model": "manual", "messages": [{"role": "user", "content": "x"}]}
    assert socket.ask(type="submit", ref="r", request=request)["code"] == "too_many_streams"
    another = first[:-1] + ("1" if first.endswith("0") else "0")
    assert socket.ask(type="follow", id=another, wait_s=1)["code"] == "too_many_streams"
    end = socket.ask(type="cancel", id=first)
    assert (end["type"], end["id"], end["status"]) == ("end", first, "cancelled")


def test_too_many_frames_at_once_are_told_so(
    socket: Socket, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MOST_PENDING", 1)
    unknown = [uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]) for _ in range(2)]
    socket.say(type="follow", id=unknown[0], wait_s=1)
    assert socket.ask(type="follow", id=unknown[1], wait_s=1)["code"] == "too_many_frames"
    assert socket.hear()["code"] == "not_found"
    assert socket.ask(type="follow", id=unknown[1])["code"] == "not_found"


def test_two_readers_see_the_same(edge: RunningEdge, socket: Socket, pipeline: Pipeline) -> None:
    request_id = socket.submit(uuid.uuid4().hex, model="manual")
    stream = pipeline.wait(lambda: pipeline.streams.get(request_id))
    with opened(edge) as connection:
        second = Socket(connection)
        second.say(type="follow", id=request_id)
        stream.text("a", "b")
        stream.end()
        assert [second.hear() for _ in range(3)] == [socket.hear() for _ in range(3)]
    assert not pipeline.about(request_id, Joined), "the submitter counts as joined, so there was no first reader"


@pytest.mark.parametrize("on_disconnect", ["continue", "cancel"])
def test_leaving_a_submitted_stream(edge: RunningEdge, pipeline: Pipeline, on_disconnect: str) -> None:
    with opened(edge) as connection:
        socket = Socket(connection)
        request_id = socket.submit(uuid.uuid4().hex, model="manual", on_disconnect=on_disconnect)
        pipeline.wait(lambda: request_id in pipeline.requests)
        assert pipeline.requests[request_id]["on_disconnect"] == on_disconnect
        assert not pipeline.about(request_id, Left)
    pipeline.wait_about(request_id, Left)
    stream = pipeline.streams[request_id]
    assert stream.ended == (on_disconnect == "cancel")


def test_a_socket_may_be_left_and_the_stream_resumed(edge: RunningEdge, pipeline: Pipeline) -> None:
    with opened(edge) as connection:
        socket = Socket(connection)
        request_id = socket.submit(uuid.uuid4().hex, model="manual")
        stream = pipeline.wait(lambda: pipeline.streams.get(request_id))
        stream.text("a", "b")
        cursor = [socket.hear() for _ in range(2)][-1]["cursor"]
    pipeline.wait_about(request_id, Left)
    stream.text("c")
    with opened(edge) as connection:
        socket = Socket(connection)
        assert socket.ask(type="follow", id=request_id, cursor=cursor)["text"] == "c"
        pipeline.wait_about(request_id, Joined)
        stream.end()
        assert socket.hear()["type"] == "end"


def test_an_accepted_request_can_be_resumed_although_nothing_is_known_of_it_yet(
    edge: RunningEdge, pipeline: Pipeline
) -> None:
    """Admission is slow: the id was accepted here, so it is no unknown one."""
    with opened(edge) as connection:
        request_id = Socket(connection).submit(uuid.uuid4().hex, model="manual")
    pipeline.wait_about(request_id, Left)
    with opened(edge) as connection, opened(edge, OTHER_KEY) as foreign:
        assert Socket(foreign).ask(type="follow", id=request_id)["code"] == "not_found"
        socket = Socket(connection)
        socket.say(type="follow", id=request_id)
        pipeline.wait_about(request_id, Joined)
        stream = pipeline.streams[request_id]
        stream.opened()
        stream.text("late")
        assert socket.hear()["text"] == "late"


def test_a_revoked_key_closes_its_sockets_within_a_second(edge: RunningEdge, broker: str) -> None:
    key = f"sk-sluice-{uuid.uuid4().hex}"
    publish_key(broker, key, "demo", key[-8:])
    deadline = time.monotonic() + 5
    while True:  # an edge knows a fresh key within a second, too
        try:
            connection = opened(edge, key)
            break
        except InvalidStatus:
            assert time.monotonic() < deadline
    with connection, opened(edge) as control:
        Socket(connection).submit()
        revoke_key(broker, key[-8:])
        began = time.monotonic()
        assert Socket(connection).connection.recv(5)
        while True:
            try:
                connection.recv(5)
            except ConnectionClosed:
                break
        assert connection.close_code == 1008
        assert time.monotonic() - began < 1.0
        with pytest.raises(InvalidStatus):
            opened(edge, key)
        Socket(control).submit()


def test_a_stopping_server_closes_with_going_away(start_edge: Start, pipeline: Pipeline) -> None:
    own = start_edge()
    with opened(own) as connection:
        socket = Socket(connection)
        request_id = socket.submit(uuid.uuid4().hex, model="manual")
        own.close()
        assert socket.hear()["code"] == "shutting_down"
        assert socket.closed_with() == 1012
    pipeline.wait_about(request_id, Left)


def test_a_peer_that_answers_no_ping_is_gone(
    start_edge: Start, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two missed heartbeats, and the control, a client that answers them, stays."""
    monkeypatch.setattr(server, "PING_S", 0.2)
    own = start_edge()
    with opened(own) as silent, opened(own) as control:
        request_id = Socket(silent).submit(uuid.uuid4().hex, model="manual")
        stays = Socket(control).submit(uuid.uuid4().hex, model="manual")
        silent.socket.setblocking(True)
        monkeypatch.setattr(silent.protocol, "receive_data", lambda data: None)  # from now on it is deaf
        began = time.monotonic()
        pipeline.wait_about(request_id, Left)
        assert 0.2 < time.monotonic() - began < 2
        assert not pipeline.about(stays, Left)
        pipeline.streams[stays].end()
        assert Socket(control).hear()["type"] == "end"
        monkeypatch.undo()
