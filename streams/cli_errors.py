"""How every command fails: what was wrong goes to standard error in one line, and the exit code is 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from connectors.kafka.admin import AdminFailed
from connectors.kafka.writer import DeliveryFailed
from processors.errors import Invalid
from streams import settings

if TYPE_CHECKING:
    from connectors.clickhouse.client import ClickHouseFailed

ANSWER_S = 10.0
"""How long a broker may take to answer before a command gives up."""

_SILENT = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors a person can mend into their message; anything else is a bug and keeps its traceback."""
    try:
        yield
    except Exception as error:
        said = _said(error)
        if said is None:
            raise
        typer.echo(f"error: {said}", err=True)
        raise typer.Exit(1) from None


def _said(error: Exception) -> str | None:
    """What to tell, None for a bug. Clients are imported only now: they would be half of each stage's start."""
    import redis

    from connectors.clickhouse.client import ClickHouseFailed

    match error:
        case Invalid() | AdminFailed() | DeliveryFailed():
            return str(error)
        case KafkaException():
            return _kafka(error)
        case ClickHouseFailed():
            return _clickhouse(error)
        case redis.ConnectionError() | redis.TimeoutError():
            return f"Redis at {_address('redis')} does not answer; is SLUICE_REDIS right and the server up?"
        case TimeoutError():
            return f"{error or 'no answer came in time'}; is SLUICE_KAFKA right and the broker up?"
    return None


def answering_broker() -> str:
    """The address of the broker a command talks to, which has just answered: the commands' one question in advance.

    Raises:
        Invalid: none is named.
        KafkaException: it does not answer.
    """
    address = settings.connected("kafka").kafka
    AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=ANSWER_S)
    return address


def _kafka(error: KafkaException) -> str:
    cause = error.args[0] if error.args else None
    if not isinstance(cause, KafkaError):
        return f"Kafka at {_address('kafka')}: {error}"
    if cause.code() in _SILENT:
        return f"Kafka at {_address('kafka')} does not answer; is SLUICE_KAFKA right and the broker up?"
    fix = "; `sluice topics apply` creates what is missing" if cause.code() in _MISSING else ""
    return f"Kafka at {_address('kafka')}: {cause.str()}{fix}"


def _clickhouse(error: "ClickHouseFailed") -> str:
    """ClickHouse's own words, or that it has none."""
    from urllib3.exceptions import HTTPError

    cause = error.__cause__
    if error.code or not isinstance(cause and (cause.__cause__ or cause), HTTPError | OSError):
        return str(error)
    return f"ClickHouse at {_address('clickhouse')} does not answer; is SLUICE_CLICKHOUSE right and the server up?"


def _address(name: str) -> str:
    """Where a service was looked for, without a password."""
    try:
        address: str = getattr(settings.connected(), name)
    except Invalid:
        return "an unknown address"
    return urlsplit(address).netloc.rpartition("@")[2] if "://" in address else address
