"""Health, readiness and figures."""

import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from connectors.edge import app
from connectors.kafka.writer import Writer
from connectors.local.embedded import EmbeddedKafka
from processors.codec import encode
from processors.events import EdgeStarted, Health
from tests.connectors.edge.conftest import KEY, TOPICS, Start, publish_basics
from tests.connectors.edge.double import Pipeline, settle
from tests.connectors.edge.running import RunningEdge

ASK = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}


def scrape(edge: RunningEdge) -> str:
    with urllib.request.urlopen(edge.metrics, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def post(edge: RunningEdge, **headers: str) -> httpx2.Response:
    url = f"{edge.url}/v1/chat/completions"
    return httpx2.post(url, json=ASK, headers={"authorization": f"Bearer {KEY}"} | headers, timeout=20)


def test_health_and_readiness_need_no_key(edge: RunningEdge) -> None:
    assert httpx2.get(f"{edge.url}/healthz").json() == {"status": "ok"}
    ready = httpx2.get(f"{edge.url}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": [], "degraded": []})


def test_figures(edge: RunningEdge, broker: str) -> None:
    post(edge)
    writer = Writer(broker, "test")
    window = Health("p", "m", 60.0, datetime.now(UTC), "demo", attempts=9, failures=2, first_token_ms=12.5)
    writer.send("health", "p/m/demo", encode(window))
    writer.flush()
    settle(lambda: 'sluice_health_attempts{model="m",provider="p",tenant="demo"} 9.0' in scrape(edge))
    text = scrape(edge)
    assert 'sluice_health_first_token_ms{model="m",provider="p",tenant="demo"} 12.5' in text
    assert 'sluice_edge_answers_total{endpoint="chat",status="200"}' in text
    assert "sluice_edge_submitted_total" in text
    assert "sluice_edge_log_reachable 1.0" in text
    assert httpx2.get(f"{edge.url}/metrics").status_code == 404


def test_every_partition_is_told_of_the_start(start_edge: Start, pipeline: Pipeline) -> None:
    """Before anything is served, and a second start of the same instance is another incarnation."""

    def starts() -> list[tuple[int, str]]:
        return [
            (partition, event.edge.incarnation)
            for partition, event in pipeline.journal
            if isinstance(event, EdgeStarted) and event.edge.instance == "told"
        ]

    for count in (4, 8):
        start_edge(member="told")
        pipeline.wait(lambda count=count: len(starts()) == count)
    assert sorted(partition for partition, _ in starts()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len({incarnation for _, incarnation in starts()}) == 2


@pytest.fixture
def empty_broker(tmp_path: Path) -> Iterator[str]:
    """A broker of its own, on which no policy is published."""
    service = EmbeddedKafka(tmp_path, TOPICS)
    yield service.start()
    service.stop()


def test_without_a_policy_it_says_so(start_edge: Start, empty_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "POLICY_S", 0.1)
    own = start_edge(kafka=empty_broker)
    ready = httpx2.get(f"{own.url}/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["policy"])
    publish_basics(empty_broker)
    settle(lambda: httpx2.get(f"{own.url}/readyz").status_code == 200)
