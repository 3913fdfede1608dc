"""`sluice up`: one process a stage, restarted when it dies; everything started and stopped in order."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from connectors.kafka import admin
from connectors.kafka.keys import list_keys, publish_key
from connectors.kafka.policies import publish_policy
from connectors.local.process import ServiceError, free_port, tethered
from processors.errors import Invalid
from processors.identity import key_hash
from processors.policy import VersionedPolicy
from streams import topology
from streams.installation import Installation
from streams.runtime import Context
from streams.settings import SERVICES_FILE, Services, Settings

LOCK = "lock"
START_S = 60.0
HOPELESS = 3
"""Restarts after which a stage that never was ready is given up at start."""
FIRST_DELAY_S, LONGEST_DELAY_S, STEADY_S = 0.2, 5.0, 30.0
"""Back-off between restarts: doubled each time, anew after a worker has lasted."""
PATIENCE_S = 2.5
"""How long a stage may take to end what is open when everything stops."""
SAY = Callable[[str], None]


class Worker:
    """One stage's process."""

    def __init__(self, context: Context, log: Path) -> None:
        self.context = context
        self._log = log
        self._delay = FIRST_DELAY_S
        self._started = 0.0
        self._due = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.leaving: list[subprocess.Popen[bytes]] = []
        """Predecessors that finish what they have open."""
        self.restarts = 0

    def start(self) -> None:
        """Start the process; `facts` tell when it works."""
        self.context.ready_file.unlink(missing_ok=True)
        self._started = time.monotonic()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                tethered([str(sluice_program()), "run", self.context.stage]),
                env=os.environ | environment(self.context.settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def facts(self) -> dict[str, Any] | None:
        """What the running process has announced; None while it is not ready."""
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            facts: dict[str, Any] = json.loads(self.context.ready_file.read_bytes())
            if self.process is not None and facts["pid"] == self.process.pid:
                return facts
        return None

    def tend(self, say: SAY) -> None:
        """Restart the process if it has died, after a delay that grows while it does not last. One that drains has
        left its place already, and one that was asked to end has done as it should: their successors start at once."""
        self.leaving = [process for process in self.leaving if process.poll() is None]
        if self.process is None:
            return
        if self.process.poll() is None:
            if (self.facts or {}).get("draining"):
                say(f"{self.context.member} is draining; its successor starts")
                self.leaving.append(self.process)
                self.start()
            return
        if self.process.returncode == 0 and self.facts:
            say(f"{self.context.member} has ended as it was asked to; its successor starts")
            self.restarts += 1
            self.start()
            return
        now = time.monotonic()
        if not self._due:
            if now - self._started > STEADY_S:
                self._delay = FIRST_DELAY_S
            self._due = now + self._delay
            say(f"{self.context.member} ended with status {self.process.returncode}; again in {self._delay:.1f} s")
            self._delay = min(2 * self._delay, LONGEST_DELAY_S)
        elif now >= self._due:
            self._due = 0.0
            self.restarts += 1
            self.start()

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        for process in [*self.leaving, *filter(None, [self.process])]:
            if process.poll() is None:
                process.send_signal(number)

    def wait(self, until: float) -> None:
        """Wait for its end until a point of monotonic time, then kill it."""
        for process in [*self.leaving, *filter(None, [self.process])]:
            try:
                process.wait(max(0.05, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Supervisor:
    """An installation with its stages."""

    def __init__(self, installation: Installation, policy: VersionedPolicy, say: SAY) -> None:
        self._installation = installation
        self._policy = policy
        self._say = say
        self.workers: dict[str, Worker] = {}
        self.services: Services | None = None
        self.key: str | None = None

    def start(self, progress: SAY = lambda _: None) -> Services:
        """Everything up to the point where requests are served.

        Raises:
            ServiceError: a service or a stage did not come up; names its log.
        """
        progress("starting " + ", ".join(service.name for service in self._installation.services))
        settings = with_ports(self._installation.start())
        progress("topics")
        found, own = admin.partitions(settings.kafka), self._installation.development
        shape = topology.load().sized(found, settings.partitions, own=own)
        admin.apply(settings.kafka, shape.specs(), shape.groups(), embedded=settings.embedded)
        progress("policy, keys; starting " + ", ".join(shape.stages))
        if found:  # no stage may begin under the policy that stands there
            self._publish(settings)
        self._start_stages(settings, list(shape.stages))
        if not found:  # a new broker takes a second for its first record, which the stages wait for
            self._publish(settings)
        self._await_stages()
        edge = self.workers["edge"].facts or {}
        self.services = Services(
            kafka=settings.kafka,
            redis=settings.redis,
            clickhouse=settings.clickhouse,
            embedded=settings.embedded,
            simulated=settings.simulated,
            edge=edge.get("url", ""),
            metrics=edge.get("metrics", ""),
            pid=os.getpid(),
        )
        file = settings.home / SERVICES_FILE
        draft = file.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self.services))
        draft.replace(file)
        return self.services

    def tend(self) -> None:
        """Restart what has died: stages, and services of our own."""
        for worker in self.workers.values():
            worker.tend(self._say)
        for service in self._installation.services:
            if service.pid is None:
                self._say(f"{service.name} has died; starting it again")
                service.start()

    def stop(self) -> None:
        """End open streams as `failed: shutdown`, deliver and record their ends, and stop everything."""
        until = time.monotonic() + PATIENCE_S
        for name in ("admission", "fill", "health"):
            self._signal(name, signal.SIGTERM)
        for name in ("edge", "dispatch"):  # at SIGTERM they would wait for successors
            self._signal(name, signal.SIGINT)
        self._wait(("admission", "dispatch"), until)
        self._signal("guard", signal.SIGTERM)
        self._wait(("guard", "edge"), until)
        self._signal("sink", signal.SIGTERM)
        self._wait(tuple(self.workers), max(until, time.monotonic() + 1.5))
        self._installation.stop()
        (self._installation.settings.home / SERVICES_FILE).unlink(missing_ok=True)

    def _publish(self, settings: Settings) -> None:
        publish_policy(settings.kafka, self._policy)
        if self._installation.development:
            self.key = development_key(settings)

    def _start_stages(self, settings: Settings, stages: list[str]) -> None:
        logs = settings.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for name in stages:
            self.workers[name] = Worker(Context(name, settings), logs / f"{name}.log")
            self.workers[name].start()

    def _await_stages(self) -> None:
        give_up = time.monotonic() + START_S
        waiting = set(self.workers)
        while waiting:
            waiting = {name for name in waiting if self.workers[name].facts is None}
            for name in waiting:
                self.workers[name].tend(self._say)
                if self.workers[name].restarts >= HOPELESS:
                    raise ServiceError(f"{name} does not start; its log ends:\n{self.workers[name].last_words()}")
            if time.monotonic() > give_up:
                names, logs = ", ".join(sorted(waiting)), self._installation.settings.home / "logs"
                raise ServiceError(f"not ready within {START_S:g} s: {names}; see {logs}")
            time.sleep(0.02)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if name in self.workers:
            self.workers[name].signal(number)

    def _wait(self, names: tuple[str, ...], until: float) -> None:
        for name in names:
            if name in self.workers:
                self.workers[name].wait(until)


def environment(settings: Settings) -> dict[str, str]:
    """Settings as variables of a stage's process."""
    values = {f"SLUICE_{item.name.upper()}": getattr(settings, item.name) for item in fields(settings)}
    return {
        name: str(int(value) if isinstance(value, bool) else value)
        for name, value in values.items()
        if value is not None
    }


def sluice_program() -> Path:
    """The command of this installation, so that a stage's process shows `sluice run STAGE`."""
    return Path(sys.executable).with_name("sluice")


def development_key(settings: Settings) -> str:
    """The key of tenant `demo` in a home of its own broker; made once, readable by its owner alone."""
    file = settings.home / "demo-key"
    if not file.exists():
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text("sk-sluice-" + os.urandom(32).hex())
        draft.replace(file)
    key = file.read_text()
    if key_hash(key) not in list_keys(settings.kafka):  # else it stands there, or was revoked
        publish_key(settings.kafka, key, tenant="demo", name="development")
    return key


def with_ports(settings: Settings) -> Settings:
    """Ports chosen once, so that a restarted edge is found where the one before was."""
    port, metrics_port = settings.port or free_port(), settings.metrics_port or free_port()
    return replace(settings, port=port, metrics_port=metrics_port)


def with_home(settings: Settings) -> Settings:
    """Settings whose home exists, is absolute (stages run beside us), and is ours alone until this process ends.

    Raises:
        Invalid: another `sluice up` runs there.
    """
    home = settings.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)  # held open: the kernel frees it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Invalid("SLUICE_HOME", f"another pipeline runs in {home}; stop it, or name another home") from None
    return replace(settings, home=home)
