"""The edge as the process that `sluice run edge` is: ready, drained, and never in the way of a stop."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from connectors.local.embedded import EmbeddedKafka
from connectors.local.process import free_port
from processors.events import Left
from tests.connectors.edge.conftest import KEY, TOPICS, publish_basics
from tests.connectors.edge.double import Pipeline, settle

PROGRAM = """
import uvloop
{before}
from streams.edge import main
from streams.runtime import Context, set_up_logging
from streams.settings import load_settings
set_up_logging("edge")
uvloop.run(main(Context("edge", load_settings())))
"""
HEADERS = {"authorization": f"Bearer {KEY}"}
STOP_S = 6.0


class EdgeProcess:
    """One process, and what it announced."""

    def __init__(self, home: Path, kafka: str, redis: str, before: str = "", port: int = 0) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        environment |= {
            "SLUICE_KAFKA": kafka, "SLUICE_REDIS": redis, "SLUICE_HOME": str(home),
            "SLUICE_PORT": str(port), "SLUICE_EMBEDDED": "1",
        }  # fmt: skip
        self.log = (home / "edge.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(before=before)], env=environment, stdout=self.log, stderr=self.log
        )
        self.note = home / "run" / "edge-0.json"

    def ready(self) -> dict[str, Any]:
        until = time.monotonic() + 20
        while not self.note.exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)
        facts: dict[str, Any] = json.loads(self.note.read_bytes())
        assert facts["pid"] == self.process.pid
        return facts

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(10)
        return code, time.monotonic() - began

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    service = EmbeddedKafka(tmp_path_factory.mktemp("embedded"), TOPICS)
    publish_basics(service.start())
    yield service
    service.stop()


@pytest.fixture(scope="module")
def pipeline(service: EmbeddedKafka) -> Iterator[Pipeline]:
    double = Pipeline(service.bootstrap)
    yield double
    double.close()


Start = Callable[..., EdgeProcess]


@pytest.fixture
def start(service: EmbeddedKafka, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    started: list[EdgeProcess] = []

    def begin(kafka: str = service.bootstrap, before: str = "", port: int = 0) -> EdgeProcess:
        started.append(EdgeProcess(tmp_path, kafka, redis_url, before, port))
        return started[-1]

    yield begin
    for process in started:
        process.close()


def ask(url: str, content: str, model: str = "echo", **more: Any) -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]} | more
    return httpx2.post(f"{url}/v1/chat/completions", json=body, headers=HEADERS, timeout=20)


class Asking(threading.Thread):
    """A request in the background."""

    def __init__(self, url: str, content: str, **more: Any) -> None:
        super().__init__()
        self._arguments = (url, content, "manual")
        self._more = more
        self.answer: httpx2.Response
        self.start()

    def run(self) -> None:
        self.answer = ask(*self._arguments, **self._more)


def test_it_announces_itself_serves_and_stops_at_once_when_idle(start: Start, pipeline: Pipeline) -> None:
    process = start(before="from connectors.edge.app import Edge; Edge.drain.__defaults__ = (30.0,)")
    facts = process.ready()
    assert ask(facts["url"], "a|b").json()["choices"][0]["message"]["content"] == "ab"
    assert "sluice_edge_submitted_total 1.0" in httpx2.get(facts["metrics"]).text
    with connect(facts["url"].replace("http", "ws") + "/v1/ws", additional_headers=HEADERS):
        code, took = process.stop(signal.SIGINT)
    assert (code, took < 4.0) == (0, True), process.said()  # a drain would wait 30 s for open streams
    assert KEY not in process.said()


def test_it_delivers_the_ends_of_open_streams(start: Start, pipeline: Pipeline) -> None:
    process = start()
    url = process.ready()["url"]
    marker = uuid.uuid4().hex
    asking = Asking(url, marker, stream=True)
    stream = pipeline.submitted(marker)
    stream.text("before")
    process.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert ask(url, "too late").status_code == 503
    assert httpx2.get(f"{url}/readyz").json()["missing"] == ["running"]
    stream.text(" after")
    stream.end("failed", "shutdown", "the server stops")
    code, _ = process.stop()
    asking.join()
    assert code == 0, process.said()
    assert b"before" in asking.answer.content
    assert b" after" in asking.answer.content
    assert b'data: {"error":' in asking.answer.content
    assert not pipeline.about(stream.id, Left)


def test_a_stream_that_does_not_end_is_told_and_left(start: Start, pipeline: Pipeline) -> None:
    process = start()
    url = process.ready()["url"]
    silent, begun = uuid.uuid4().hex, uuid.uuid4().hex
    whole, streamed = Asking(url, silent), Asking(url, begun, stream=True)
    pipeline.submitted(begun).text("some")
    streams = [pipeline.submitted(silent), pipeline.submitted(begun)]
    time.sleep(0.1)
    code, took = process.stop(signal.SIGINT)
    whole.join()
    streamed.join()
    assert (code, took < STOP_S) == (0, True), process.said()
    assert (whole.answer.status_code, whole.answer.json()["error"]["code"]) == (503, "shutting_down")
    assert streamed.answer.status_code == 200
    assert b'"code":"shutting_down"' in streamed.answer.content
    for stream in streams:
        pipeline.wait_about(stream.id, Left)


def test_whoever_reads_goes_on_until_a_successor_works(start: Start, pipeline: Pipeline) -> None:
    port = free_port()
    first = start(port=port)
    url, marker = first.ready()["url"], uuid.uuid4().hex
    asking = Asking(url, marker, stream=True)
    stream = pipeline.submitted(marker)
    stream.text("before")
    with httpx2.Client(headers=HEADERS) as kept:
        assert kept.get(f"{url}/v1/models").status_code == 200
        first.process.send_signal(signal.SIGTERM)
        settle(lambda: b"draining" in first.note.read_bytes())
        late = kept.post(f"{url}/v1/chat/completions", json={"model": "echo", "messages": []})
    assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/healthz")
    first.note.unlink()  # as the supervisor does before it starts a successor
    second = start(port=port)
    assert second.ready()["url"] == url
    stream.text(" between")
    assert first.process.wait(10) == 0, first.said()
    asking.join()
    assert b"before" in asking.answer.content
    assert b" between" in asking.answer.content
    assert b'"code":"shutting_down"' in asking.answer.content
    assert httpx2.get(f"{url}/healthz").status_code == 200


def test_whoever_reads_is_left_where_no_successor_comes(start: Start, pipeline: Pipeline) -> None:
    process = start(before="import streams.edge; streams.edge.SUCCESSOR_S = 0.5")
    url, marker = process.ready()["url"], uuid.uuid4().hex
    asking = Asking(url, marker, stream=True)
    pipeline.submitted(marker).text("some")
    code, took = process.stop()
    asking.join()
    assert (code, took < STOP_S) == (0, True), process.said()
    assert b'"code":"shutting_down"' in asking.answer.content


def test_it_ends_with_an_error_when_a_part_of_it_dies(start: Start) -> None:
    before = """
