"""Databases on the one ClickHouse."""

import itertools
from collections.abc import Iterator

import pytest

from connectors.clickhouse.client import ClickHouse
from connectors.clickhouse.migrate import migrate
from processors.sink.rows import TABLES

_numbers = itertools.count()


@pytest.fixture
def url(clickhouse: str) -> Iterator[str]:
    """The address of a database that does not exist yet; dropped afterwards."""
    name = f"client_{next(_numbers)}"
    yield f"{clickhouse}/{name}"
    house = ClickHouse(f"{clickhouse}/default")
    house.command(f"DROP DATABASE IF EXISTS {name}")
    house.close()


@pytest.fixture
def bare(url: str) -> Iterator[ClickHouse]:
    """A client of an empty database."""
    client = ClickHouse(url)
    client.create_database()
    yield client
    client.close()


@pytest.fixture(scope="module")
def migrated(clickhouse: str) -> Iterator[ClickHouse]:
    client = ClickHouse(f"{clickhouse}/tables")
    migrate(client)
    yield client
    client.command("DROP DATABASE tables")
    client.close()


@pytest.fixture
def house(migrated: ClickHouse) -> ClickHouse:
    """A client of a database with our tables, all of them empty."""
    clear(migrated)
    return migrated


def clear(house: ClickHouse) -> None:
    """Empty our tables."""
    for table in TABLES.values():
        house.command(f"TRUNCATE TABLE {table.log}")
