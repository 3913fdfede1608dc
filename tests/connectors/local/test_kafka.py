"""Apache Kafka, started, killed and started again."""

import shutil
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.local import kafka as local_kafka
from connectors.local.kafka import LocalKafka, class_archive, cluster_id, fetch_jars, jar_folder
from connectors.local.process import ServiceError, is_free

FILES = Path(__file__).parents[3] / "compose" / "kafka"
BIG = b"x" * (6 << 20)


def produce(bootstrap: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.max.bytes": 8 << 20})
    for value in values:
        producer.produce("journal", value, partition=0)
    assert producer.flush(10) == 0


def consume(bootstrap: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition("journal", 0, 0)])
    values: list[bytes | None] = []
    while len(values) < count:
        values += [record.value() for record in consumer.consume(count - len(values), 10)]
    consumer.close()
    return values


@pytest.mark.kafka
def test_what_is_acknowledged_survives_sigkill_and_stop(kafka: LocalKafka) -> None:
    bootstrap = kafka.start()
    assert bootstrap == kafka.bootstrap == f"127.0.0.1:{kafka.port}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic("journal", 4, 1)]).values():
        future.result()
    values = [str(n).encode() for n in range(1000)]
    produce(bootstrap, [*values, BIG])
    asked = Producer({"bootstrap.servers": bootstrap}).list_topics("misspelt", timeout=5).topics["misspelt"].error
    assert asked is not None
    assert asked.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, "topics are not made by asking"

    kafka.kill()
    assert kafka.pid is None
    assert is_free(kafka.port)
    assert kafka.start() == bootstrap
    assert consume(bootstrap, 1001) == [*values, BIG]
    produce(bootstrap, [b"after"])

    began = time.monotonic()
    kafka.stop()
    assert time.monotonic() - began < 4
    assert "Kafka Server started" in kafka.log.read_text()

    moved = LocalKafka(kafka.home, kafka.files, kafka.jars, log_retention_s=3600, retention_check_s=5)
    try:
        assert moved.start() != bootstrap, "the data directory is not bound to a port"
        assert consume(moved.bootstrap, 1002)[-1] == b"after"
    finally:
        moved.stop()


@pytest.mark.kafka
def test_a_broker_starts_from_classes_that_were_parsed_of_the_same_jars(kafka: LocalKafka, tmp_path: Path) -> None:
    own = jar_folder(FILES / "pom.xml", tmp_path / "jars")
    shutil.copytree(fetch_jars(FILES / "pom.xml", kafka.jars), own, ignore=shutil.ignore_patterns("*.jsa"))
    first = LocalKafka(tmp_path / "first", FILES, tmp_path / "jars")
    try:
        first.start()
        known = class_archive(own)
        assert archives_of(first) == {"classes.jsa", known.name}, "Java's own classes and the broker's"
        assert [path for path in own.iterdir() if path.suffix != ".jar"] == [known], "nothing else is left"
        first.kill()
        next(own.glob("kafka_*.jar")).touch()
        first.start()
        assert archives_of(first) == {"classes.jsa"}, "what was parsed of other jars does not count"
    finally:
        first.kill()


@pytest.mark.parametrize("way", ["it does not start", "it is killed while it writes"])
def test_without_parsed_classes_a_broker_starts_as_java_does(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: LocalKafka) -> str:
        raise ServiceError("no memory")

    monkeypatch.setattr(LocalKafka, "start", fail if way == "it does not start" else lambda self: "")
    classes = jar_folder(FILES / "pom.xml", tmp_path)
    classes.mkdir()
    broker = LocalKafka(tmp_path / "broker", FILES, tmp_path)
    monkeypatch.setattr(broker, "_lay_out", lambda: None)
    broker.prepare()
    known = class_archive(classes)
    assert (known.read_bytes(), list(classes.iterdir())) == (b"", [known])
    assert f"remove {known} to try again" in caplog.text
    assert broker.command()[4] == "-Xshare:auto"
    known.write_bytes(b"x")
    assert broker.command()[4] == f"-XX:SharedArchiveFile={known}", "the control"


def archives_of(broker: LocalKafka) -> set[str]:
    """Names of the class archives that a broker's Java has mapped."""
    mapped = Path(f"/proc/{broker.pid}/maps").read_text().split()
    return {Path(word).name for word in mapped if word.endswith(".jsa")}


@pytest.mark.kafka
def test_a_broken_setting_is_told_from_the_log(kafka: LocalKafka, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("pom.xml", "log4j2.xml"):
        (files / name).write_bytes((FILES / name).read_bytes())
    (files / "server.properties").write_text((FILES / "server.properties").read_text() + "num.io.threads=none\n")
    broken = LocalKafka(tmp_path / "broken", files, kafka.jars)
    with pytest.raises(ServiceError, match=r"java failed with code 1:\n(.|\n)*num\.io\.threads"):
        broken.start()
    assert not broken.data.exists(), "a format that failed is not taken for one"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH, for programs that only pretend."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def pretend(tools: Path, name: str, script: str) -> None:
    program = tools / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_why_it_cannot_run(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_kafka.available() == "no java"
    pretend(tools, "java", "echo 'openjdk version \"1.8.0_402\"' >&2")
    assert local_kafka.available() == "java 8 is older than 17"
    pretend(tools, "java", "exit 1")
    assert local_kafka.available() == "java of unknown version is older than 17"
    pretend(tools, "java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
    assert local_kafka.available() == "no mvn (Maven)"
    pretend(tools, "mvn", "true")
    assert local_kafka.available() is None
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    assert local_kafka.java() == str(tools / "java")


def test_jars_are_fetched_once_and_whole(tools: Path, tmp_path: Path) -> None:
    pom, jars = FILES / "pom.xml", tmp_path / "jars"
    take = (
        'for argument; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done; /bin/mkdir "$out"'
    )
    pretend(tools, "mvn", f"{take}; echo no route to host; exit 1")
    with pytest.raises(ServiceError, match=r"mvn failed with code 1:\nno route to host"):
        fetch_jars(pom, jars)
    assert list(jars.iterdir()) == [], "what a failed fetch has brought is thrown away"
    pretend(tools, "mvn", f'{take}; echo jar > "$out/kafka.jar"')
    folder = fetch_jars(pom, jars)
    assert [path.name for path in folder.iterdir()] == ["kafka.jar"]
    pretend(tools, "mvn", "exit 1")
    assert fetch_jars(pom, jars) == folder == jar_folder(pom, jars)
    other = tmp_path / "pom.xml"
    other.write_text("<project/>")
    assert jar_folder(other, jars) != folder, "other jars are kept elsewhere"


def test_cluster_ids() -> None:
    ids = {cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)
