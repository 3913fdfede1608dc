"""A running edge over an embedded broker, the double of the pipeline behind it, and keys."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from confluent_kafka import Producer

from connectors.edge.app import EdgeConfig
from connectors.local.embedded import EmbeddedKafka
from processors.codec import encode
from processors.events import ApiKey, PolicyPublished
from processors.identity import key_hash
from processors.policy import parse_policy
from tests.connectors.edge.double import SCRIPTS, Pipeline
from tests.connectors.edge.running import RunningEdge

TOPICS = {"requests": 2, "journal": 4, "tokens": 4, "keys": 1, "policies": 1, "health": 1}
KEY, OTHER_KEY, LOST_KEY = "sk-sluice-demo", "sk-sluice-other", "sk-sluice-lost"


def publish_basics(bootstrap: str) -> None:
    """A policy that routes every script, and a key each for two tenants of it and one that it does not know."""
    step = [{"provider": "p", "model": "m"}]
    policy = {
        "version": 1,
        "providers": {"p": {"base_url": "simulated:"}},
        "routes": dict.fromkeys(SCRIPTS, step),
        "tenants": {"demo": {"routes": {"mine": step}}, "other": {}},
    }
    version = parse_policy(policy).version
    producer = Producer({"bootstrap.servers": bootstrap})  # our own writers are idempotent: half a second to begin
    for key in (version, "current"):
        producer.produce("policies", encode(PolicyPublished(version, policy)), key)
    for secret, tenant in ((KEY, "demo"), (OTHER_KEY, "other"), (LOST_KEY, "lost")):
        producer.produce("keys", encode(ApiKey(tenant, "test", datetime.now(UTC))), key_hash(secret))
    assert producer.flush(10) == 0


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = EmbeddedKafka(tmp_path_factory.mktemp("embedded"), TOPICS)
    bootstrap = service.start()
    publish_basics(bootstrap)
    yield bootstrap
    service.stop()


@pytest.fixture(scope="package")
def pipeline(broker: str) -> Iterator[Pipeline]:
    double = Pipeline(broker)
    yield double
    double.close()


Start = Callable[..., RunningEdge]


@pytest.fixture
def start_edge(broker: str, redis_url: str, pipeline: Pipeline) -> Iterator[Start]:
    """Starts edges of one test's own; keywords are those of EdgeConfig."""
    started: list[RunningEdge] = []

    def start(**options: Any) -> RunningEdge:
        number = len(started)
        place = {"member": f"own-{number}", "instance": 0, "instances": 1, "kafka": broker, "redis": redis_url}
        started.append(RunningEdge(EdgeConfig(**(place | {"embedded": True} | options))))
        return started[-1]

    yield start
    for edge in started:
        edge.close()


@pytest.fixture(scope="package")
def edge(broker: str, redis_url: str, pipeline: Pipeline) -> Iterator[RunningEdge]:
    """The edge that most tests share."""
    running = RunningEdge(EdgeConfig("edge-0", 0, 1, broker, redis_url, embedded=True), metrics=True)
    yield running
    running.close()


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{edge.url}/v1", api_key=KEY, max_retries=0, timeout=10) as opened:
        yield opened
