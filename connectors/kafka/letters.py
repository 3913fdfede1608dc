"""Reading the dead-letter topic back, and sending a letter where it came from."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.dead_letters import PREFIX, TOPIC
from connectors.kafka.writer import Headers, Writer
from processors.errors import Invalid

REDRIVEN = "redriven-from"
"""Header of a record that came back: the dead letter's own offset."""

REQUESTS = "requests"
"""The one topic that is written from outside, and so can be written again."""
ANSWER_S = 10.0
"""How long the broker may take to say anything."""
POLL_S = 0.2


class Letter(NamedTuple):
    """A dead letter: where it stands, what its headers say, and the raw bytes."""

    offset: int
    key: bytes | None
    value: bytes | None
    origin: dict[str, str]


def read_letters(bootstrap: str) -> Iterator[Letter]:
    """Every letter that stands in the topic now, oldest first.

    Raises:
        KafkaException: the broker does not answer, or the topic cannot be read.
        TimeoutError: the broker answered, and then no more.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "sluice-letters", "enable.auto.commit": False,
         "enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, "log_level": 0}
    )  # fmt: skip
    try:
        missing = consumer.list_topics(TOPIC, timeout=ANSWER_S).topics[TOPIC].error
        if missing is not None:
            raise KafkaException(missing)
        consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])
        give_up = time.monotonic() + ANSWER_S
        while True:
            messages = consumer.consume(100, POLL_S)
            if messages:
                give_up = time.monotonic() + ANSWER_S
            elif time.monotonic() > give_up:
                raise TimeoutError(f"topic {TOPIC} could not be read on within {ANSWER_S:.0f} s")
            for message in messages:
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
    """Write the letter's bytes to `requests` again, marked as redriven.

    Raises:
        Invalid: it did not come from there, or its id was taken.
        DeliveryFailed: it was not acknowledged.
    """
    _check_redrivable(letter)
    writer = Writer(bootstrap, "sluice-redrive")
    headers: Headers = [(REDRIVEN, str(letter.offset).encode())]
    key = letter.key.decode(errors="replace") if letter.key else None
    writer.send(REQUESTS, key, letter.value, headers)
    writer.flush()


def _check_redrivable(letter: Letter) -> None:
    topic = letter.origin.get("topic", "")
    if topic != REQUESTS:
        fix = f"came from {topic or 'nowhere known'}, which only stages write; publish the request under a new id"
        raise Invalid(f"letter {letter.offset}", fix)
    if letter.origin.get("error") == "id_reused":
        fix = "its id belongs to another request, and an id cannot be used twice; publish it under a new id"
        raise Invalid(f"letter {letter.offset}", fix)


def _letter(message: Message) -> Letter:
    headers: Any = message.headers() or []  # typed as if it could be a string
    origin = {
        name.removeprefix(PREFIX): value.decode(errors="replace") if value else ""
        for name, value in headers
        if name.startswith(PREFIX)
    }
    return Letter(message.offset() or 0, message.key(), message.value(), origin)