from connectors.edge import hub
async def die(self):
    import asyncio
    await asyncio.sleep(0.2)
    raise RuntimeError("the part is dead")
hub.Hub.run = die
"""
    process = start(before=before)
    assert process.process.wait(20) not in (0, None)
    assert "the part is dead" in process.said()


def test_it_stops_while_it_still_looks_for_its_broker(start: Start) -> None:
    process = start(kafka="127.0.0.1:1")
    settle(lambda: "Connection refused" in process.said(), within_s=20)
    assert process.process.poll() is None, process.said()
    code, took = process.stop()
    assert (code, took < STOP_S) == (0, True)


def test_a_log_that_is_away_is_503_within_the_bound_and_does_not_hold_up_a_stop(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = EmbeddedKafka(tmp_path_factory.mktemp("own"), TOPICS)
    publish_basics(own.start())
    process = start(own.bootstrap, "from connectors.edge import publish; publish.ACK_S = 0.5")
    url = process.ready()["url"]
    own.kill()
    began = time.monotonic()
    answer = ask(url, "x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_unreachable")
    assert 0.4 < time.monotonic() - began < 2.5
    assert "retry-after" in answer.headers
    began = time.monotonic()
    assert ask(url, "x").status_code == 503
    assert time.monotonic() - began < 0.4, "what follows is refused at once, not queued behind it"
    ready = httpx2.get(f"{url}/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["log"])
    assert httpx2.get(f"{url}/healthz").status_code == 200
    code, took = process.stop()
    assert (code, took < STOP_S) == (0, True), process.said()[-2000:]
