"""One pipeline on Apache Kafka for all end-to-end tests; those that break it start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.pipeline import Pipeline, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that share the pipeline need Apache Kafka."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "pipeline" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


@pytest.fixture(scope="package")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(tmp_path_factory.mktemp("pipeline")) as started:
        yield started
