"""What was asked before an outage and is reached after it: too late, it ends as expired, and nobody pays for it."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from connectors.clickhouse.client import ClickHouse
from processors.admission.examine import DEFAULT_EXPIRY, TOO_LATE
from processors.identity import uuid7
from tests.faults.clients import ask_plainly
from tests.faults.counted import counted_once
from tests.faults.evidence import Evidence
from tests.faults.gather import Mark, gather, mark
from tests.faults.scripts import Asked
from tests.faults.system import System, stopped

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

BODY = Asked("late", "kafka", ("a word ", "and another"), 0, 0).body()
LEFT_S = 2.0
"""What is late here had so long to be begun."""


@pytest.fixture(scope="module")
def since(system: System) -> Mark:
    """All that the tests of this file ask for, also under ids of a quarter of an hour ago."""
    return replace(mark(system), lowest_id=uuid7(int(time.time() * 1000) - 900_000, bytes(10)))


@pytest.fixture(scope="module")
def count(full: bool) -> int:
    """How many requests of a kind."""
    return 200 if full else 20


@pytest.fixture
def dated_by_producers(system: System) -> Iterator[None]:
    """Records of `requests` bear the time their producer gives them, so that an outage need not be waited for."""
    stamp(system, "CreateTime")
    yield
    stamp(system, "LogAppendTime")


def stamp(system: System, kind: str) -> None:
    entry = ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, "requests", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    for done in admin.incremental_alter_configs([topic]).values():
        done.result(20)


@contextmanager
def away(system: System, stage: str) -> Iterator[None]:
    """A stage that was killed and is not started again until the block ends: whoever would is stopped meanwhile."""
    supervisor = system.pipeline.process
    supervisor.send_signal(signal.SIGSTOP)
    try:
        kill = system.kill(stage)
        yield
    finally:
        supervisor.send_signal(signal.SIGCONT)
    system.recovered(kill)


def publish(system: System, count: int, age: timedelta = timedelta(), **more: object) -> dict[str, bytes]:
    """So many requests of so long ago; by their ids."""
    found: dict[str, bytes] = {}
    producer = Producer({"bootstrap.servers": system.bootstrap})
    for _ in range(count):
        then = int(time.time() * 1000) - int(age.total_seconds() * 1000)
        request_id = uuid7(then, os.urandom(10))
        found[request_id] = json.dumps({"id": request_id, "tenant": "demo"} | BODY | more).encode()
        producer.produce("requests", found[request_id], timestamp=then)
    assert producer.flush(20) == 0
    return found


def soon() -> str:
    """The end of LEFT_S from now, as a request says it."""
    return (datetime.now(UTC) + timedelta(seconds=LEFT_S)).isoformat()


def ended(evidence: Evidence, ids: Sequence[str]) -> Counter[tuple[str, str]]:
    """How many ended in which way; what has no end counts nothing."""
    ends = {record.event["id"]: record.event for record in evidence.events("tokens", "end")}
    return Counter((ends[one]["status"], ends[one]["reason"]) for one in ids if one in ends)


def billed(system: System, evidence: Evidence, ids: Sequence[str]) -> list[str]:
    """What was spent on requests: provider calls, runs, costs in ends and rows."""
    owner = {record.event["run"]: record.event["id"] for record in evidence.events("journal", "run_started")}
    found = [f"{owner[run]}: run {run}" for run in owner if owner[run] in ids]
    found += [f"call {call}" for call in evidence.calls if owner.get(call["request_id"], ids[0]) in ids]
    found += [
        f"{record.event['id']}: {record.event.get('cost')}"
        for record in evidence.events("tokens", "end")
        if record.event["id"] in ids and record.event.get("cost", {}).get("micros")
    ]
    names = ", ".join(f"'{one}'" for one in ids)
    with closing(ClickHouse(system.clickhouse.address)) as client:
        for view in ("attempts", "run_ends", "outcomes"):
            found += [f"{view}: {row}" for row in client.query(f"SELECT * FROM {view} WHERE id IN ({names})")[1]]
        spent = client.query(f"SELECT id, cost_micros FROM streams WHERE id IN ({names}) AND cost_micros != 0")[1]
    return found + [f"streams: {row}" for row in spent]


def test_after_an_outage_of_admission_what_is_late_expires_and_is_not_billed(
    system: System, since: Mark, count: int, dated_by_producers: None
) -> None:
    with ThreadPoolExecutor() as pool, away(system, "admission"):
        ends_at = soon()
        short = publish(system, count, expires_at=ends_at)
        web = pool.submit(
            ask_plainly, system.edges[0], system.key, "/v1/chat/completions", BODY | {"expires_at": ends_at}
        )
        minutes = publish(system, count, DEFAULT_EXPIRY + timedelta(seconds=1))
        too_late = publish(system, count, TOO_LATE + timedelta(seconds=1))
        in_time = publish(system, count, DEFAULT_EXPIRY / 2)
        time.sleep(LEFT_S)
    told = web.result(30)
    evidence = gather(system, since, [])
    late = [*short, *minutes]
    assert ended(evidence, late) == {("failed", "expired"): 2 * count}
    assert (told.status, told.code) == (504, "expired")
    assert ended(evidence, list(too_late)) == {}
    letters = {r.event["value"]: r.event["dead-letter-error"] for r in evidence.topics["dead-letters"]}
    assert letters == {value.decode(): "expired" for value in too_late.values()}
    assert billed(system, evidence, [*late, *too_late]) == []
    assert ended(evidence, list(in_time)) == {("completed", "stop"): count}
    assert len(billed(system, evidence, list(in_time))) >= 4 * count  # the control: what was called is seen
    assert list(counted_once(evidence)) == []


def test_after_an_outage_of_dispatch_late_orders_expire_and_are_not_billed(
    system: System, since: Mark, count: int
) -> None:
    with away(system, "dispatch"):
        ends_at = soon()
        late, in_time = publish(system, count, expires_at=ends_at), publish(system, count)
        system.pipeline.records("journal", list(in_time)[-1], "decision")
        time.sleep(LEFT_S)
    evidence = gather(system, since, [])
    assert ended(evidence, list(late)) == {("failed", "expired"): count}
    assert any(record.event["id"] in late for record in evidence.events("journal", "given_up"))  # by dispatch itself
    assert billed(system, evidence, list(late)) == []
    assert ended(evidence, list(in_time)) == {("completed", "stop"): count}
    assert billed(system, evidence, list(in_time)) != []


def test_after_an_outage_of_the_broker_late_requests_expire_and_are_not_billed(
    system: System, since: Mark, count: int
) -> None:
    with stopped(system.pid("admission")):  # so that the broker dies with requests in it that nobody has read
        ends_at = soon()
        late, in_time = publish(system, count, expires_at=ends_at), publish(system, count)
        system.kafka.kill()
    time.sleep(LEFT_S)
    system.kafka.start()
    evidence = gather(system, since, [])
    ends = ended(evidence, list(late))
    # What had reached admission's socket while it was stopped is ordered in time, and late once the log is back.
    assert ends.keys() <= {("failed", "expired"), ("failed", "timeout")}
    assert ends.total() == count
    assert billed(system, evidence, list(late)) == []
    assert ended(evidence, list(in_time)) == {("completed", "stop"): count}
    assert billed(system, evidence, list(in_time)) != []
