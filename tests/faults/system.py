"""The real system, with every part in reach: services of our own beside a `sluice up` that supervises the stages.

    with started(home) as system:
        system.kafka.kill(); system.kafka.start()   # Apache Kafka; likewise redis, clickhouse, simulated
        kill = system.kill("guard")                 # kill -9; `sluice up` starts it again
        system.recovered(kill)                      # seconds until its successor works
        with system.second("dispatch") as process:  # a second worker of a stage
            ...

Services die with the thread that starts them: (re)start them from the test's own.
"""

import json
import os
import secrets
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from connectors.kafka.keys import PREFIX, publish_key
from connectors.local.clickhouse import LocalClickHouse
from connectors.local.kafka import LocalKafka
from connectors.local.redis import LocalRedis
from connectors.local.simulated import LocalSimulated
from tests.conftest import JARS, ROOT
from tests.e2e.pipeline import SLUICE, Pipeline, environment, running
from tests.faults.evidence import Kill

POLICY = Path(__file__).with_name("policy.yaml")
RECOVER_S = 60.0
"""Guards against hanging; what is promised is asserted by the tests."""
STAGES = ("admission", "dispatch", "guard", "edge", "fill", "health", "sink")


class Recovery(NamedTuple):
    """How long a killed stage was away, in seconds."""

    total_s: float
    """From the kill until its successor said that it works."""
    own_s: float
    """The same from the successor's start: without the supervisor's back-off, which grows from kill to kill."""


@dataclass
class System:
    """Addresses and processes of a running system."""

    kafka: LocalKafka
    redis: LocalRedis
    clickhouse: LocalClickHouse
    simulated: LocalSimulated
    pipeline: Pipeline
    key: str

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def edges(self) -> list[str]:
        """Where clients knock; a test that starts a second edge appends its address to what it hands to them."""
        return [self.pipeline.url]

    @property
    def home(self) -> Path:
        """SLUICE_HOME of the stages."""
        return self.pipeline.home

    @property
    def settings(self) -> dict[str, str]:
        """The variables under which a stage of ours joins this system."""
        return {
            "SLUICE_KAFKA": self.kafka.address,
            "SLUICE_REDIS": self.redis.address,
            "SLUICE_CLICKHOUSE": self.clickhouse.address,
            "SLUICE_SIMULATED": self.simulated.address,
        }

    def pid(self, stage: str, instance: int = 0) -> int | None:
        """The process of a stage's worker that works now; None while there is none."""
        try:
            pid = int(json.loads((self.home / "run" / f"{stage}-{instance}.json").read_bytes())["pid"])
        except FileNotFoundError:
            return None
        try:
            return pid if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def kill(self, stage: str, number: signal.Signals = signal.SIGKILL) -> Kill:
        """End a stage's process, at once or by another signal."""
        process = self.pipeline.stage(stage)
        kill = Kill(stage, time.time() * 1000, time.monotonic(), process.pid)
        process.send_signal(number)
        return kill

    def freeze(self, stage: str) -> Kill:
        """Stop a stage's process where it stands, until `wake`."""
        return self.kill(stage, signal.SIGSTOP)

    def wake(self, frozen: Kill) -> Kill:
        """Let it go on; the same fault, with its end."""
        psutil.Process(frozen.pid).resume()
        return frozen._replace(until_ms=time.time() * 1000)

    def owners(self, group: str) -> Counter[str]:
        """How many partitions each member of a group has, by instance id; nothing while the group moves them."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        found = admin.describe_consumer_groups([group])[group].result(20)
        if found.state != ConsumerGroupState.STABLE:
            return Counter()
        return Counter({str(item.group_instance_id): len(item.assignment.topic_partitions) for item in found.members})

    def recovered(self, kill: Kill) -> Recovery:
        """Wait until the successor of a killed stage works."""
        give_up = time.monotonic() + RECOVER_S
        while (pid := self.pid(kill.stage)) in (None, kill.pid):
            assert time.monotonic() < give_up, f"{kill.stage} is not back: {self.log(kill.stage)}"
            time.sleep(0.005)
        assert pid is not None
        return Recovery(time.monotonic() - kill.at, time.clock_gettime(time.CLOCK_BOOTTIME) - start_of(pid))

    def log(self, stage: str) -> str:
        """The last lines a stage has logged."""
        return "\n".join((self.home / "logs" / f"{stage}.log").read_text(errors="replace").splitlines()[-15:])

    @contextmanager
    def second(self, stage: str, instance: int = 1, **settings: str) -> Iterator[psutil.Popen]:
        """A further worker of a stage, beside the supervised one, from when it works; killed in the end if it runs."""
        ready = self.home / "run" / f"{stage}-{instance}.json"
        ready.unlink(missing_ok=True)
        more = environment(self.home, **self.settings, SLUICE_INSTANCE=str(instance), **settings)
        with (self.home / "logs" / f"{stage}-{instance}.log").open("ab") as log:
            process = psutil.Popen([SLUICE, "run", stage], env=more, stdout=log, stderr=log)
        try:
            give_up = time.monotonic() + RECOVER_S
            while self.pid(stage, instance) != process.pid:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def strike(what: str) -> Kill:
    """A fault of now that is no stage's death."""
    return Kill(what, time.time() * 1000, time.monotonic())


@contextmanager
def stopped(pid: int | None) -> Iterator[Kill]:
    """A process that hangs: SIGSTOP until the block ends."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield strike("stop")
    finally:
        os.kill(pid, signal.SIGCONT)


def start_of(pid: int) -> float:
    """When a process began, in seconds since the machine's start; psutil's own answer is rounded to whole ones."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(
    home: Path, policy: Path = POLICY, *, clickhouse: LocalClickHouse | None = None, **settings: str
) -> Iterator[System]:
    """A system until the block ends. `settings` are further SLUICE_* variables of the stages; `clickhouse` is one that
    a test has made beforehand, because something stands between it and the stages."""
    kafka = LocalKafka(home / "kafka", ROOT / "compose" / "kafka", JARS)
    redis, clickhouse = LocalRedis(home / "redis"), clickhouse or LocalClickHouse(home / "clickhouse")
    simulated = LocalSimulated(home / "simulated")
    services = (kafka, redis, clickhouse, simulated)
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.stop, 2.0)
            service.launch()
        for service in services:
            service.await_ready()
        named = {
            "SLUICE_REDIS": redis.address, "SLUICE_CLICKHOUSE": clickhouse.address,
            "SLUICE_SIMULATED": simulated.address,
        }  # fmt: skip
        pipeline = stack.enter_context(running(home / "sluice", kafka.address, policy, **named | settings))
        key = PREFIX + secrets.token_urlsafe(32)
        publish_key(kafka.bootstrap, key, tenant="demo", name="faults")
        await_key(pipeline.url, key)
        yield System(kafka, redis, clickhouse, simulated, pipeline, key)


def await_key(url: str, key: str) -> None:
    """Until the edge knows the key."""
    give_up = time.monotonic() + RECOVER_S
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < give_up
            time.sleep(0.02)
