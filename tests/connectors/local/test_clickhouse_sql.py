"""Where the data of an INSERT begins, and what a statement is."""

import pytest

from connectors.local.clickhouse_sql import read_statement


@pytest.mark.parametrize(
    ("text", "sql", "form", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\xff", b"INSERT INTO t ", "Native", b"\x00\xff"),
        (b"insert into t (a) format CSV 1\n2\n", b"insert into t (a) ", "CSV", b"1\n2\n"),
        (b"INSERT INTO t FORMAT CSV\r\n1", b"INSERT INTO t ", "CSV", b"1"),
        (b"INSERT INTO t FORMAT TSV\n\n\n", b"INSERT INTO t ", "TSV", b"\n\n"),
        (b"INSERT INTO t FORMAT TSV", b"INSERT INTO t ", "TSV", b""),
        (b"INSERT INTO t FORMAT TSV;\n1", b"INSERT INTO t ", "TSV", b"1"),
        (b"INSERT INTO t (`format`, b) FORMAT TSV\n1", b"INSERT INTO t (`format`, b) ", "TSV", b"1"),
        (b'INSERT INTO t (format, "x format y") FORMAT V 1', b'INSERT INTO t (format, "x format y") ', "V", b"1"),
        (b"INSERT INTO db.values FORMAT TSV\n1", b"INSERT INTO db.values ", "TSV", b"1"),
        (b"-- FORMAT\nINSERT /* FORMAT */ INTO t FORMAT Z 1", b"-- FORMAT\nINSERT /* FORMAT */ INTO t ", "Z", b"1"),
        (b"INSERT INTO t SETTINGS a = 'FORMAT' FORMAT C 1", b"INSERT INTO t SETTINGS a = 'FORMAT' ", "C", b"1"),
        (rb"INSERT INTO t SETTINGS a = '\' FORMAT' FORMAT C 1", rb"INSERT INTO t SETTINGS a = '\' FORMAT' ", "C", b"1"),
    ],
)  # fmt: skip
def test_an_insert_with_data(text: bytes, sql: bytes, form: str, data: bytes) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.format, statement.data) == (sql, form, data)
    assert not statement.reads


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\n format JSONEachRow ;\n", "JSONEachRow"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON"),
        (b"SELECT 'as FORMAT JSON'", None),
        (b"SELECT format('{}', 1)", None),
        (b"INSERT INTO t VALUES ('a FORMAT CSV')", None),
        (b"INSERT INTO t SELECT 1 AS format", None),
        (b"", None),
    ],
)
def test_everything_else_is_the_engines(text: bytes, form: str | None) -> None:
    statement = read_statement(text)
    assert (statement.sql, statement.format, statement.data) == (text, form, None)


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        (b" -- why\n(SELECT 1) UNION ALL SELECT 2", True),
        (b"with 1 as x select x", True),
        (b"SHOW TABLES", True),
        (b"SELECTED", False),
        (b"ALTER TABLE t DELETE WHERE 1", False),
        (b"INSERT INTO t SELECT 1", False),
    ],
)
def test_what_only_reads(text: bytes, reads: bool) -> None:
    assert read_statement(text).reads is reads


@pytest.mark.parametrize(
    ("text", "of_a_session"),
    [
        (b"SET max_threads = 2", True),
        (b"/* x */ use db", True),
        (b"CREATE TEMPORARY TABLE t (a Int8)", True),
        (b"create or replace temporary table t (a Int8)", True),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", False),
        (b"SELECT 1 SETTINGS max_threads = 2", False),
    ],
)
def test_what_only_a_session_could_use(text: bytes, of_a_session: bool) -> None:
    assert read_statement(text).of_a_session is of_a_session
