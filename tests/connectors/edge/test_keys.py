"""Keys are made, listed and revoked in the topic; no key is ever stored."""

from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from connectors.kafka import keys
from connectors.kafka.keys import create_key, list_keys, publish_key, revoke_key
from connectors.kafka.writer import Writer
from processors.errors import Invalid
from processors.identity import key_hash
from streams.cli_keys import app


def raw_records(bootstrap: str) -> bytes:
    """Everything that was ever written to the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "raw"})
    _, end = consumer.get_watermark_offsets(TopicPartition("keys", 0), timeout=10)
    consumer.assign([TopicPartition("keys", 0, 0)])
    found = b""
    while end:
        message = consumer.poll(10)
        assert message is not None
        found += (message.key() or b"") + (message.value() or b"")
        end -= message.offset() + 1 == end and end
    consumer.close()
    return found


@pytest.fixture(scope="module")
def writer(broker: str) -> Writer:
    return Writer(broker, "test")


@pytest.fixture(autouse=True)
def one_writer(request: pytest.FixtureRequest, writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all but the commands: an idempotent producer takes half a second to begin."""
    if "cli" not in request.fixturenames:
        monkeypatch.setattr(keys, "Writer", lambda *_: writer)


def test_a_key_is_made_and_only_its_hash_is_kept(broker: str) -> None:
    key = create_key(broker, "demo", "first")
    assert key.startswith("sk-sluice-")
    assert len(key) >= 10 + 43
    record = list_keys(broker)[key_hash(key)]
    assert (record.tenant, record.name, record.revoked) == ("demo", "first", None)
    found = raw_records(broker)
    assert key_hash(key).encode() in found
    assert key.removeprefix("sk-sluice-").encode() not in found


def test_a_name_stands_for_one_key_of_a_tenant(broker: str) -> None:
    key = create_key(broker, "demo", "twice")
    with pytest.raises(Invalid, match="twice"):
        create_key(broker, "demo", "twice")
    assert create_key(broker, "other", "twice") != key
    with pytest.raises(Invalid, match="several keys"):
        revoke_key(broker, "twice")
    _, record = revoke_key(broker, "twice", tenant="demo")
    assert record.tenant == "demo"


def test_revoke_by_the_beginning_of_the_hash(broker: str) -> None:
    publish_key(broker, "some key", "demo", "by-hash")
    hashed, record = revoke_key(broker, key_hash("some key")[:12])
    assert (hashed, record.name) == (key_hash("some key"), "by-hash")
    assert list_keys(broker)[hashed].revoked is not None


@pytest.mark.parametrize("name", ["nobody", "", "a" * 5])
def test_revoking_nothing_is_an_error(broker: str, name: str) -> None:
    with pytest.raises(Invalid, match="no key in force"):
        revoke_key(broker, name)


@pytest.fixture
def cli(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("SLUICE_KAFKA", broker)
    monkeypatch.setenv("SLUICE_REDIS", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SLUICE_CLICKHOUSE", "http://127.0.0.1:1")
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    return CliRunner()


def test_the_commands(cli: CliRunner, broker: str) -> None:
    made = cli.invoke(app, ["create", "demo", "--name", "command"])
    assert made.exit_code == 0, made.output
    key = made.output.strip()
    assert key_hash(key) in list_keys(broker)
    listed = cli.invoke(app, ["list", "--tenant", "demo"]).output
    assert f"{key_hash(key)[:12]}  demo  command  created" in listed
    assert key not in listed
    assert cli.invoke(app, ["revoke", "command"]).exit_code == 0
    assert "demo  command  revoked" in cli.invoke(app, ["list"]).output


def test_a_tenant_that_the_policy_does_not_declare(cli: CliRunner) -> None:
    refused = cli.invoke(app, ["create", "nobody"])
    assert refused.exit_code == 1
    assert "'nobody' is not declared" in refused.output
