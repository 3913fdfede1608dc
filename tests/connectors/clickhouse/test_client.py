"""The client: addresses, failures, and inserts that arrive once although they were sent twice."""

import socket

import clickhouse_connect
import pytest

from connectors.clickhouse.client import ClickHouse, ClickHouseFailed
from tests.connectors.clickhouse.lossy import LossyProxy

TABLE = "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000"
ROWS = [list(range(500))]


@pytest.fixture
def proxy(clickhouse: str):
    proxy = LossyProxy(clickhouse)
    yield proxy
    proxy.close()


def insert(house: ClickHouse, token: str) -> None:
    house.insert("t", ("n",), ("Int64",), ROWS, token)


def count(house: ClickHouse) -> int:
    return house.query("SELECT count() FROM t")[1][0][0]


def test_the_database_is_sluice_unless_the_address_names_one() -> None:
    assert ClickHouse("http://127.0.0.1:1").database == "sluice"
    assert ClickHouse("https://user:p%40ss@h:8443/other").database == "other"


def test_an_address_without_an_answer_is_a_failure_that_may_pass(url: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ClickHouseFailed) as caught:
            ClickHouse(f"http://127.0.0.1:{unused.getsockname()[1]}").query("SELECT 1")
    assert caught.value.code == 0


def test_a_refusal_carries_clickhouse_s_own_code(bare: ClickHouse) -> None:
    with pytest.raises(ClickHouseFailed) as caught:
        bare.query("SELECT * FROM nothing_of_the_kind")
    assert caught.value.code == 60
    assert bare.query("SELECT 1 AS one") == (("one",), [(1,)])


def test_a_percent_sign_is_just_a_character(bare: ClickHouse) -> None:
    assert bare.query("SELECT '50%d' LIKE '%0%' AS yes")[1] == [(1,)]


def test_the_same_token_adds_nothing(bare: ClickHouse) -> None:
    bare.command(TABLE)
    for token in ("one", "one", "two"):
        insert(bare, token)
    assert count(bare) == 1000


def test_an_insert_whose_answer_is_lost_arrives_once(bare: ClickHouse, proxy: LossyProxy) -> None:
    bare.command(TABLE)
    client = ClickHouse(f"{proxy.url}/{bare.database}")
    client.query("SELECT 1")
    proxy.lose = 1
    insert(client, "one")  # clickhouse-connect sends it again by itself
    client.close()
    assert proxy.inserts == 2
    assert count(bare) == 500


def test_control_without_token_and_window_the_lost_answer_doubles_the_rows(bare: ClickHouse, proxy: LossyProxy) -> None:
    bare.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
    host, port = proxy.url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(host=host, port=int(port), database=bare.database)
    proxy.lose = 1
    client.insert("t", [[n] for n in range(500)], column_names=["n"])
    client.close()
    assert count(bare) == 1000


def test_the_connection_comes_back_after_a_failure(bare: ClickHouse, proxy: LossyProxy) -> None:
    client = ClickHouse(f"{proxy.url}/{bare.database}")
    proxy.away = True
    with pytest.raises(ClickHouseFailed):
        client.query("SELECT 1")
    proxy.away = False
    assert client.query("SELECT 1")[1] == [(1,)]
    client.close()
