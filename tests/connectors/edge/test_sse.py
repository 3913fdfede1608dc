"""`/v1/streams/{id}`: followed, resumed, refused, cancelled."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx2
import orjson
import pytest

from connectors.edge import sse
from processors.edge.cursor import cursor_tag, write_cursor
from processors.events import Cancel, Joined, Left
from processors.identity import uuid7
from tests.connectors.edge.conftest import KEY, OTHER_KEY, Start
from tests.connectors.edge.double import Pipeline, Stream
from tests.connectors.edge.running import RunningEdge


def fresh_id() -> str:
    return uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10])


def headers(key: str = KEY, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in more.items()}


@contextmanager
def following(edge: RunningEdge, request_id: str, query: str = "", **more: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, each as {id, event, data}; comments as {"comment": …}."""
    url = f"{edge.url}/v1/streams/{request_id}{query}"
    with httpx2.stream("GET", url, headers=headers(**more), timeout=10) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parse(answer.iter_lines())


def parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in lines:
        if not line:
            yield event
            event = {}
        else:
            name, _, value = line.partition(": ")
            event[name or "comment"] = orjson.loads(value) if name == "data" else value


def get(edge: RunningEdge, request_id: str, query: str = "", key: str = KEY, **more: str) -> httpx2.Response:
    return httpx2.get(f"{edge.url}/v1/streams/{request_id}{query}", headers=headers(key, **more), timeout=40)


@pytest.fixture
def stream(edge: RunningEdge, pipeline: Pipeline) -> Stream:
    """A live stream that came from a Kafka producer, known to the edge."""
    stream = pipeline.stream(fresh_id())
    stream.opened()
    stream.text("one", "two")
    with following(edge, stream.id, "?wait_s=10") as events:
        next(events)
    return stream


def test_a_stream_from_its_beginning_to_its_end(edge: RunningEdge, stream: Stream) -> None:
    with following(edge, stream.id) as events:
        assert next(events)["data"]["text"] == "one"
        assert next(events)["data"]["text"] == "two"
        stream.text("three")
        third = next(events)
        assert (third["event"], third["data"]["seq"], third["id"]) == ("tokens", 2, third["data"]["cursor"])
        stream.end()
        last = next(events)
        assert (last["event"], last["data"]["seq"], last["data"]["status"]) == ("end", 3, "completed")
        assert list(events) == []


def test_a_reader_begins_where_it_says(edge: RunningEdge, stream: Stream) -> None:
    with following(edge, stream.id, "?from_seq=1") as events:
        second = next(events)
    assert second["data"]["text"] == "two"
    stream.text("three")
    with following(edge, stream.id, "?from_seq=0", last_event_id=second["id"]) as events:
        assert next(events)["data"]["text"] == "three"


def test_after_the_end_there_is_nothing(edge: RunningEdge, stream: Stream) -> None:
    stream.end()
    with following(edge, stream.id) as events:
        *_, last = events
    assert get(edge, stream.id, last_event_id=last["id"]).status_code == 204
    assert get(edge, stream.id, "?from_seq=17").status_code == 204


def test_unknown_and_foreign_ids_look_alike(edge: RunningEdge, stream: Stream) -> None:
    began = time.monotonic()
    answers = [get(edge, fresh_id()), get(edge, "nonsense"), get(edge, stream.id, key=OTHER_KEY)]
    assert time.monotonic() - began < 3
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "not_found")


def test_a_foreign_id_is_waited_for_as_an_unknown_one(edge: RunningEdge, stream: Stream) -> None:
    for request_id, key in ((fresh_id(), KEY), (stream.id, OTHER_KEY)):
        began = time.monotonic()
        assert get(edge, request_id, "?wait_s=0.5", key).status_code == 404
        assert 0.4 < time.monotonic() - began < 3


def test_a_stream_may_be_waited_for(edge: RunningEdge, pipeline: Pipeline) -> None:
    stream = pipeline.stream(fresh_id())
    assert get(edge, stream.id).status_code == 404

    async def both() -> str:
        async with aiohttp.ClientSession(headers=headers()) as session:
            waiting = asyncio.create_task(session.get(f"{edge.url}/v1/streams/{stream.id}?wait_s=10"))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            stream.opened()
            stream.text("late")
            stream.end()
            answer = await waiting
            return await answer.text()

    assert '"text":"late"' in asyncio.run(both())


