"""What only a real broker has: a look-up by time, fetches that wake, and append times."""

import asyncio
import time
import uuid
from collections.abc import Iterator

import aiohttp
import openai
import pytest

from connectors.edge.app import EdgeConfig
from connectors.kafka import admin
from connectors.local.kafka import LocalKafka
from processors.events import Cancel, Joined, Left
from processors.identity import uuid7
from streams import topology
from tests.conftest import JARS, ROOT
from tests.connectors.edge.conftest import KEY, publish_basics
from tests.connectors.edge.double import Pipeline, settle
from tests.connectors.edge.running import RunningEdge
from tests.connectors.edge.test_catchup import begun, readers_of_the_log, texts
from tests.connectors.edge.test_sse import following, get, headers

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def real_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of its own: the double reads whatever is on it."""
    service = LocalKafka(tmp_path_factory.mktemp("kafka"), ROOT / "compose" / "kafka", JARS)
    bootstrap = service.start()
    admin.apply(bootstrap, topology.load().specs(), {})
    publish_basics(bootstrap)
    yield bootstrap
    service.stop()


@pytest.fixture(scope="module")
def real_pipeline(real_broker: str) -> Iterator[Pipeline]:
    double = Pipeline(real_broker)
    yield double
    double.close()


def started(bootstrap: str, redis_url: str, member: str, **options: float) -> RunningEdge:
    return RunningEdge(EdgeConfig(member, 0, 1, bootstrap, redis_url, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def real_edge(real_broker: str, real_pipeline: Pipeline, redis_url: str) -> Iterator[RunningEdge]:
    running = started(real_broker, redis_url, "edge-0")
    yield running
    running.close()


def test_an_answer_and_its_id_can_be_followed_and_cancelled(real_edge: RunningEdge, real_pipeline: Pipeline) -> None:
    with openai.OpenAI(base_url=f"{real_edge.url}/v1", api_key=KEY, max_retries=0) as client:
        answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "a|b"}])
        assert answer.choices[0].message.content == "ab"
        with following(real_edge, answer.id, "?from_seq=1") as events:
            assert [event["event"] for event in events] == ["tokens", "end"]
        stream = client.chat.completions.create(
            model="begins", messages=[{"role": "user", "content": "wait"}], stream=True
        )
        requested = real_pipeline.submitted("wait")
        assert next(iter(stream)).choices[0].delta.content == "some"
        began = time.monotonic()
        stream.close()
    real_pipeline.wait_about(requested.id, Left)
    assert time.monotonic() - began < 1.0
    assert requested.ended


def test_a_new_edge_finds_old_streams_by_time(
    real_broker: str, real_pipeline: Pipeline, redis_url: str, real_edge: RunningEdge
) -> None:
    old = real_pipeline.stream(uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]))
    old.opened()
    old.text("zero", "one")
    real_pipeline.flush()
    second = started(real_broker, redis_url, "edge-1", recent_s=0)
    try:
        began = time.monotonic()
        with following(second, old.id) as events:
            zero, *_ = next(events), next(events)
            assert time.monotonic() - began < 2
            settle(lambda: readers_of_the_log(second) == 0)
            old.text("two")
            assert texts(events, 1) == ["two"]
        real_pipeline.wait_about(old.id, Joined)
        old.end()
        real_pipeline.flush()
        third = get(second, old.id, last_event_id=zero["id"])
        assert third.text.count("event: ") == 3
        ahead = uuid7(time.time_ns() // 1_000_000 + 200_000, uuid.uuid4().bytes[:10])  # nothing of that time is there
        for unknown in (uuid7(time.time_ns() // 1_000_000, uuid.uuid4().bytes[:10]), ahead):
            began = time.monotonic()
            assert get(second, unknown).status_code == 404
            assert time.monotonic() - began < 2
        assert not real_pipeline.about(old.id, Cancel)
    finally:
        second.close()


@pytest.mark.parametrize(("recent_s", "from_the_log"), [(30, 0), (0, 128)], ids=["from memory", "the control"])
def test_readers_who_come_back_to_a_new_edge_find_their_streams_in_memory(
    real_broker: str, real_pipeline: Pipeline, redis_url: str, recent_s: float, from_the_log: int
) -> None:
    """128 at once, which is more than may read the log at a time: without what it reads back some are told `busy`."""
    streams = [begun(real_pipeline, "zero", "one") for _ in range(128)]
    new = started(real_broker, redis_url, "edge-2", recent_s=recent_s)

    async def resume(session: aiohttp.ClientSession, request_id: str) -> str:
        async with session.get(f"{new.url}/v1/streams/{request_id}?from_seq=1") as answer:
            return (await answer.content.readline()).decode() if answer.status == 200 else "busy"

    async def all_of_them() -> list[str]:
        async with aiohttp.ClientSession(headers=headers(), connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.gather(*[resume(session, stream.id) for stream in streams])

    try:
        answers = asyncio.run(all_of_them())
        begun_there = new.edge.catchup.begun
        assert begun_there + answers.count("busy") == from_the_log
        if not from_the_log:
            assert "busy" not in answers
    finally:
        new.close()
        for stream in streams:
            stream.end()
        real_pipeline.flush()
