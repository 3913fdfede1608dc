"""Collects the evidence of a load from a running system: topics, calls, rows. It judges nothing."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from connectors.clickhouse.client import ClickHouse
from processors.identity import uuid7
from streams import topology
from tests.faults.counted import JOINED, VIEWS
from tests.faults.evidence import Evidence, Held, Kill, Record
from tests.faults.system import System

TOPICS = ("requests", "journal", "tokens", "outcomes", "answers", "verdicts", "dead-letters")
SETTLED_S = 60.0
"""Guards against hanging; whatever is missing then, the truth tells."""
QUIET_S = 0.5
"""After the last run's end the guard still tells its outcome: nothing for so long, and everything is there."""


@dataclass(frozen=True)
class Mark:
    """A point in time before a load: where each partition ended, and an id below all that are drawn later."""

    ends: dict[tuple[str, int], int]
    lowest_id: str
    at_ms: float


def mark(system: System) -> Mark:
    """Now. The ids of what is asked for later begin with a later time."""
    with consumer(system) as reader:
        ends = {(topic, number): end for topic, number, end in high_watermarks(reader)}
    now = time.time() * 1000
    return Mark(ends, uuid7(int(now), bytes(10)), now)


def gather(system: System, since: Mark, held: list[Held], kills: Sequence[Kill] = ()) -> Evidence:
    """The evidence of everything since `since`, once the system has come to rest: no stream or run is open, and the
    sink has read all."""
    topics = settled(system, since)
    await_sink(system)
    views, tables = rows(system, since)
    return Evidence(held, topics, calls(system, since), views, tables, list(kills))


def settled(system: System, since: Mark) -> dict[str, list[Record]]:
    """The topics' records, read until every request has its end, every run too, and nothing more comes."""
    topics: dict[str, list[Record]] = {topic: [] for topic in TOPICS}
    at = dict(since.ends)
    begun: set[str] = set()
    ended: set[str] = set()
    give_up = time.monotonic() + SETTLED_S
    with consumer(system) as reader:
        reader.assign([TopicPartition(topic, number, end) for (topic, number), end in since.ends.items()])
        there = {(topic, number): end for topic, number, end in high_watermarks(reader)}
        quiet_since = time.monotonic()
        while time.monotonic() < give_up:
            if at.items() >= there.items() and begun <= ended and time.monotonic() > quiet_since + QUIET_S:
                break
            for message in reader.consume(5000, 0.1):
                assert message.error() is None, message.error()
                topic, event = message.topic(), as_event(message)
                place = (topic, message.partition())
                at[place] = message.offset() + 1
                there[place] = max(there[place], at[place])
                if event.get("id", since.lowest_id) >= since.lowest_id:
                    topics[topic].append(Record(message.partition(), message.offset(), message.timestamp()[1], event))
                    begun.update(begins(topic, event))
                    ended.update(ends(event))
                quiet_since = time.monotonic()
    for records in topics.values():
        records.sort(key=lambda record: record[:2])
    return topics


def begins(topic: str, event: dict[str, Any]) -> Iterator[str]:
    """The request or run that a record begins."""
    if topic == "requests" and not event.get("cancel"):
        yield event["id"]
    elif event.get("type") == "run_started":
        yield event["run"]


def ends(event: dict[str, Any]) -> Iterator[str]:
    """The request or run that a record ends."""
    if event.get("type") == "end":
        yield event["id"]
    elif event.get("type") == "run_ended":
        yield event["run"]
    elif event.get("dead-letter-error") == "expired":  # a good request that has no other end
        yield json.loads(event["value"])["id"]


def as_event(message: Message) -> dict[str, Any]:
    """A record as JSON; a dead letter as its headers and value."""
    if message.topic() != "dead-letters":
        event: dict[str, Any] = json.loads(message.value())
        return event
    told = {name: value.decode(errors="replace") for name, value in message.headers() or []}
    return told | {"value": (message.value() or b"").decode(errors="replace")}


def calls(system: System, since: Mark) -> list[dict[str, Any]]:
    """The provider's own record."""
    found = [call | {"started_ms": millis(call["started"])} for call in system.pipeline.provider_calls()]
    return [call for call in found if call["started_ms"] >= since.at_ms]


def millis(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


def await_sink(system: System) -> None:
    """Until the sink has committed everything that stands in its topics."""
    give_up = time.monotonic() + SETTLED_S
    with consumer(system, "sink") as reader:
        left = [(TopicPartition(topic, number), end) for topic, number, end in high_watermarks(reader, True)]
        while time.monotonic() < give_up:
            at = {(p.topic, p.partition): p.offset for p in reader.committed([p for p, _ in left], timeout=10)}
            left = [(p, end) for p, end in left if at[p.topic, p.partition] < end]
            if not left:
                return
            time.sleep(0.05)  # commits are not announced


def rows(system: System, since: Mark) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, list[tuple[int, int]]]]:
    """Views and tables as an analyst sees them."""
    views: dict[str, list[tuple[Any, ...]]] = {}
    tables: dict[str, list[tuple[int, int]]] = {}
    with closing(ClickHouse(system.clickhouse.address)) as house:
        for name, view in (VIEWS | JOINED).items():
            columns = (*view.identity, *view.told, *(("topic_partition", "log_offset") if name in VIEWS else ()))
            where = f"WHERE id >= '{since.lowest_id}'"
            views[name] = house.query(f"SELECT {', '.join(columns)} FROM {name} {where}")[1]
            if name in VIEWS:
                found = house.query(f"SELECT topic_partition, log_offset FROM {name}_log {where}")[1]
                tables[name] = [(int(partition), int(offset)) for partition, offset in found]
    return views, tables


@contextmanager
def consumer(system: System, group: str = "faults") -> Iterator[Consumer]:
    """A consumer that reads without joining its group."""
    settings = {"bootstrap.servers": system.bootstrap, "group.id": group, "enable.auto.commit": False}
    with closing(Consumer(settings | {"auto.offset.reset": "error"})) as reader:
        yield reader


def high_watermarks(reader: Consumer, for_sink: bool = False) -> Iterator[tuple[str, int, int]]:
    """Where each partition of the topics we look at ends."""
    shape = topology.load()
    for topic in shape.stages["sink"].reads if for_sink else TOPICS:
        for number in range(shape.partitions_of(topic)):
            yield topic, number, reader.get_watermark_offsets(TopicPartition(topic, number), timeout=20)[1]
