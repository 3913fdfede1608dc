"""The unmodified clickhouse-connect client against the local server."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

COLUMNS = ["id", "tenant", "at", "tags", "counts", "score", "uid", "text"]
ROWS: list[list[Any]] = [
    [n, f"t{n % 3}", datetime(2026, 1, 1, tzinfo=UTC), ["a", "ж"], {"x": n}, None, UUID(int=n), "'\\\n\t"]
    for n in range(50)
]


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    """A table with the types that our own tables use, and a view that depends on it."""
    client.command(
        "CREATE TABLE events (id UInt64, tenant LowCardinality(String), at DateTime64(3, 'UTC'), tags Array(String),"
        " counts Map(String, UInt64), score Nullable(Float64), uid UUID, text String, kind String DEFAULT 'new')"
        " ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"
    )
    client.command(
        "CREATE MATERIALIZED VIEW by_tenant (tenant LowCardinality(String), n UInt64) ENGINE = SummingMergeTree"
        " ORDER BY tenant SETTINGS non_replicated_deduplication_window = 100"
        " AS SELECT tenant, count() AS n FROM events GROUP BY tenant"
    )
    yield "events"
    client.command("DROP TABLE by_tenant")
    client.command("DROP TABLE events")


def count(client: Client, table: str) -> int:
    result = client.command(f"SELECT count() FROM {table}")
    assert isinstance(result, int)
    return result


def test_connects_and_tells_itself(client: Client) -> None:
    assert client.server_version.startswith("26.")
    assert client.ping()
    assert client.command("SELECT 1") == 1
    assert client.command("SELECT 'a', 'b'") == ["a", "b"]
    assert client.query("SELECT number, 'x' AS s FROM numbers(3)").result_rows == [(0, "x"), (1, "x"), (2, "x")]


def test_rows_come_back_as_they_went_in(client: Client, table: str) -> None:
    summary = client.insert(table, ROWS, column_names=COLUMNS)
    assert summary.written_rows == 50 + 3, "the view's rows count too, as on ClickHouse"
    assert summary.query_id()
    read = client.query(f"SELECT {', '.join(COLUMNS)} FROM {table} ORDER BY id", tz_mode="aware")
    assert [list(row) for row in read.result_rows] == ROWS
    assert read.column_names == tuple(COLUMNS)
    assert client.command(f"SELECT DISTINCT kind FROM {table}") == "new", "what was not given has its default"


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_compressed_inserts_and_answers(connect: Callable[..., Client], table: str, compress: bool | str) -> None:
    client = connect(compress=compress)
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    client.insert(table, columns, column_names=COLUMNS, column_oriented=True)
    assert len(client.query(f"SELECT * FROM {table}").result_rows) == 50


def test_a_token_is_inserted_once_in_table_and_view(client: Client, table: str) -> None:
    settings = {
        "insert_deduplication_token": "journal:0:17-42",
        "deduplicate_blocks_in_dependent_materialized_views": 1,
    }
    for _ in range(2):
        client.insert(table, ROWS, column_names=COLUMNS, settings=settings)
    assert count(client, table) == 50
    assert client.command("SELECT sum(n) FROM by_tenant") == 50
    client.insert(table, ROWS, column_names=COLUMNS, settings=settings | {"insert_deduplication_token": "other"})
    assert count(client, table) == 100


def test_raw_inserts(client: Client, table: str) -> None:
    client.raw_insert(table, ["id", "tenant"], '{"id": 1, "tenant": "a"}\n{"id": 2}\n', fmt="JSONEachRow")
    client.raw_insert(table, ["id"], b"3\n4\n", fmt="CSV")
    client.raw_insert(table, ["id"], (line for line in (b"5\n", b"6\n")), fmt="CSV")  # the statement travels in the URL
    client.command(f"INSERT INTO {table} (id) VALUES (7)")
    assert client.query(f"SELECT id FROM {table} ORDER BY id").result_columns == [[1, 2, 3, 4, 5, 6, 7]]


def test_a_bad_row_adds_nothing(client: Client, table: str) -> None:
    with pytest.raises(DatabaseError) as error:
        client.raw_insert(table, ["id"], "1\n2\nthree\n", fmt="CSV")
    assert error.value.name == "INCORRECT_DATA"
    assert count(client, table) == 0


def test_parameters(client: Client) -> None:
    given = {
        "n": 7,
        "s": "it's \\ 'quoted'\n\tж",
        "list": ["a'b", "c"],
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    read = client.query("SELECT {n:UInt8}, {s:String}, {list:Array(String)}, {at:DateTime('UTC')}", parameters=given)
    assert read.result_rows == [(7, given["s"], given["list"], datetime(2026, 1, 2, 3, 4, 5))]
    long = "x" * 50_000  # in the URL of a command, in the form of a query
    assert client.command("SELECT length({s:String})", parameters={"s": long}) == 50_000
    assert client.query("SELECT {s:String}", parameters={"s": long}).first_row == (long,)


def test_databases(client: Client, connect: Callable[..., Client]) -> None:
    client.command("CREATE DATABASE IF NOT EXISTS other")
    other = connect(database="other")
    other.command("CREATE TABLE t (a UInt8) ENGINE = Memory")
    other.insert("t", [[1]], column_names=["a"])
    assert client.command("SELECT count() FROM other.t") == 1
    with pytest.raises(DatabaseError) as error:
        client.command("SELECT count() FROM t")
    assert (error.value.code, error.value.name) == (60, "UNKNOWN_TABLE")
    client.command("DROP DATABASE other")


def test_settings_last_for_one_statement(client: Client) -> None:
    assert client.command("SELECT getSetting('max_threads')") == 1
    assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 3}) == 3
    assert client.command("SELECT getSetting('max_threads')") == 1


def test_columns_only_and_empty_answers(client: Client) -> None:
    assert client.query("SELECT 1 AS a, 'x' AS b LIMIT 0").column_names == ("a", "b")
    assert client.query("SELECT number FROM numbers(0)").result_rows == []


def test_streams_of_blocks_and_raw_answers(client: Client) -> None:
    with client.query_column_block_stream("SELECT number FROM numbers(200000)") as blocks:
        assert sum(len(block[0]) for block in blocks) == 200_000
    assert client.raw_query("SELECT 1 AS a", fmt="JSONEachRow") == b'{"a":1}\n'


def test_what_needs_a_session_is_refused(client: Client) -> None:
    for statement in ("SET max_threads = 2", "CREATE TEMPORARY TABLE t (a UInt8)"):
        with pytest.raises(DatabaseError) as error:
            client.command(statement)
        assert error.value.name == "NOT_IMPLEMENTED"


@pytest.mark.parametrize(
    ("statement", "code", "name"),
    [
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT * FROM nothing", 60, "UNKNOWN_TABLE"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("INSERT INTO nothing VALUES (1)", 60, "UNKNOWN_TABLE"),
    ],
)
def test_errors_keep_code_and_name(client: Client, statement: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as error:
        client.command(statement)
    assert (error.value.code, error.value.name) == (code, name)


async def test_the_asynchronous_client(clickhouse: Any) -> None:
    import clickhouse_connect

    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=clickhouse.port)
    assert (await client.query("SELECT 1")).result_rows == [(1,)]
    await client.close()
