"""Streams that are not in memory: begun before this edge, evicted, in another edge's partition, or gone."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from connectors.edge.app import EdgeConfig
from connectors.local.embedded import EmbeddedKafka
from processors.edge.cursor import cursor_tag, write_cursor
from processors.events import Cancel
from processors.identity import partition_of, uuid7
from tests.connectors.edge.conftest import OTHER_KEY, TOPICS, Start, publish_basics
from tests.connectors.edge.double import Pipeline, Stream, settle
from tests.connectors.edge.running import RunningEdge
from tests.connectors.edge.test_sse import following, get, headers


def id_in(*partitions: int) -> str:
    while True:
        drawn = uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10])
        if partition_of(drawn, 4) in partitions:
            return drawn


def begun(pipeline: Pipeline, *texts: str, partitions: tuple[int, ...] = (0, 1, 2, 3)) -> Stream:
    stream = pipeline.stream(id_in(*partitions))
    stream.opened()
    stream.text(*texts)
    pipeline.flush()
    return stream


def texts(events: Iterator[dict[str, Any]], count: int) -> list[str]:
    return [next(events)["data"]["text"] for _ in range(count)]


def readers_of_the_log(edge: RunningEdge) -> int:
    return len(edge.edge.catchup._tasks)


def test_a_stream_begun_before_the_edge_is_read_from_the_log_and_then_live(
    start_edge: Start, pipeline: Pipeline
) -> None:
    stream = begun(pipeline, "zero", "one")
    own = start_edge()
    with following(own, stream.id) as events:
        assert texts(events, 2) == ["zero", "one"]
        settle(lambda: readers_of_the_log(own) == 0)  # memory has taken over: nobody reads the log for it now
        stream.text("two")
        assert texts(events, 1) == ["two"]
        stream.end()
        assert next(events)["event"] == "end"
    assert own.edge.catchup.begun == 1


def test_a_stream_that_flows_while_it_is_caught_up_with_is_seen_whole(start_edge: Start, pipeline: Pipeline) -> None:
    stream = begun(pipeline, *map(str, range(200)))
    own = start_edge()
    stream.text(*map(str, range(200, 300)))
    with following(own, stream.id) as events:
        stream.text(*map(str, range(300, 400)))
        assert texts(events, 400) == list(map(str, range(400)))
        settle(lambda: readers_of_the_log(own) == 0)


def test_many_readers_come_back_to_a_new_edge_at_once(start_edge: Start, pipeline: Pipeline) -> None:
    streams = [begun(pipeline, "zero", "one") for _ in range(40)]
    own = start_edge()

    async def resume(session: aiohttp.ClientSession, stream: Stream) -> str:
        async with session.get(f"{own.url}/v1/streams/{stream.id}?from_seq=1") as answer:
            assert answer.status == 200
            return await answer.text()

    async def all_of_them() -> list[str]:
        async with aiohttp.ClientSession(headers=headers()) as session:
            waiting = [asyncio.create_task(resume(session, stream)) for stream in streams]
            for stream in streams:
                stream.text("two")
                stream.end()
            return await asyncio.gather(*waiting)

    for body in asyncio.run(all_of_them()):
        assert [body.count(f'"text":"{text}"') for text in ("zero", "one", "two")] == [0, 1, 1]
        assert body.count('"type":"end"') == 1


def test_what_memory_had_no_room_for_is_read_from_the_log(start_edge: Start, pipeline: Pipeline) -> None:
    own = start_edge(memory=4000)
    together = (0,)  # in one partition, so that they come in this order and the oldest are the ones dropped
    first = begun(pipeline, "zero", "one", partitions=together)
    first.end()
    live = begun(pipeline, *map(str, range(8)), partitions=together)
    for _ in range(5):
        begun(pipeline, *"abc", partitions=together).end()
    settle(lambda: own.edge.hub.buffers.trace(first.id) and (kept := own.edge.hub.get(live.id)) and not kept.items)
    with following(own, first.id, "?from_seq=1") as events:
        assert [event["event"] for event in events] == ["tokens", "end"]
    with following(own, live.id, "?from_seq=6") as events:
        assert texts(events, 2) == ["6", "7"]
        live.text("8")
        assert texts(events, 1) == ["8"]
    assert own.edge.catchup.begun == 2


def test_another_edges_stream_can_be_followed_resumed_and_cancelled_here(start_edge: Start, pipeline: Pipeline) -> None:
    own = start_edge(instance=1, instances=2)
    stream = begun(pipeline, "zero", "one", partitions=(0, 2))
    with following(own, stream.id) as events:
        zero = next(events)
        assert texts(events, 1) == ["one"]
        stream.text("two")
        assert texts(events, 1) == ["two"]
    with following(own, stream.id, last_event_id=zero["id"]) as events:
        assert texts(events, 2) == ["one", "two"]
    assert aiohttp_delete(own, stream.id) == 202
    pipeline.wait_about(stream.id, Cancel)
    assert get(own, id_in(0, 2)).status_code == 404
    assert get(own, stream.id, key=OTHER_KEY).status_code == 404


def test_another_edges_stream_may_be_waited_for(start_edge: Start, pipeline: Pipeline) -> None:
    own = start_edge(instance=1, instances=2)
    stream = pipeline.stream(id_in(0))

    async def both() -> str:
        async with aiohttp.ClientSession(headers=headers()) as session:
            waiting = asyncio.create_task(session.get(f"{own.url}/v1/streams/{stream.id}?wait_s=10"))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            stream.opened()
            stream.text("late")
            stream.end()
            return await (await waiting).text()

    assert '"text":"late"' in asyncio.run(both())


def test_repeats_in_the_log_are_not_delivered(start_edge: Start, pipeline: Pipeline) -> None:
    stream = begun(pipeline, "zero", "one", "two")
    stream.again()
    stream.opened()
    stream.text("zero", "one", "two", "three")
    stream.end()
    pipeline.flush()
    own = start_edge()
    with following(own, stream.id) as events:
        assert [event["data"]["seq"] for event in events] == [0, 1, 2, 3, 4]
    with following(own, stream.id, "?from_seq=2") as events:
        *_, last = events
    assert get(own, stream.id, last_event_id=last["id"]).status_code == 204


def test_a_cursor_that_points_elsewhere_is_refused(start_edge: Start, pipeline: Pipeline) -> None:
    stream = begun(pipeline, "zero")
    other = begun(pipeline, *"abcdef", partitions=(partition_of(stream.id, 4),))
    other.end()
    own = start_edge()
    with following(own, other.id) as events:
        offset = int(list(events)[-1]["id"].split(".")[1], 16)
    tag = cursor_tag(stream.id, "demo")
    for wrong in (offset, offset + 1_000_000):
        answer = get(own, stream.id, last_event_id=write_cursor(0, wrong, tag))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


def aiohttp_delete(edge: RunningEdge, request_id: str) -> int:
    async def delete() -> int:
        async with (
            aiohttp.ClientSession(headers=headers()) as session,
            session.delete(f"{edge.url}/v1/streams/{request_id}") as answer,
        ):
            return answer.status

    return asyncio.run(delete())


@pytest.fixture
def small_world(tmp_path: Any, redis_url: str) -> Iterator[tuple[Pipeline, Any]]:
    """A broker of its own, whose log (5 MiB a partition) can be overrun."""
    service = EmbeddedKafka(tmp_path, TOPICS)
    bootstrap = service.start()
    publish_basics(bootstrap)
    pipeline = Pipeline(bootstrap)
    edges: list[RunningEdge] = []

    def start() -> RunningEdge:
        edges.append(RunningEdge(EdgeConfig("edge-0", 0, 1, bootstrap, redis_url, embedded=True)))
        return edges[-1]

    yield pipeline, start
    for edge in edges:
        edge.close()
    pipeline.close()
    service.stop()


def test_what_the_log_no_longer_keeps_is_told_as_a_gap(small_world: tuple[Pipeline, Any]) -> None:
    pipeline, start = small_world
    stream = begun(pipeline, "zero", "one")
    gone = begun(pipeline, "only", partitions=(partition_of(stream.id, 4),))
    gone.end()
    for _ in range(8):  # one record a batch, for the broker drops whole batches
        stream.text("x" * 900_000)
        pipeline.flush()
    stream.text("newest")
    stream.end()
    pipeline.flush()
    own = start()
    with following(own, stream.id, last_event_id=write_cursor(0, 1, cursor_tag(stream.id, "demo"))) as events:
        gap = next(events)
        assert gap["event"] == "gap"
        oldest = gap["data"]["oldest_seq"]
        assert 1 < oldest < 10
        assert [event["data"]["seq"] for event in events] == list(range(oldest, 12))
    assert get(own, gone.id).status_code == 404
