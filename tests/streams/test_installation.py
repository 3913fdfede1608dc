"""Which services are started, and what is said about the broker."""

from pathlib import Path

import pytest

from connectors.local import kafka as local_kafka
from processors.errors import Invalid
from streams.installation import plan, resource
from streams.settings import Settings


def names(settings: Settings, simulated: bool = False) -> list[str]:
    return [service.name for service in plan(settings, Path("jars"), simulated=simulated).services]


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where neither java nor mvn is on PATH."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert local_kafka.available() is not None


def test_without_java_the_embedded_broker_steps_in_and_says_why(tmp_path: Path, without_java: None) -> None:
    installation = plan(Settings(home=tmp_path), Path("jars"), simulated=False)
    assert installation.settings.kafka == "embedded"
    assert "no Apache Kafka here" in installation.why


def test_asking_for_apache_kafka_without_java_is_an_error(tmp_path: Path, without_java: None) -> None:
    with pytest.raises(Invalid, match="Java 17 and Maven"):
        plan(Settings(home=tmp_path, kafka="local"), Path("jars"), simulated=False)


@pytest.mark.kafka
def test_with_java_and_maven_apache_kafka_is_chosen(tmp_path: Path) -> None:
    installation = plan(Settings(home=tmp_path), Path("jars"), simulated=False)
    assert (installation.settings.kafka, installation.why) == ("local", "Java and Maven are here")
    assert installation.development


def test_what_the_environment_names_is_not_started(tmp_path: Path) -> None:
    everything = Settings(home=tmp_path, kafka="k:1", redis="redis://r:1/0", clickhouse="http://c:1")
    assert names(everything) == []
    assert not plan(everything, Path("jars"), simulated=False).development
    assert names(Settings(home=tmp_path, kafka="embedded"), simulated=True) == [
        "embedded-kafka", "redis", "clickhouse", "simulated"
    ]  # fmt: skip


def test_resources_are_found() -> None:
    assert resource("policy.yaml").is_file()
    assert resource("compose/kafka").is_dir()
