"""The whole pipeline as its users have it: `sluice up` as a process, and clients that are not ours."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from processors.identity import partition_of, uuid7
from tests.conftest import JARS

SLUICE = str(Path(sys.executable).with_name("sluice"))
POLICY = Path(__file__).with_name("policy.yaml")
START_S = 90.0
PARTITIONS = 4
"""More than the one that `sluice up` would make, for what happens between them."""


def new_id() -> str:
    """A request id of now."""
    return uuid7(int(time.time() * 1000), os.urandom(10))


@dataclass
class Pipeline:
    """A running `sluice up`."""

    process: subprocess.Popen[str]
    home: Path
    services: dict[str, Any]
    key: str
    _producer: Producer | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return str(self.services["edge"])

    @property
    def kafka(self) -> str:
        return str(self.services["kafka"])

    def publish(self, **request: Any) -> str:
        """Publish a request as a plain producer; returns its id."""
        request = {"id": new_id(), "tenant": "demo"} | request
        self.publish_raw(json.dumps(request).encode())
        return str(request["id"])

    def publish_raw(self, value: bytes | None, topic: str = "requests", **more: Any) -> None:
        """Publish any bytes."""
        if self._producer is None:
            self._producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 0, "message.max.bytes": 4 << 20})
        self._producer.produce(topic, value, **more)
        assert self._producer.flush(10) == 0

    def ask(self, model: str, text: str = "hi", **more: Any) -> str:
        """Publish a request of one user message."""
        return self.publish(model=model, messages=[{"role": "user", "content": text}], **more)

    def records(self, topic: str, request: str, until: str, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The events of a request in a topic, up to the first of type `until`, each with its `offset` and `at_ms`."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "e2e", "fetch.wait.max.ms": 10})
        consumer.assign([TopicPartition(topic, partition_of(request, PARTITIONS), 0)])
        found: list[dict[str, Any]] = []
        give_up = time.monotonic() + timeout_s
        try:
            while time.monotonic() < give_up:
                for message in consumer.consume(500, 0.2):
                    assert message.error() is None, message.error()
                    value = message.value()
                    if value is None or request.encode() not in value:
                        continue
                    event = json.loads(value)
                    if event.get("id") == request:
                        found.append(event | {"offset": message.offset(), "at_ms": message.timestamp()[1]})
                        if event["type"] == until:
                            return found
        finally:
            consumer.close()
        raise AssertionError(f"no {until} of {request} in {topic} within {timeout_s} s: {found[-3:]}")

    def stream(self, request: str) -> tuple[str, dict[str, Any]]:
        """The released text of a request and its end, checked for holes and repeats."""
        events = self.records("tokens", request, "end")
        released = [event for event in events if event["type"] == "tokens"]
        assert [event["seq"] for event in released] == list(range(len(released)))
        assert events[-1]["seq"] == len(released)
        return "".join(event["text"] for event in released), events[-1]

    def dead_letters(self, match: bytes, timeout_s: float = 15.0) -> tuple[bytes | None, dict[str, str]]:
        """The first dead letter whose value or headers hold `match`."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "e2e-letters", "fetch.wait.max.ms": 10})
        consumer.assign([TopicPartition("dead-letters", 0, 0)])
        give_up = time.monotonic() + timeout_s
        try:
            while time.monotonic() < give_up:
                for message in consumer.consume(100, 0.2):
                    headers = {name: value.decode() for name, value in message.headers() or []}
                    if match in (message.value() or b"") or match.decode() in headers.values():
                        return message.value(), headers
        finally:
            consumer.close()
        raise AssertionError(f"no dead letter with {match!r}")

    def provider_calls(self) -> list[dict[str, Any]]:
        """What the simulated provider recorded."""
        with urllib.request.urlopen(f"{self.services['simulated']}/_simulated/calls", timeout=5) as answer:
            calls = json.load(answer)
        return calls["calls"] if isinstance(calls, dict) else calls

    def stage(self, name: str) -> psutil.Process:
        """The process of a stage; the newest, where one before it drains."""
        found = [one for one in psutil.Process(self.process.pid).children() if _runs(one, name)]
        assert found, f"stage {name} does not run"
        return max(found, key=psutil.Process.create_time)

    def interrupt(self) -> float:
        """Ctrl-C; returns how long everything took to end, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0
        return time.monotonic() - began


def _runs(process: psutil.Process, stage: str) -> bool:
    """Whether it is that stage's; one that has ended, and of which its parent knows nothing yet, is nobody's."""
    try:
        return process.cmdline()[-2:] == ["run", stage]
    except psutil.NoSuchProcess:
        return False


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment for `sluice`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    ours = {"SLUICE_HOME": str(home), "SLUICE_PARTITIONS": str(PARTITIONS), "COLUMNS": "120"}
    return plain | ours | more


@contextmanager
def running(home: Path, kafka: str = "local", policy: Path = POLICY, **settings: str) -> Iterator[Pipeline]:
    """`sluice up` until the block ends; its jars are those the tests share. `settings` are further SLUICE_* variables.

    A broker of its own (`local`, `embedded`) comes with a key of tenant `demo`.
    """
    home.mkdir(parents=True, exist_ok=True)
    if kafka == "local" and not (home / "kafka-jars").exists():
        JARS.mkdir(parents=True, exist_ok=True)
        (home / "kafka-jars").symlink_to(JARS)
    log = (home / "up.log").open("w")
    command = [SLUICE, "up", "--port", "0", "--policy", str(policy)]
    process = subprocess.Popen(
        command, env=environment(home, SLUICE_KAFKA=kafka, **settings), stdout=log, stderr=log, text=True, cwd=home
    )
    try:
        services = _await_services(process, home)
        key = home / "demo-key"
        pipeline = Pipeline(process, home, services, key.read_text() if key.exists() else "")
        yield pipeline
        pipeline._producer = None  # before its broker goes
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()


def _await_services(process: subprocess.Popen[str], home: Path) -> dict[str, Any]:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        try:
            services: dict[str, Any] = json.loads((home / "services.json").read_bytes())
            return services
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.01)  # bench/startup.py tells how long this takes
    raise AssertionError((home / "up.log").read_text())


def left_running(home: Path) -> list[str]:
    """Processes that still belong to an installation."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLUICE_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