@pytest.mark.parametrize(
    ("query", "param"),
    [("?wait_s=31", "wait_s"), ("?wait_s=x", "wait_s"), ("?from_seq=-1", "from_seq"), ("?from_seq=1.5", "from_seq")],
)
def test_what_is_no_place_is_400(edge: RunningEdge, stream: Stream, query: str, param: str) -> None:
    answer = get(edge, stream.id, query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_an_unknown_parameter_is_never_dropped(edge: RunningEdge, stream: Stream) -> None:
    url = f"{edge.url}/v1/streams/{stream.id}"
    answers = [get(edge, stream.id, "?form_seq=1"), httpx2.delete(f"{url}?form_seq=1", headers=headers())]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unknown_parameter", "form_seq")


def test_a_cursor_must_be_the_streams_own(edge: RunningEdge, stream: Stream) -> None:
    foreign = write_cursor(0, 0, cursor_tag(fresh_id(), "demo"))
    for cursor in (foreign, "nonsense"):
        answer = get(edge, stream.id, last_event_id=cursor)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


def test_a_key_is_needed(edge: RunningEdge, stream: Stream) -> None:
    assert httpx2.get(f"{edge.url}/v1/streams/{stream.id}").status_code == 401
    assert httpx2.delete(f"{edge.url}/v1/streams/{stream.id}").status_code == 401


def test_heartbeats(edge: RunningEdge, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_S", 0.05)
    with following(edge, stream.id, "?from_seq=2") as events:
        assert [next(events), next(events)] == [{"comment": "hb"}] * 2
        stream.text("three")
        assert next(event for event in events if "data" in event)["data"]["text"] == "three"


def test_the_journal_is_told_of_the_first_reader_and_of_the_last(edge: RunningEdge, pipeline: Pipeline) -> None:
    stream = pipeline.stream(fresh_id())
    stream.opened()
    stream.text("one")
    with following(edge, stream.id, "?wait_s=10") as first:
        next(first)
        (joined,) = pipeline.wait_about(stream.id, Joined)
        with following(edge, stream.id) as second:
            next(second)
        with following(edge, stream.id) as third:
            next(third)
        assert not pipeline.about(stream.id, Left)
    (left,) = pipeline.wait_about(stream.id, Left)
    assert len(pipeline.about(stream.id, Joined)) == 1
    assert left.edge == joined.edge
    assert (left.tenant, left.edge.instance) == ("demo", "edge-0")


def test_no_leave_is_told_of_a_stream_that_has_ended(edge: RunningEdge, pipeline: Pipeline, stream: Stream) -> None:
    before = len(pipeline.wait_about(stream.id, Left))
    stream.end()
    with following(edge, stream.id) as events:
        assert list(events)[-1]["event"] == "end"
    stream.again()  # something later to wait for
    other = pipeline.stream(fresh_id())
    other.opened()
    other.text("x")
    with following(edge, other.id, "?wait_s=10") as events:
        next(events)
    pipeline.wait_about(other.id, Left)
    assert len(pipeline.about(stream.id, Left)) == before


def test_delete_cancels(edge: RunningEdge, pipeline: Pipeline, stream: Stream) -> None:
    with following(edge, stream.id, "?from_seq=2") as events:
        answer = httpx2.delete(f"{edge.url}/v1/streams/{stream.id}", headers=headers())
        assert (answer.status_code, answer.json()["id"]) == (202, stream.id)
        last = next(events)
    assert (last["event"], last["data"]["status"]) == ("end", "cancelled")
    (cancel,) = pipeline.about(stream.id, Cancel)
    assert (cancel.tenant, cancel.by) == ("demo", "client")


def test_only_the_tenant_may_cancel(edge: RunningEdge, pipeline: Pipeline, stream: Stream) -> None:
    url = f"{edge.url}/v1/streams/"
    for request_id, key in ((stream.id, OTHER_KEY), (fresh_id(), KEY), ("nonsense", KEY)):
        assert httpx2.delete(url + request_id, headers=headers(key)).status_code == 404
    assert not pipeline.about(stream.id, Cancel)


def test_a_hole_is_told(edge: RunningEdge, pipeline: Pipeline) -> None:
    stream = pipeline.stream(fresh_id())
    stream.opened()
    stream.text("zero")
    with following(edge, stream.id, "?wait_s=10") as events:
        next(events)
        stream.seq = 5
        stream.text("five")
        gap, five = next(events), next(events)
    assert (gap["event"], gap["data"]["oldest_seq"]) == ("gap", 5)
    assert (five["data"]["seq"], five["data"]["text"]) == (5, "five")


def test_a_stopping_server_says_so(start_edge: Start, pipeline: Pipeline) -> None:
    own = start_edge()
    stream = pipeline.stream(fresh_id())
    stream.opened()
    stream.text("one")
    with following(own, stream.id, "?wait_s=10") as events:
        next(events)
        own.close()
        error = next(events)
        assert (error["event"], error["data"]["code"]) == ("error", "shutting_down")
    pipeline.wait_about(stream.id, Left)
