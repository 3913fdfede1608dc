"""The guard's process on a real broker: what must stand in the log before what."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import Message

from connectors.kafka import admin
from connectors.kafka.policies import publish_policy
from connectors.kafka.writer import Writer
from processors.codec import decode, encode
from processors.events import End, Event, Tokens
from processors.guard.keep import OPEN
from processors.identity import uuid7
from streams import topology
from tests import samples
from tests.streams.stage_process import StageProcess, reader, running, until

pytestmark = pytest.mark.kafka

KILLED_AFTER_A_SNAPSHOT = """
import os
from connectors.kafka.writer import Writer
send, flush, late = Writer.send, Writer.flush, []

def slow_tokens(self, topic, *rest, **more):
    if topic == "tokens":
        late.append((topic, rest, more))
        return
    send(self, topic, *rest, **more)
    if topic == "snapshots":
        flush(self)
        os._exit(9)

def flush_all(self):
    while late:
        topic, rest, more = late.pop(0)
        send(self, topic, *rest, **more)
    flush(self)

Writer.send, Writer.flush = slow_tokens, flush_all
"""
"""`tokens` is acknowledged late, as late as a flush allows; the first snapshot at once, and then the process dies."""

KEEPS_ALWAYS = """
from processors.guard.fold import PartitionFold
keep = PartitionFold.to_keep
PartitionFold.to_keep = lambda self, before: keep(self, 1 << 60)

from streams import guard
guard.COMMIT_EVERY_S = 0.5
"""
"""Every commit keeps all that is open, not only what is old, and comes soon."""


@pytest.fixture
def broker(kafka: str) -> str:
    shape = topology.load()
    admin.apply(kafka, shape.specs(), shape.groups())
    publish_policy(kafka, samples.policy())
    return kafka


def test_a_snapshot_stands_behind_what_it_tells_of(broker: str, tmp_path: Path) -> None:
    """Else a guard that was killed in between takes a request for closed whose end was never written."""
    request = uuid7(int(time.time() * 1000), os.urandom(10))
    dying = StageProcess("guard", tmp_path, broker, changed=KILLED_AFTER_A_SNAPSHOT).launch().ready()
    writer = Writer(broker, "test")
    for event in [samples.decision(request), *samples.run(request, ["one ", "two"])]:
        writer.send("journal", request, encode(event))
    writer.flush()
    assert dying.wait() == 9
    with running(StageProcess("guard", tmp_path, broker)), reader(broker, "tokens", 4) as tokens:
        found: list[Message] = []

        def ended() -> bool:
            found.extend(message for message in tokens.consume(100, 0.1) if message.key() == request.encode())
            return any(isinstance(decode("tokens", message.value(), message.headers()), End) for message in found)

        until(ended, what="the request has no end")


def test_one_that_lost_its_place_keeps_nothing(broker: str, tmp_path: Path) -> None:
    """Its snapshot would be older than what its successor has committed, and hide what stands between."""
    request = uuid7(int(time.time() * 1000), os.urandom(10))
    start, *chunks, end = samples.run(request, ["one ", "two ", "three"])
    writer = Writer(broker, "test")

    def write(*events: Event) -> None:
        for event in events:
            writer.send("journal", request, encode(event))
        writer.flush()

    with reader(broker, "snapshots", 4) as snapshots:
        kept: list[int | None] = []

        def reached() -> list[int | None]:
            for message in snapshots.consume(100, 0.1):
                if message.key() == f"{OPEN}{request}".encode():
                    value = message.value()
                    kept.append(None if value is None else json.loads(value)["last_offset"])
            return kept

        with running(StageProcess("guard", tmp_path / "a", broker, changed=KEEPS_ALWAYS)) as frozen:
            open_now = samples.order(deadline_s=time.time() + 120 - samples.START_MS / 1000)
            write(samples.decision(request, open_now), start, chunks[0])
            until(reached, what="no snapshot")
            frozen.send(signal.SIGSTOP)
            with running(StageProcess("guard", tmp_path / "b", broker, changed=KEEPS_ALWAYS)) as successor:
                before = len(kept)
                write(*chunks[1:])
                until(lambda: len(reached()) > before, what="its successor keeps nothing")
                write(end)
                until(lambda: reached()[-1] is None, what="what is closed is kept")
                frozen.send(signal.SIGCONT)
                # Refused, it ends. After more than a session it joins anew, which ends the other: two have one name.
                until(lambda: frozen.returncode or successor.returncode, what="both have the place")
                for _ in range(10):  # whatever it has written stands in the log by now
                    assert reached()[-1] is None, f"kept in turn: {kept}"


def test_opened_stands_before_the_text_and_does_not_wait_for_ever(broker: str, tmp_path: Path) -> None:
    """It waits a moment for the first text, so that both wake a reader once."""
    silent, quick = (uuid7(int(time.time() * 1000), os.urandom(10)) for _ in range(2))
    writer = Writer(broker, "test")
    with running(StageProcess("guard", tmp_path, broker)), reader(broker, "tokens", 4) as tokens:
        found: dict[bytes | None, list[str]] = {}

        def told(request: str) -> list[str]:
            for message in tokens.consume(100, 0.1):
                event = decode("tokens", message.value(), message.headers())  # type: ignore[arg-type]
                found.setdefault(message.key(), []).append(type(event).__name__)
            return found.get(request.encode(), [])

        open_now = samples.order(deadline_s=time.time() + 120 - samples.START_MS / 1000)
        writer.send("journal", silent, encode(samples.decision(silent, open_now)))
        writer.flush()
        until(lambda: told(silent) == ["Opened"], what="a stream without text is not opened")
        for event in [samples.decision(quick), *samples.run(quick, ["one ", "two"])]:
            writer.send("journal", quick, encode(event))
        writer.flush()
        until(lambda: told(quick)[-1:] == ["End"], what="the request has no end")
        assert found[quick.encode()][:2] == ["Opened", "Tokens"]
        assert found[quick.encode()].count("Opened") == 1


SLOW_MODEL = """
import time
from connectors.classifier import Classifier

