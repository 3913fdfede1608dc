"""The dead letters: read to the end without waiting for more, and sent back only where that can help."""

import time

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from typer.testing import CliRunner

from connectors.kafka import letters
from connectors.kafka.dead_letters import TOPIC, dead_letter_headers
from connectors.kafka.letters import REDRIVEN, read_letters, redrive
from connectors.kafka.writer import Writer
from connectors.local.embedded import EmbeddedKafka
from processors.codec import BadRecord
from processors.errors import Invalid
from streams.commands import app


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory):
    """Three letters: one that may be sent again, one whose id was taken, one of a stage's."""
    embedded = EmbeddedKafka(tmp_path_factory.mktemp("embedded"), {TOPIC: 1, "requests": 1})
    bootstrap = embedded.start()
    writer = Writer(bootstrap, "test")
    for topic, code in (("requests", "unknown_tenant"), ("requests", "id_reused"), ("journal", "undecodable")):
        headers = dead_letter_headers(topic, 0, 7, 0, "admission", BadRecord(code, "so it is"))
        writer.send(TOPIC, "k", code.encode(), headers)
    writer.flush()
    yield bootstrap
    embedded.stop()


def test_they_are_read_to_the_end_at_once(broker: str) -> None:
    began = time.monotonic()
    found = list(read_letters(broker))
    assert time.monotonic() - began < 5
    assert [(letter.offset, letter.value) for letter in found] == [
        (0, b"unknown_tenant"),
        (1, b"id_reused"),
        (2, b"undecodable"),
    ]


def test_a_broker_that_is_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "ANSWER_S", 0.3)
    with pytest.raises(KafkaException):
        list(read_letters("127.0.0.1:1"))


def test_one_is_sent_back_byte_for_byte(broker: str) -> None:
    redrive(broker, next(read_letters(broker)))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test"})
    consumer.assign([TopicPartition("requests", 0, 0)])
    [message] = consumer.consume(1, 10)
    consumer.close()
    assert message.value() == b"unknown_tenant"
    assert (REDRIVEN, b"0") in (message.headers() or [])


def test_what_cannot_help_is_refused_with_the_way_out(broker: str) -> None:
    _, reused, journal = read_letters(broker)
    with pytest.raises(Invalid, match="cannot be used twice; publish it under a new id"):
        redrive(broker, reused)
    with pytest.raises(Invalid, match="came from journal, which only stages write; publish"):
        redrive(broker, journal)


@pytest.mark.parametrize(("most", "shown"), [("0", 0), ("2", 2), ("50", 3)])
def test_the_newest_are_listed(broker: str, monkeypatch: pytest.MonkeyPatch, most: str, shown: int) -> None:
    monkeypatch.setenv("SLUICE_KAFKA", broker)
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["dead-letters", "list", "--most", most])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("so it is") == shown
