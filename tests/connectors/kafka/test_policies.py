"""A published policy stands in the topic twice, by version and as the one in force, and reads back as itself."""

import pytest

from connectors.kafka.policies import CURRENT, TOPIC, publish_policy
from connectors.kafka.table import CompactedTable
from connectors.kafka.writer import DeliveryFailed
from connectors.local.embedded import EmbeddedKafka
from connectors.policies import Policies
from processors.policy import VersionedPolicy, parse_policy


def policy(*phrases: str) -> VersionedPolicy:
    return parse_policy(
        {
            "version": 1,
            "providers": {"simulated": {"base_url": "simulated:"}},
            "routes": {"assistant": [{"provider": "simulated", "model": "story"}]},
            "tenants": {"demo": {}},
            "rules": [{"id": "codename", "kind": "phrase", "phrases": list(phrases)}],
            "prices": {"per_million": {"input": 0.15, "output": "6"}},
        }
    )


@pytest.fixture
def broker(tmp_path):
    embedded = EmbeddedKafka(tmp_path, {TOPIC: 1})
    yield embedded.start()
    embedded.stop()


def published(bootstrap: str) -> dict[str, VersionedPolicy]:
    table = CompactedTable(bootstrap, TOPIC)
    try:
        table.wait_current()
        return {key: parse_policy(event.policy) for key, event in table.values.items()}
    finally:
        table.close()


def test_it_stands_under_its_version_and_as_the_current_one(broker):
    first, second = policy("проект полночь"), policy("project nightfall")
    publish_policy(broker, first)
    publish_policy(broker, second)
    found = published(broker)
    assert {key: versioned.version for key, versioned in found.items()} == {
        first.version: first.version,
        second.version: second.version,
        CURRENT: second.version,
    }
    assert found[first.version].policy == first.policy
    assert found[CURRENT].effective("demo") == second.effective("demo")


def test_a_large_one_is_published_whole(broker):
    large = policy(*(f"фраза номер {number}" for number in range(40_000)))  # 2 MB, twice Kafka's own default limit
    publish_policy(broker, large)
    assert published(broker)[CURRENT].version == large.version


def test_one_that_is_too_large_is_refused_by_size(broker):
    with pytest.raises(DeliveryFailed, match=r"\d{7} bytes: .*[Mm]essage size too large"):
        publish_policy(broker, policy("long " * 1_000_000))


def test_one_that_was_never_published_is_told_from_one_that_cannot_be_read(tmp_path):
    embedded = EmbeddedKafka(tmp_path, {TOPIC: 1})
    address = embedded.start()
    first, second = policy("проект полночь"), policy("project nightfall")
    publish_policy(address, first)
    policies = Policies(address)
    try:
        policies.wait_current()
        assert policies.find("never", 10) is None
        assert policies.find(CURRENT, 10) is None  # a key of the topic, and no version
        publish_policy(address, second)
        found = policies.find(second.version, 10)  # at once, though it may not have been read yet
        assert found is not None
        assert found.version == second.version
        embedded.stop()
        with pytest.raises(TimeoutError):
            policies.find("never", 0.5)
    finally:
        policies.close()
        embedded.stop()
