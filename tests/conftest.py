"""The services that tests run against, each started once, and what is said where one is missing."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from connectors.local import kafka as local_kafka
from connectors.local.clickhouse import LocalClickHouse
from connectors.local.kafka import LocalKafka
from connectors.local.redis import LocalRedis

ROOT = Path(__file__).parents[1]
JARS = ROOT / ".sluice" / "kafka-jars"
"""Kept between runs, and shared with `sluice up`: 43 MB."""

settings.register_profile("sluice", deadline=None, print_blob=True)
settings.load_profile("sluice")

MISSING = {
    "kafka": local_kafka.available,
    "node": lambda: None if _on_path("node") and _on_path("npm") else "node and npm are not on PATH",
    "mounts": lambda: _no_mounts(),
}
_skipped: dict[str, list[str]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of the fault tests is run, and by which schedule."""
    parser.addoption("--full", action="store_true", help="fault tests with all counts (`make faults`), not a tenth")
    parser.addoption("--seed", type=int, help="seed of the fault tests' loads and schedules; else a random one")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where workers share the suite by files; any other `--dist` is as xdist has it."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.spread import Spread  # which only they need

    return Spread(config, log)


def _no_mounts() -> str | None:
    mount = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"a mount namespace is needed: {error}"
    return f"a mount namespace is refused: {refused.stderr.strip()}" if refused.returncode else None


def _on_path(program: str) -> bool:
    return any(os.access(Path(folder) / program, os.X_OK) for folder in os.get_exec_path())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose real component is missing fails in CI; elsewhere it is skipped and named at the end."""
    for name, missing in MISSING.items():
        reason = missing() if item.get_closest_marker(name) else None
        if reason is None:
            continue
        if os.environ.get("CI"):
            pytest.fail(f"CI must have what this test needs: {reason}")
        _skipped.setdefault(reason, []).append(item.nodeid)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name loudly what was not tested."""
    for reason, tests in _skipped.items():
        terminalreporter.section(f"NOT TESTED: {reason}", red=True, bold=True)
        for test in tests:
            terminalreporter.line(test)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of an Apache Kafka shared by all tests; mark them with `kafka`."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), ROOT / "compose" / "kafka", JARS)
    yield broker.start()
    broker.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Redis shared by all tests."""
    server = LocalRedis(tmp_path_factory.mktemp("redis"))
    yield server.start()
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[LocalRedis]:
    """A running Redis of the test's own, for it to stop and kill."""
    server = LocalRedis(tmp_path / "redis")
    server.start()
    yield server
    if server.pid is not None:
        os.kill(server.pid, signal.SIGCONT)
    server.kill()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of ClickHouse's HTTP interface shared by all tests."""
    server = LocalClickHouse(tmp_path_factory.mktemp("clickhouse"))
    yield server.start()
    server.stop()
