"""Migrations: once, in order, the same for everybody, also when several begin at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from connectors.clickhouse.client import ClickHouse, ClickHouseFailed
from connectors.clickhouse.migrate import Migration, MigrationChanged, migrate, shipped
from processors.sink.rows import TABLES

FIRST = Migration(
    1, "0001_first.sql", "-- why; not what\nCREATE TABLE IF NOT EXISTS a (n Int64) ENGINE = MergeTree ORDER BY n;\n"
)
SECOND = Migration(
    2, "0002_second.sql", "CREATE OR REPLACE VIEW b AS SELECT * FROM a;\nCREATE OR REPLACE VIEW c AS SELECT 1;"
)


@pytest.fixture
def client(url: str):
    house = ClickHouse(url)
    yield house
    house.close()


def test_each_file_is_applied_once(client: ClickHouse) -> None:
    assert migrate(client, [FIRST]) == ["0001_first.sql"]
    assert migrate(client, [FIRST, SECOND]) == ["0002_second.sql"]
    assert migrate(client, [FIRST, SECOND]) == []
    assert client.query("SELECT count() FROM b")[1] == [(0,)]


def test_a_file_changed_after_it_was_applied_is_named(client: ClickHouse) -> None:
    migrate(client, [FIRST, SECOND])
    with pytest.raises(MigrationChanged, match="0001_first"):
        migrate(client, [FIRST._replace(sql=FIRST.sql + "SELECT 1;"), SECOND])


def test_a_half_applied_file_is_gone_through_again(client: ClickHouse) -> None:
    broken = SECOND._replace(sql=SECOND.sql + "\nCREATE VIEW d AS SELECT * FROM missing;")
    with pytest.raises(ClickHouseFailed):
        migrate(client, [FIRST, broken])
    assert migrate(client, [FIRST, SECOND]) == ["0002_second.sql"]


def test_a_newer_version_s_files_are_left_alone(client: ClickHouse) -> None:
    migrate(client, [FIRST, SECOND])
    assert migrate(client, [FIRST]) == []


def test_several_processes_may_begin_at_once(url: str) -> None:
    clients = [ClickHouse(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, clients))
    assert any(applied)
    assert clients[0].query("SELECT version, count() FROM migrations FINAL GROUP BY version ORDER BY version")[1] == [
        (item.version, 1) for item in shipped()
    ]
    for house in clients:
        house.close()


def test_every_table_of_the_sink_is_there_as_the_sink_fills_it(house: ClickHouse) -> None:
    for table in TABLES.values():
        columns = dict(
            house.query(
                f"SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '{table.log}' "
                "AND default_kind = ''"
            )[1]
        )
        stored = {
            name: kind.replace("LowCardinality(String)", "String").replace("Bool", "UInt8")
            for name, kind in columns.items()
        }
        assert stored == dict(zip(table.columns, table.types, strict=True)), table.name
        house.query(f"SELECT event_id FROM {table.name}")


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [item.version for item in shipped()] == list(range(1, len(shipped()) + 1))
