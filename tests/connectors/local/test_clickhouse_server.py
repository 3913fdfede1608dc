"""ClickHouse's HTTP interface as plain HTTP clients see it, and what its process survives."""

import gzip
import http.client
import json
import os
import signal
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
import lz4.frame
import pytest

from connectors.local.clickhouse import LocalClickHouse
from connectors.local.clickhouse_server import status_of
from connectors.local.process import CHECKOUT, python
from tests.connectors.local.small_disk import SmallDisk

SLOW = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout


def await_busy(service: LocalClickHouse) -> None:
    """Return once the only thread is at work: a statement that takes a moment has to wait."""
    with suppress(TimeoutError):
        while True:
            with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=0.2)) as connection:
                connection.request("POST", "/", b"SELECT 1")
                connection.getresponse()


Told = tuple[int, dict[str, str], bytes]


def ask(service: LocalClickHouse, body: bytes = b"", method: str = "POST", **parameters: str) -> Told:
    return ask_with(service, {}, body, method, **parameters)


def ask_with(service: LocalClickHouse, headers: dict[str, str], body: bytes, method: str, **parameters: str) -> Told:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)) as connection:
        connection.request(method, f"/?{urlencode(parameters)}", body, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def test_curl(clickhouse: LocalClickHouse) -> None:
    address = clickhouse.address
    assert curl(f"{address}/ping") == "Ok.\n"
    assert curl(f"{address}/") == "Ok.\n"
    assert curl(f"{address}/?query=SELECT%201") == "1\n"
    assert curl("--data-binary", "SELECT 1 AS a FORMAT JSONEachRow", address) == '{"a":1}\n'
    assert curl("--compressed", "-H", "Accept-Encoding: gzip, zstd", "--data-binary", "SELECT 1", address) == "1\n"
    assert curl("--data-binary", "SELECT 1, 2", f"{address}/?default_format=CSV") == "1,2\n"
    assert curl("--data-binary", "1, 2", f"{address}/?query=SELECT") == "1\t2\n", "the text is the query, then the body"
    assert curl("--data-binary", "SELECT {a:UInt8} + 1", f"{address}/?param_a=2") == "3\n"
    assert curl("-F", "query=SELECT {a:String}", "-F", "param_a=x", address) == "x\n"


def test_headers(clickhouse: LocalClickHouse) -> None:
    status, headers, body = ask(clickhouse, b"SELECT 1 AS a FORMAT JSON", query_id="mine")
    assert (status, json.loads(body)["data"]) == (200, [{"a": 1}])
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Format"] == "JSON"
    assert headers["X-ClickHouse-Timezone"]
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(headers["X-ClickHouse-Summary"])["result_rows"] == "1"


def test_format_and_database_by_header(clickhouse: LocalClickHouse) -> None:
    headers = {"X-ClickHouse-Format": "JSONEachRow", "X-ClickHouse-Database": "system"}
    assert ask_with(clickhouse, headers, b"SELECT dummy FROM one", "POST")[2] == b'{"dummy":0}\n'


def test_get_only_reads(clickhouse: LocalClickHouse) -> None:
    status, headers, body = ask(clickhouse, method="GET", query="CREATE TABLE got (a UInt8) ENGINE = Memory")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert b"READONLY" in body
    assert ask(clickhouse, method="GET", query="SELECT 1", max_threads="2")[2] == b"1\n"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELEC 1", 400, "62"),
        ("SELECT * FROM nothing", 404, "60"),
        ("SELECT no_such_function(1)", 404, "46"),
        ("SELECT {a:UInt8}", 500, "456"),
        ("SELECT throwIf(1)", 500, "395"),
        ("SELECT number FROM numbers(10) SETTINGS max_result_rows = 5", 500, "396"),
    ],
)
def test_errors_look_as_they_do_on_clickhouse(clickhouse: LocalClickHouse, query: str, status: int, code: str) -> None:
    got, headers, body = ask(clickhouse, query.encode())
    assert (got, headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert body.endswith(b"\n")


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"database": "nowhere"}, 404, "81"),
        ({"no_such_setting": "1"}, 404, "115"),
        ({"max_threads = 1; --": "1"}, 404, "115"),
        ({"compress": "1"}, 501, "48"),
        ({"decompress": "1"}, 501, "48"),
    ],
)
def test_what_the_url_may_not_ask(
    clickhouse: LocalClickHouse, parameters: dict[str, str], status: int, code: str
) -> None:
    got, headers, _ = ask(clickhouse, b"SELECT 1", **parameters)
    assert (got, headers["X-ClickHouse-Exception-Code"]) == (status, code)


