"""`sluice up` on Apache Kafka with the simulated provider, for the benchmarks that measure the whole path."""

import contextlib
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.pipeline import running as up


@dataclass
class Pipeline:
    """A running `sluice up`."""

    process: subprocess.Popen[str]
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
        (home / "policy.yaml").write_text(policy)
        began = time.monotonic()
        with up(home, policy=home / "policy.yaml", **{"SLUICE_PARTITIONS": ""} | more) as started:
            yield Pipeline(started.process, home, started.services, time.monotonic() - began)