class Slow:
    labels, version, looks_at = ("harmful",), "slow", 400

    def score(self, texts):
        time.sleep(SECONDS)
        return [{"harmful": 0.1} for _ in texts]

Classifier.load = lambda folder: Slow()
"""
"""A model that takes its time over each batch."""


def test_no_text_waits_for_a_model_and_the_end_does(broker: str, tmp_path: Path) -> None:
    """Text that comes while the model is busy is released, whichever stream it belongs to."""
    slow_s = 3
    policy = samples.policy(classifier={"labels": {"harmful": {"above": 0.99}}, "stride_chars": 20})
    publish_policy(broker, policy)
    names = [uuid7(int(time.time() * 1000), os.urandom(10)) for _ in range(2)]
    writer = Writer(broker, "test")
    guard = StageProcess("guard", tmp_path, broker, changed=SLOW_MODEL.replace("SECONDS", str(slow_s)))
    with running(guard), reader(broker, "tokens", 4) as tokens:
        found: dict[str, list[Event]] = {name: [] for name in names}

        def said(name: str) -> str:
            for message in tokens.consume(100, 0.05):
                event = decode("tokens", message.value(), message.headers())  # type: ignore[arg-type]
                found.setdefault(event.id, []).append(event)  # type: ignore[attr-defined]
            return "".join(event.text for event in found[name] if isinstance(event, Tokens))

        began = time.monotonic()
        open_now = samples.order(deadline_s=time.time() + 120 - samples.START_MS / 1000)
        for name in names:
            for event in [
                samples.decision(name, open_now, policy=policy.version),
                *samples.run(name, ["a text that is to be scored ", "and what follows it"]),
            ]:
                writer.send("journal", name, encode(event))
                writer.flush()
        for name in names:
            until(lambda: said(name).endswith("what follows it"), what="it was not released")  # noqa: B023
        assert time.monotonic() - began < slow_s, "the text has waited for the model"
        for name in names:
            until(lambda: said(name) and isinstance(found[name][-1], End), what="it did not end")  # noqa: B023
            assert found[name][-1].status == "completed"  # type: ignore[attr-defined]
        assert time.monotonic() - began > slow_s, f"the end has not waited for the model: {guard.log}"