def test_names_and_values_are_quoted(clickhouse: LocalClickHouse) -> None:
    assert ask(clickhouse, b"SELECT 1", database="a`; DROP DATABASE default; --")[0] == 404
    quoted = "it's \\'; SELECT 2"
    assert ask(clickhouse, b"SELECT getSetting('log_queries_probability')", log_queries_probability="0.5")[0] == 200
    assert ask(clickhouse, b"SELECT {a:String} FORMAT TSVRaw", param_a=quoted.replace("\\", "\\\\"))[2] == (
        quoted.encode() + b"\n"
    )


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"SELECT ", mtime=0) + gzip.compress(b"1", mtime=0)),
        ("deflate", zlib.compress(b"SELECT 1")),
        ("lz4", lz4.frame.compress(b"SELECT ") + lz4.frame.compress(b"1")),
        ("identity", b"SELECT 1"),
    ],
)
def test_encoded_bodies(clickhouse: LocalClickHouse, encoding: str, body: bytes) -> None:
    status, headers, told = ask_with(clickhouse, {"Content-Encoding": encoding}, body, "POST")
    assert (status, told) == (200, b"1\n")
    assert "Content-Encoding" not in headers


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd", "br"])
def test_a_broken_or_unknown_encoding_is_said(clickhouse: LocalClickHouse, encoding: str) -> None:
    status, _, told = ask_with(clickhouse, {"Content-Encoding": encoding}, b"SELECT 1", "POST")
    assert status == (501 if encoding == "br" else 500)
    assert encoding.encode() in told


def test_a_cut_body_inserts_nothing(clickhouse: LocalClickHouse) -> None:
    ask(clickhouse, b"CREATE TABLE cut (a UInt64) ENGINE = MergeTree ORDER BY a")
    whole = lz4.frame.compress(b"INSERT INTO cut FORMAT CSV\n" + b"1\n" * 1000)
    assert ask_with(clickhouse, {"Content-Encoding": "lz4"}, whole[:-20], "POST")[0] == 500
    assert ask(clickhouse, b"SELECT count() FROM cut")[2] == b"0\n"
    assert ask_with(clickhouse, {"Content-Encoding": "lz4"}, whole, "POST")[0] == 200
    assert ask(clickhouse, b"SELECT count() FROM cut")[2] == b"1000\n"
    ask(clickhouse, b"DROP TABLE cut")


def test_external_tables_are_refused(clickhouse: LocalClickHouse) -> None:
    told = curl("-F", "query=SELECT 1", "-F", "t=@-;filename=t", clickhouse.address + "/?t_structure=a+UInt8")
    assert "external tables (t)" in told


def test_web_pages_are_refused(clickhouse: LocalClickHouse) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "rebound.example"}):
        assert ask_with(clickhouse, headers, b"SELECT 1", "POST")[0] == 403
    assert ask_with(clickhouse, {"Origin": clickhouse.address}, b"SELECT 1", "POST")[0] == 200


