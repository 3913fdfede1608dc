"""`sluice query`: SQL against ClickHouse, from the shell."""

import logging
import sys
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from streams.cli_errors import explained
from streams.settings import connected


class Format(StrEnum):
    """What `query` prints: a table for people, an array of objects, or CSV with a header."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


_OUTPUT = {
    Format.TABLE: ("JSONCompactStrings", {}),
    Format.JSON: ("JSONEachRow", {"output_format_json_array_of_rows": 1, "output_format_json_quote_64bit_integers": 0}),
    Format.CSV: ("CSVWithNames", {}),
}


class _Column(msgspec.Struct):
    name: str


class _Answer(msgspec.Struct):
    meta: list[_Column] = []
    data: list[list[str]] = []


def query(
    sql: Annotated[str, typer.Argument(help="A statement; the tables are described in docs/clickhouse.md.")],
    output: Annotated[Format, typer.Option("--format", help="table, json or csv")] = Format.TABLE,
) -> None:
    """Ask ClickHouse."""
    from connectors.clickhouse.client import ClickHouse  # late: every stage starts by this command, too

    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it logs what we say in words of our own
    form, settings = _OUTPUT[output]
    with explained(), closing(ClickHouse(connected("clickhouse").clickhouse)) as house:
        answer = house.raw(sql, form, settings)
    if output is Format.TABLE:
        _print_table(answer)
    else:
        sys.stdout.buffer.write(answer)


def _print_table(answer: bytes) -> None:
    """Values as ClickHouse writes them; a statement without an answer prints nothing."""
    found = msgspec.json.decode(answer, type=_Answer) if answer.strip() else _Answer()
    if not found.meta:
        return
    table = Table()
    for column in found.meta:
        table.add_column(column.name, overflow="fold")
    for row in found.data:
        table.add_row(*row)
    Console().print(table)
