"""The services under test, each started once; tests that kill one start their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from connectors.local import kafka as local_kafka
from connectors.local.clickhouse import LocalClickHouse
from connectors.local.kafka import LocalKafka

ROOT = Path(__file__).parents[3]
JARS = ROOT / ".sluice" / "kafka-jars"
"""Kept between runs: 43 MB."""


@pytest.fixture(scope="package")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClickHouse]:
    service = LocalClickHouse(tmp_path_factory.mktemp("clickhouse"))
    service.start()
    yield service
    service.stop()


Connect = Callable[..., Client]


@pytest.fixture
def connect(clickhouse: LocalClickHouse) -> Iterator[Connect]:
    """Opens clients; keywords are those of `clickhouse_connect.get_client`."""
    clients: list[Client] = []

    def opened(**options: Any) -> Client:
        clients.append(clickhouse_connect.get_client(host="127.0.0.1", port=clickhouse.port, **options))
        return clients[-1]

    yield opened
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    """A broker that has not been started."""
    missing = local_kafka.available()
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Apache Kafka here: {missing}")
    service = LocalKafka(tmp_path / "kafka", ROOT / "compose" / "kafka", JARS)
    yield service
    service.kill()
