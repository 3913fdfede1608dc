"""How providers fare gets into topic `health`, counts each attempt once, and outlives a kill -9."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from connectors.kafka import admin
from connectors.kafka.table import CompactedTable
from connectors.kafka.writer import Writer
from connectors.local.embedded import EmbeddedKafka
from processors.codec import encode
from processors.errors import Invalid
from processors.events import Answer, Cost, Health, Outcome, RunError, Target, Usage
from processors.health import CACHE, WINDOW_S, is_bad, key_of
from processors.identity import uuid7
from streams import topology
from streams.health import main
from streams.runtime import Context
from streams.settings import Settings
from tests.streams.stage_process import StageProcess, bury_table, running, unread, until
from tests.streams.test_fill import answer, kept, publish

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(kafka: str) -> str:
    topics = topology.load()
    admin.apply(kafka, topics.specs(), topics.groups())
    return kafka


@pytest.fixture
def provider() -> str:
    """A name that no other test has used: the topics are shared."""
    return f"provider-{uuid4()}"


def outcome(provider: str, failed: bool = False) -> Outcome:
    return Outcome(
        id=uuid7(int(time.time() * 1000), os.urandom(10)),
        tenant="demo",
        attempt=1,
        run="run",
        policy="v1",
        body_hash="b",
        model="assistant",
        target=Target(provider, "story"),
        status="failed" if failed else "completed",
        error=RunError("provider_error", "503") if failed else None,
        usage=None if failed else Usage(10, 20),
        cost=Cost() if failed else Cost(7, "RUB", "v1"),
        first_token_ms=None if failed else 30.0,
    )


def attempts(broker: str, provider: str, good: int = 0, failed: int = 0) -> None:
    """Publish outcomes, the first with a bad record in front of it."""
    writer = Writer(broker, "test")
    for number in range(good + failed):
        item = outcome(provider, failed=number >= good)
        if number == 0:
            writer.send("outcomes", item.id, b"{")
        writer.send("outcomes", item.id, encode(item))
    writer.flush()


class Board:
    """Topic `health` as admission sees it, and how often a key was told."""

    def __init__(self, broker: str) -> None:
        self.times: dict[str, list[float]] = {}
        self._table = CompactedTable(broker, "health", on_change=self._note)
        self._table.wait_current()
        self.close = self._table.close

    def of(self, provider: str, tenant: str = "", model: str = "story") -> Health:
        nothing = Health(provider, "story", WINDOW_S, datetime.now(UTC))
        return self._table.get(key_of(provider, model, tenant)) or nothing

    def _note(self, key: str, _: object) -> None:
        self.times.setdefault(key, []).append(time.monotonic())


@contextmanager
def watching(broker: str) -> Iterator[Board]:
    board = Board(broker)
    yield board
    board.close()


def test_windows_are_published_and_restored_after_kill_9(broker: str, provider: str, tmp_path: Path) -> None:
    with watching(broker) as board:
        with running(StageProcess("health", tmp_path, broker)) as stage:
            attempts(broker, provider, good=8, failed=12)
            until(lambda: board.of(provider).attempts == 20)
            for tenant in ("", "demo"):
                told = board.of(provider, tenant)
                assert (told.failures, told.first_token_ms, told.window_s) == (12, 30.0, WINDOW_S)
                assert (told.input_tokens, told.output_tokens) == (80, 160)
                assert (told.cost_micros, told.currency) == (56, "RUB")
            assert is_bad(board.of(provider), datetime.now(UTC))
            stage.kill()  # most likely before it has committed: what it has counted comes again

        with running(StageProcess("health", tmp_path, broker)) as stage:
            attempts(broker, provider, good=1)
            until(lambda: board.of(provider).attempts > 20)
            until(lambda: unread(broker, "health", "outcomes") == 0)
            assert board.of(provider).attempts == 21, "it has gone on, and counted nothing twice"
            code, seconds = stage.terminate()
            assert (code, seconds < 2.0) == (0, True), stage.log
            assert "is bad: undecodable" in stage.log

        assert bury_table(broker, "health-windows-changelog") > 0
        with running(StageProcess("health", tmp_path, broker)):
            attempts(broker, provider, good=1)
            until(lambda: board.of(provider).attempts < 20)
            assert board.of(provider).attempts == 1, "control: it was the changelog that made it go on"
            told_once_a_second(broker, board, f"other-{provider}")


def told_once_a_second(broker: str, board: Board, provider: str) -> None:
    """A steady stream of outcomes, and an answer from the cache beside it."""
    hit = Answer(outcome(provider).id, "demo", provider, None, "stop", Usage(1, 2), Cost())
    writer = Writer(broker, "test")
    writer.send("answers", hit.id, encode(hit))
    begun, sent = time.monotonic(), 0
    while time.monotonic() - begun < 2.5:
        item = outcome(provider)
        writer.send("outcomes", item.id, encode(item))
        writer.flush()
        sent += 1
    until(lambda: board.of(provider).attempts == sent)
    until(lambda: board.of(CACHE, "demo", model=provider).output_tokens == 2)
    told = board.times[key_of(provider, "story")]
    assert 2 <= len(told) <= (told[-1] - begun) + 1


async def test_only_one_worker(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="SLUICE_INSTANCE: must be 0"):
        await main(Context("health", Settings(kafka="127.0.0.1:1", home=tmp_path, instance=1)))


def test_both_faust_stages_on_the_embedded_broker(redis_url: str, provider: str, tmp_path: Path) -> None:
    topics = topology.load()
    embedded = EmbeddedKafka(tmp_path / "kafka", {spec.name: spec.partitions for spec in topics.specs()})
    broker = embedded.start()
    fill, health = StageProcess("fill", tmp_path, broker, redis_url), StageProcess("health", tmp_path, broker)
    try:
        admin.apply(broker, topics.specs(), topics.groups(), embedded=True)
        fill.launch()
        with watching(broker) as board, running(health):
            fill.ready()
            item = answer(1)
            publish(broker, item)
            attempts(broker, provider, good=5)
            until(lambda: kept(redis_url, item) and board.of(provider).attempts == 5)
            assert (health.terminate()[0], fill.terminate()[0]) == (0, 0)
    finally:
        fill.kill()
        embedded.stop()
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
