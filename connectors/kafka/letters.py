"""Reading the dead-letter topic back, and sending a letter where it came from."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.dead_letters import PREFIX, TOPIC
from connectors.kafka.writer import Headers, Writer

REDRIVEN = "redriven-from"
"""Header of a record that came back: the dead letter's own offset."""


class Letter(NamedTuple):
    """A dead letter: where it stands, what its headers say, and the raw bytes."""

    offset: int
    key: bytes | None
    value: bytes | None
    origin: dict[str, str]


def read_letters(bootstrap: str) -> Iterator[Letter]:
    """Every letter that stands in the topic now, oldest first.

    Raises:
        KafkaException: the topic cannot be read.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "sluice-letters", "enable.auto.commit": False,
         "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 3}
    )  # fmt: skip
    try:
        consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
        while True:
            for message in consumer.consume(100, 10.0):
                error = message.error()
                if error is None:
                    yield _letter(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def redrive(bootstrap: str, letter: Letter) -> None:
    """Write the letter's bytes to the topic it came from, marked as redriven.

    Raises:
        DeliveryFailed: it was not acknowledged.
    """
    writer = Writer(bootstrap, "sluice-redrive")
    headers: Headers = [(REDRIVEN, str(letter.offset).encode())]
    key = letter.key.decode(errors="replace") if letter.key else None
    writer.send(letter.origin["topic"], key, letter.value, headers)
    writer.flush()


def _letter(message: Message) -> Letter:
    headers: Any = message.headers() or []  # typed as if it could be a string
    origin = {
        name.removeprefix(PREFIX): value.decode(errors="replace") if value else ""
        for name, value in headers
        if name.startswith(PREFIX)
    }
    return Letter(message.offset() or 0, message.key(), message.value(), origin)
