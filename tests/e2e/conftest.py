"""One pipeline on Apache Kafka for all end-to-end tests; those that break it start their own."""

from collections.abc import Iterator

import pytest

from tests.e2e.pipeline import Pipeline, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "pipeline" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(tmp_path_factory.mktemp("pipeline")) as started:
        yield started
