"""`sluice up` on Apache Kafka with the simulated provider, for the benchmarks that measure the whole path."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

JARS = Path(__file__).parents[1] / ".sluice" / "kafka-jars"
START_S = 90.0


@dataclass
class Pipeline:
    """A running `sluice up`."""

    process: subprocess.Popen[bytes]
    home: Path
    services: dict[str, Any]
    started_s: float
    """From the start of the command to its `services.json`."""

    @property
    def edge(self) -> str:
        return str(self.services["edge"])

    @property
    def simulated(self) -> str:
        return str(self.services["simulated"])

    @property
    def key(self) -> dict[str, str]:
        """The header that names the tenant `demo`."""
        return {"Authorization": f"Bearer {(self.home / 'demo-key').read_text()}"}

    def processes(self) -> dict[str, psutil.Process]:
        """Every process of the pipeline by its name: the stages, and the services of our own."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if command:  # else it has just died
                    found[_name(command)] = child
        return found

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far."""
        times = {name: process.cpu_times() for name, process in self.processes().items()}
        return {name: found.user + found.system for name, found in times.items()}

    def ready_file(self, stage: str) -> Path:
        """Where a stage notes that it works."""
        return self.home / "run" / f"{stage}-0.json"


def _name(command: list[str]) -> str:
    if command[-2:-1] == ["run"]:
        return command[-1]
    known = {
        "kafka.Kafka": "kafka",
        "connectors.simulated": "provider",
        "connectors.local.clickhouse_server": "clickhouse",
    }
    return next((known[word] for word in command if word in known), Path(command[0]).name.split()[0])


def cpu_between(before: dict[str, float], after: dict[str, float], items: int) -> dict[str, int]:
    """Microseconds of CPU an item, by process."""
    return {name: round((after[name] - before[name]) / items * 1e6) for name in after if name in before}


@contextmanager
def running(policy: str, **more: str) -> Iterator[Pipeline]:
    """A pipeline under this policy (YAML) in a home of its own; its jars are those of the project."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what we start inherits it
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        home = Path(folder)
        JARS.mkdir(parents=True, exist_ok=True)
        (home / "kafka-jars").symlink_to(JARS)
        (home / "policy.yaml").write_text(policy)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        began = time.monotonic()
        with (home / "up.log").open("wb") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("sluice")), "up", "--port", "0", "--policy", home / "policy.yaml"],
                env=plain | {"SLUICE_HOME": folder, "SLUICE_KAFKA": "local"} | more,
                stdout=log,
                stderr=log,
            )
        try:
            services = _await_services(process, home)
            yield Pipeline(process, home, services, time.monotonic() - began)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_services(process: subprocess.Popen[bytes], home: Path) -> dict[str, Any]:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        if (home / "services.json").exists():
            services: dict[str, Any] = json.loads((home / "services.json").read_bytes())
            return services
        time.sleep(0.01)
    sys.exit(f"the pipeline did not start:\n{(home / 'up.log').read_text()}")
