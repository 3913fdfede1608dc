"""`sluice query` in its three formats."""

import csv
import io
import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from streams.commands import app

SQL = "SELECT number AS n, if(number = 1, 'привет, 100%', 'a\"b') AS text FROM numbers(2)"


@pytest.fixture
def query(clickhouse: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLUICE_HOME", "/nowhere")  # it needs no pipeline, nor any other address
    monkeypatch.setenv("SLUICE_CLICKHOUSE", f"{clickhouse}/default")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["query", *arguments])

    return run


def test_a_table_for_people(query) -> None:
    result = query(SQL)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")] == ["n", "text"]
    assert "привет, 100%" in result.stdout


def test_json_is_an_array_of_objects(query) -> None:
    assert json.loads(query(SQL, "--format", "json").stdout) == [
        {"n": 0, "text": 'a"b'},
        {"n": 1, "text": "привет, 100%"},
    ]


def test_csv_has_a_header(query) -> None:
    found = list(csv.reader(io.StringIO(query(SQL, "--format", "csv").stdout)))
    assert found == [["n", "text"], ["0", 'a"b'], ["1", "привет, 100%"]]


def test_no_rows(query) -> None:
    nothing = "SELECT 1 AS one WHERE 0"
    assert "one" in query(nothing).stdout
    assert json.loads(query(nothing, "--format", "json").stdout) == []


def test_a_statement_without_an_answer(query) -> None:
    result = query("CREATE TABLE IF NOT EXISTS t (n Int64) ENGINE = Memory")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_clickhouse_refuses_is_told_in_its_words(query, form: str) -> None:
    result = query("SELECT nothing", "--format", form)
    assert result.exit_code == 1
    assert "nothing" in result.stderr
    assert result.stdout == ""


def test_clickhouse_away_is_one_line_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CLICKHOUSE", "http://user:secret@127.0.0.1:1")
    result = CliRunner().invoke(app, ["query", SQL])
    fix = "does not answer; is SLUICE_CLICKHOUSE right and the server up?"
    assert (result.exit_code, result.stderr) == (1, f"error: ClickHouse at 127.0.0.1:1 {fix}\n")
