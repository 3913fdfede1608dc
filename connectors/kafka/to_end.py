"""Partitions read once, from somewhere to where they end now, outside any group."""

from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.batches import consume


def read_to_end(
    bootstrap: str, topic: str, partitions: list[int], name: str, since_ms: int | None = None
) -> Iterator[Message]:
    """What stands in these partitions now, from their beginning, or from the first record of a time on.

    Raises:
        KafkaException: the topic cannot be read.
    """
    if not partitions:
        return
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": name,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
            "log_level": 3,
        }
    )
    try:
        consumer.list_topics(topic, timeout=30)  # a client that does not know the leaders begins to fetch 0.5 s late
        consumer.assign([_place(consumer, topic, number, since_ms) for number in partitions])
        unread = set(partitions)
        while unread:
            for message in consume(consumer, 1000, 1.0):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def _place(consumer: Consumer, topic: str, number: int, since_ms: int | None) -> TopicPartition:
    if since_ms is None:
        return TopicPartition(topic, number, OFFSET_BEGINNING)
    [found] = consumer.offsets_for_times([TopicPartition(topic, number, since_ms)], timeout=10)
    return TopicPartition(topic, number, found.offset)
