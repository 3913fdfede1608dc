"""A compacted topic that cannot be read is told to whoever waits for it."""

import threading
import time

import pytest
from confluent_kafka import KafkaException

from connectors.kafka import table
from connectors.kafka.table import CompactedTable


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch):
    """A table of a broker that is not there."""
    monkeypatch.setattr(table, "ATTEMPT_S", 0.1)
    monkeypatch.setattr(table, "GIVE_UP_S", 0.2)
    found = CompactedTable("127.0.0.1:1", "keys")
    yield found
    found.close()


def test_it_is_told_at_once_and_without_a_traceback(away: CompactedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    began = time.monotonic()
    with pytest.raises(KafkaException):
        away.wait_current(30)
    assert time.monotonic() - began < 5
    assert not died


def test_the_impatient_are_told_the_reason_too(away: CompactedTable) -> None:
    with pytest.raises(KafkaException):
        away.wait_current(0.5)
