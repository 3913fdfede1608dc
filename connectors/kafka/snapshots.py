"""The topic `snapshots`: what a stage kept of its state, read back partition by partition when it is assigned one."""

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka.batches import consume

TOPIC = "snapshots"


def read_snapshots(bootstrap: str, partitions: list[int], prefix: str) -> dict[int, dict[str, bytes]]:
    """The newest value of each key that begins with `prefix`, as it stands now, by partition.

    Raises:
        KafkaException: the topic cannot be read.
    """
    found: dict[int, dict[str, bytes]] = {number: {} for number in partitions}
    if not partitions:
        return found
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"snapshots-{prefix}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
            "log_level": 3,
        }
    )
    try:
        consumer.list_topics(TOPIC, timeout=30)  # a client that does not know the leaders begins to fetch 0.5 s late
        consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in partitions])
        unread = set(partitions)
        while unread:
            for message in consume(consumer, 1000, 1.0):
                error = message.error()
                number = message.partition()
                if error is None and number is not None:
                    _take(found[number], (message.key() or b"").decode(errors="replace"), message.value(), prefix)
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(number or 0)
                elif error is not None:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return found


def _take(values: dict[str, bytes], key: str, value: bytes | None, prefix: str) -> None:
    if not key.startswith(prefix):
        return
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
