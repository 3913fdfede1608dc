"""Reading Kafka from asyncio, with aiokafka."""

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

SESSION_MS = 6000

__all__ = [
    "AIOKafkaConsumer",
    "ConsumerRebalanceListener",
    "TopicPartition",
    "assigned_reader",
    "group_reader",
]


async def group_reader(
    bootstrap: str,
    group: str,
    instance: str,
    topics: list[str],
    listener: ConsumerRebalanceListener | None = None,
) -> AIOKafkaConsumer:
    """A started member of a consumer group: explicit commits, no silent reset, static membership."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id=instance,
        client_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="none",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=1000,
        max_partition_fetch_bytes=4 << 20,
        check_crcs=False,
        metadata_max_age_ms=30_000,
    )
    consumer.subscribe(topics, listener=listener)
    await consumer.start()
    return consumer


async def assigned_reader(
    bootstrap: str, client_id: str, offsets: dict[tuple[str, int], int | None] | Iterable[tuple[str, int]]
) -> AIOKafkaConsumer:
    """A started reader of fixed partitions, outside any group; `None` or no offset begins at the end."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        check_crcs=False,
        metadata_max_age_ms=30_000,
    )
    await consumer.start()
    wanted: dict[Any, int | None] = (
        {TopicPartition(*key): value for key, value in offsets.items()}
        if isinstance(offsets, dict)
        else {TopicPartition(*key): None for key in offsets}
    )
    consumer.assign(list(wanted))
    for partition, offset in wanted.items():
        if offset is None:
            await consumer.seek_to_end(partition)
        else:
            consumer.seek(partition, offset)
    return consumer
