"""One running system for the tests of a file, and the seed by which loads and schedules are drawn."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.system import System, started


def pytest_configure(config: pytest.Config) -> None:
    """A seed for the whole run."""
    if config.getoption("--seed") is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"fault tests: --seed {config.getoption('--seed')}{' --full' if config.getoption('--full') else ''}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure names the seed."""
    report = yield
    if report.failed and Path(__file__).parent in item.path.parents:
        report.sections.append(("seed", f"repeat with --seed {item.config.getoption('--seed')}"))
    return report


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """Fixes what is asked and when something breaks."""
    return int(request.config.getoption("--seed"))


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """All counts of the issue, or about a tenth."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that the tests of a file share; each leaves it whole."""
    with started(tmp_path_factory.mktemp("system")) as running:
        yield running
