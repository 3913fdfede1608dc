"""The live reader of an edge ends when it can no longer say the truth."""

import asyncio
import os
import time

import pytest

from connectors.edge.hub import TOPIC, Hub
from connectors.kafka.writer import Writer
from processors.codec import encode
from processors.events import Opened
from processors.identity import uuid7
from tests.connectors.edge.conftest import TOPICS


def write(broker: str) -> str:
    """A record of a request that is new."""
    request = uuid7(int(time.time() * 1000), os.urandom(10))
    writer = Writer(broker, "test")
    writer.send(TOPIC, request, encode(Opened(request, "demo", "m")))
    writer.flush()
    return request


@pytest.mark.parametrize("what", ["taking", "reading"])
async def test_a_record_that_cannot_be_taken_ends_it(broker: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the streams would have holes; the process ends, and its successor reads the log anew."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    hub = Hub(TOPICS[TOPIC], frozenset(range(TOPICS[TOPIC])))
    await hub.start(broker, "hub-test", 5, 0)
    if what == "taking":
        monkeypatch.setattr(hub.buffers, "take", fails)
    else:
        monkeypatch.setattr(hub._reader, "read", fails)
    running = asyncio.create_task(hub.run())
    write(broker)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 20)
    await hub.stop()


async def test_control_a_record_that_can_be_taken_is(broker: str) -> None:
    hub = Hub(TOPICS[TOPIC], frozenset(range(TOPICS[TOPIC])))
    await hub.start(broker, "hub-test", 5, 0)
    running = asyncio.create_task(hub.run())
    request = write(broker)
    await hub.wait_known(request, 20)
    assert hub.get(request) is not None
    assert not running.done()
    running.cancel()
    await hub.stop()
