"""API keys in the compacted topic `keys`: made, listed, revoked. A key itself is shown once and kept nowhere."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from connectors.kafka.table import CompactedTable
from connectors.kafka.writer import Writer
from processors.codec import encode
from processors.errors import Invalid
from processors.events import ApiKey
from processors.identity import key_hash

TOPIC = "keys"
PREFIX = "sk-sluice-"
SHORTEST_PREFIX = 6
"""Characters of a hash that name a key."""
READ_S = 10.0


def create_key(bootstrap: str, tenant: str, name: str) -> str:
    """A fresh key of 256 random bits for `tenant`, known to every edge within a second.

    Raises:
        Invalid: the tenant has a key of this name in force.
        DeliveryFailed: the broker did not take it.
    """
    for hashed, record in list_keys(bootstrap).items():
        if (record.tenant, record.name) == (tenant, name) and record.revoked is None:
            raise Invalid(
                "name", f"tenant {tenant!r} has a key {name!r} already ({hashed[:12]}); revoke it or name another"
            )
    key = PREFIX + secrets.token_urlsafe(32)
    publish_key(bootstrap, key, tenant, name)
    return key


def publish_key(bootstrap: str, key: str, tenant: str, name: str) -> None:
    """Put a key in force; returns once the broker has it.

    Raises:
        DeliveryFailed: the broker did not take it.
    """
    _publish(bootstrap, {key_hash(key): ApiKey(tenant=tenant, name=name, created=datetime.now(UTC))})


def list_keys(bootstrap: str) -> dict[str, ApiKey]:
    """Every key by its hash, the revoked ones included.

    Raises:
        Invalid: the broker cannot be read.
    """
    with _table(bootstrap) as table:
        return {hashed: record for hashed, record in table.values.items() if isinstance(record, ApiKey)}


def revoke_key(bootstrap: str, name: str, tenant: str | None = None) -> tuple[str, ApiKey]:
    """Revoke the one key in force of this name, or whose hash begins so; every edge knows within a second.

    Raises:
        Invalid: there is none, or more than one.
        DeliveryFailed: the broker did not take it.
    """
    found = [
        (hashed, record)
        for hashed, record in list_keys(bootstrap).items()
        if record.revoked is None and tenant in (None, record.tenant) and _named(name, hashed, record)
    ]
    if not found:
        raise Invalid("name", f"no key in force is named {name!r} or has a hash that begins so")
    if len(found) > 1:
        which = ", ".join(f"{record.tenant}/{record.name} {hashed[:12]}" for hashed, record in found)
        raise Invalid("name", f"{name!r} names several keys: {which}; give the beginning of one's hash")
    hashed, record = found[0]
    revoked = msgspec.structs.replace(record, revoked=datetime.now(UTC))
    _publish(bootstrap, {hashed: revoked})
    return hashed, revoked


def _named(name: str, hashed: str, record: ApiKey) -> bool:
    return record.name == name or (len(name) >= SHORTEST_PREFIX and hashed.startswith(name.lower()))


def _publish(bootstrap: str, records: dict[str, ApiKey]) -> None:
    writer = Writer(bootstrap, "sluice-keys")
    for hashed, record in records.items():
        writer.send(TOPIC, hashed, encode(record))
    writer.flush()


@contextmanager
def _table(bootstrap: str) -> Iterator[CompactedTable]:
    table = CompactedTable(bootstrap, TOPIC)
    try:
        table.wait_current(READ_S)
        yield table
    except TimeoutError as error:
        raise Invalid("SLUICE_KAFKA", str(error)) from None
    finally:
        table.close()
