"""The topic `snapshots`: what a stage kept of its state, read back partition by partition when it is assigned one."""

from connectors.kafka.to_end import read_to_end

TOPIC = "snapshots"


def read_snapshots(bootstrap: str, partitions: list[int], prefix: str) -> dict[int, dict[str, bytes]]:
    """The newest value of each key that begins with `prefix`, as it stands now, by partition.

    Raises:
        KafkaException: the topic cannot be read.
    """
    found: dict[int, dict[str, bytes]] = {number: {} for number in partitions}
    for message in read_to_end(bootstrap, TOPIC, partitions, f"snapshots-{prefix}"):
        number, key = message.partition() or 0, (message.key() or b"").decode(errors="replace")
        _take(found[number], key, message.value(), prefix)
    return found


def _take(values: dict[str, bytes], key: str, value: bytes | None, prefix: str) -> None:
    if not key.startswith(prefix):
        return
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
