"""Request ids, partitions and content hashes: what makes the same thing the same everywhere."""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

ID_LENGTH = 36
KEY_LENGTH = 12
"""Characters of an API key's hash by which `sluice keys list` and events name it."""


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 (RFC 9562 §5.7) of this time and these 10 random bytes.

    Raises:
        ValueError: the time does not fit 48 bits or `random` is not 10 bytes.
    """
    if len(random) != 10 or not 0 <= unix_ms < 1 << 48:
        raise ValueError("uuid7 needs a time of 48 bits and 10 random bytes")
    value = unix_ms << 80 | int.from_bytes(random, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def uuid7_time(request_id: str) -> datetime:
    """The time in a UUIDv7, in its one accepted spelling: 36 lower-case characters.

    Raises:
        ValueError: it is no UUIDv7.
    """
    if len(request_id) != ID_LENGTH:
        raise ValueError("id is not a UUIDv7 of 36 characters")
    try:
        value = UUID(request_id)
    except ValueError:
        raise ValueError("id is not a UUID") from None
    if value.version != 7 or str(value) != request_id:
        raise ValueError("id is not a lower-case UUIDv7")
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def murmur2(data: bytes) -> int:
    """The 32-bit hash of Kafka's Java client (seed 0x9747b28c), which decides a key's partition there."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if length & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(request_id: str, partitions: int) -> int:
    """The partition of a request's records in every topic keyed by id (Kafka's default for a keyed record)."""
    return (murmur2(request_id.encode()) & 0x7FFFFFFF) % partitions


def content_hash(data: bytes) -> str:
    """128 bits of SHA-256, in hex: names a policy version, a request body, a matched text."""
    return hashlib.sha256(data).hexdigest()[:32]


def key_hash(key: str) -> str:
    """The full SHA-256 of an API key, in hex: the only form in which a key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()