def test_a_slow_query_leaves_ping_alone_and_ends_with_its_client(clickhouse: LocalClickHouse) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", clickhouse.port, timeout=20)) as slow:
        slow.request("POST", "/", SLOW.encode())
        await_busy(clickhouse)
        with closing(http.client.HTTPConnection("127.0.0.1", clickhouse.port, timeout=1)) as quick:
            for _ in range(50):
                quick.request("GET", "/ping")
                assert quick.getresponse().read() == b"Ok.\n"
    assert ask(clickhouse, b"SELECT 1")[2] == b"1\n", "the only thread is free again"


def test_clients_that_leave_at_once_leave_nothing_running(clickhouse: LocalClickHouse) -> None:
    for _ in range(20):
        with closing(http.client.HTTPConnection("127.0.0.1", clickhouse.port, timeout=20)) as slow:
            slow.request("POST", "/", SLOW.encode())
    assert ask(clickhouse, b"SELECT 1")[2] == b"1\n"


def test_status_of_names() -> None:
    assert [status_of(name) for name in ("CANNOT_PARSE_TEXT", "UNKNOWN_TABLE", "UNKNOWN_EXCEPTION")] == [400, 404, 500]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalClickHouse]:
    """One to be killed."""
    service = LocalClickHouse(tmp_path / "clickhouse")
    yield service
    service.kill()


def test_acknowledged_rows_survive_sigkill_and_restart(own: LocalClickHouse) -> None:
    address = own.start()
    window = "SETTINGS non_replicated_deduplication_window = 100"
    assert ask(own, f"CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a {window}".encode())[0] == 200
    client = clickhouse_connect.get_client(host="127.0.0.1", port=own.port)
    settings = {"insert_deduplication_token": "one"}
    client.insert("t", [[n] for n in range(1000)], column_names=["a"], settings=settings)
    with closing(http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)) as busy:
        busy.request("POST", "/", b"INSERT INTO t SELECT number FROM numbers(1000000000000)")
        await_busy(own)
        own.kill()
    assert own.start() == address
    assert client.command("SELECT uniqExact(a) FROM t WHERE a < 1000") == 1000
    before = client.command("SELECT count() FROM t")
    client.insert("t", [[n] for n in range(1000)], column_names=["a"], settings=settings)
    assert client.command("SELECT count() FROM t") == before, "the token is remembered"
    client.close()


@pytest.mark.mounts
def test_an_insert_that_finds_no_room_is_refused_and_taken_when_there_is_room(tmp_path: Path) -> None:
    small = SmallDisk(tmp_path)
    (tmp_path / "data").mkdir()
    small.start()
    try:
        ask(
            small,
            b"CREATE TABLE t (n UInt32) ENGINE MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 9",
        )
        insert = b"INSERT INTO t SETTINGS insert_deduplication_token = 'x' FORMAT TSV\n" + b"7\n" * 500
        with small.filled():
            status, headers, _ = ask(small, insert)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "243")
        for _ in range(2):
            assert ask(small, insert)[0] == 200
        assert ask(small, b"SELECT count() FROM t")[2] == b"500\n"
    finally:
        small.stop()


def test_sigterm_closes_within_three_seconds_also_when_busy(own: LocalClickHouse) -> None:
    own.start()
    with closing(http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)) as slow:
        slow.request("POST", "/", SLOW.encode())
        await_busy(own)
        own.stop(timeout_s=3.0)
    assert own._process is not None
    assert own._process.returncode in (0, 1), "not killed; 1 where the engine was too slow, and left hard by itself"


def test_two_servers_do_not_share_a_directory(clickhouse: LocalClickHouse) -> None:
    told = subprocess.run(
        python("connectors.local.clickhouse_server", "--path", str(clickhouse.data)),
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert told.returncode != 0
    assert "Cannot lock file" in told.stderr


def test_by_hand_on_a_port_of_its_own_choice(tmp_path: Path) -> None:
    with subprocess.Popen(
        python("connectors.local.clickhouse_server", "--path", str(tmp_path / "db")),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        word, address = process.stdout.readline().split()
        assert word == "listening"
        assert curl(f"{address}/ping") == "Ok.\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
