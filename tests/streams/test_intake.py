"""What admission reads is committed once it has been decided, and not before."""

import asyncio
from pathlib import Path

import pytest

from connectors.kafka import admin
from connectors.kafka.writer import Writer
from streams import topology
from streams.intake import Intake, Taken
from streams.runtime import Context, Stopping
from streams.settings import Settings
from tests.streams.stage_process import unread

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(kafka: str) -> str:
    shape = topology.load()
    admin.apply(kafka, shape.specs(), shape.groups())
    return kafka


def left(broker: str) -> int:
    """Requests that the group has not committed."""
    return unread(broker, "admission", "requests", topology.load().partitions_of("requests"))


class Member:
    """An intake at work in its thread, until the block is left."""

    def __init__(self, broker: str, home: Path, instance: int = 0) -> None:
        self.stopping = Stopping()
        self.intake = Intake(Context("admission", Settings(kafka=broker, home=home, instance=instance)), self.stopping)

    async def __aenter__(self) -> "Member":
        self.reading = asyncio.create_task(asyncio.to_thread(self.intake.run))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.asked = True
        self.intake.leave()
        await self.reading

    async def taken(self) -> Taken:
        """The next batch with requests; outcomes, that other tests have written, are decided."""
        while True:
            taken = await asyncio.wait_for(self.intake.next(), 20)
            assert taken is not None
            if any(topic == "requests" for topic, _ in taken.messages):
                return taken
            self.intake.decided(taken)

    async def catch_up(self, broker: str) -> None:
        """Decide the requests that other tests have written."""
        count = left(broker)
        while count > 0:
            taken = await self.taken()
            count -= sum(len(messages) for (topic, _), messages in taken.messages.items() if topic == "requests")
            self.intake.decided(taken)


def write(broker: str, value: bytes) -> None:
    writer = Writer(broker, "test")
    writer.send("requests", "a key", value)
    writer.flush()


async def test_only_what_was_decided_is_committed(broker: str, tmp_path: Path) -> None:
    async with Member(broker, tmp_path) as member:
        await member.catch_up(broker)
        write(broker, b"first")
        member.intake.decided(await member.taken())
        write(broker, b"second")
        await member.taken()
    assert left(broker) == 1


async def test_what_was_taken_before_partitions_went_is_not_committed(broker: str, tmp_path: Path) -> None:
    """Another has them, and may be further on."""
    async with Member(broker, tmp_path) as member:
        await member.catch_up(broker)
        write(broker, b"third")
        taken = await member.taken()
        async with Member(broker, tmp_path, instance=1) as other:
            again = await next_of(member, other)
            assert again.messages.keys() & taken.messages.keys(), "whoever has the partition reads the record again"
            member.intake.decided(taken)
    assert left(broker) == 1


async def next_of(*members: Member) -> Taken:
    """What any of them takes first."""
    waiting = [asyncio.create_task(member.taken()) for member in members]
    done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    return done.pop().result()
