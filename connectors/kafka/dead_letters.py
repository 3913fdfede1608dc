"""The dead-letter topic: bad records with their raw bytes and where they came from."""

from datetime import UTC, datetime

from connectors.kafka.writer import Headers
from processors.codec import BadRecord
from processors.events import VERSION

TOPIC = "dead-letters"
PREFIX = "dead-letter-"


def dead_letter_headers(
    topic: str, partition: int, offset: int, timestamp_ms: int, stage: str, error: BadRecord
) -> Headers:
    """Origin headers: topic, partition, offset, timestamp, stage, error, message, version."""
    at = datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC).isoformat().replace("+00:00", "Z")
    pairs = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": at,
        "stage": stage,
        "error": error.code,
        "message": error.message[:500],
        "version": str(VERSION),
    }
    return [(PREFIX + name, value.encode()) for name, value in pairs.items()]
