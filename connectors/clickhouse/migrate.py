"""The tables and views, as versioned files that are applied once, in order.

Every statement of a file can be run again (IF NOT EXISTS, OR REPLACE), because ClickHouse has no transaction to hold a
file together: a process that died half-way, or two that start at once, just run it again.
"""

import re
from collections.abc import Iterable
from importlib.resources import files
from typing import NamedTuple

from connectors.clickhouse.client import ClickHouse, ClickHouseFailed
from processors.identity import content_hash

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_COMMENT = re.compile(r"--[^\n]*")

_APPLIED = """
CREATE TABLE IF NOT EXISTS migrations
(version UInt32, name String, checksum String, applied DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = ReplacingMergeTree ORDER BY (version, checksum)
"""

RACES = frozenset({57, 60, 82, 253})
"""Errors that another process's doing the same gives: exists already, is not there yet."""
TRIES = 5


class MigrationChanged(Exception):
    """A file was changed after it had been applied. Restore it, and put the change into a new file."""


class Migration(NamedTuple):
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return content_hash(self.sql.encode())

    @property
    def statements(self) -> list[str]:
        """Statements end with a semicolon at the end of a line."""
        found = re.split(r";\s*\n", _COMMENT.sub("", self.sql) + "\n")
        return [statement.strip() for statement in found if statement.strip()]


def shipped() -> list[Migration]:
    """The files of this package, in order."""
    folder = files("connectors.clickhouse") / "migrations"
    found = ((_NAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted(Migration(int(match.group(1)), file.name, file.read_text()) for match, file in found if match)


def migrate(house: ClickHouse, migrations: Iterable[Migration] | None = None) -> list[str]:
    """Bring the database to what this version needs; names the files that were applied now.

    Raises:
        MigrationChanged: names the file.
        ClickHouseFailed: ClickHouse is away or refuses; what was done stays, and the next call goes on there.
    """
    house.create_database()
    _run(house, _APPLIED)
    _, rows = house.query("SELECT version, checksum, name FROM migrations FINAL")
    done: dict[int, set[str]] = {}
    for version, checksum, _ in rows:
        done.setdefault(version, set()).add(checksum)
    wanted = list(shipped() if migrations is None else migrations)
    for item in wanted:
        if done.get(item.version, {item.checksum}) != {item.checksum}:
            raise MigrationChanged(f"{item.name} was changed after it was applied; put the change into a new file")
    return [_apply(house, item) for item in wanted if item.version not in done]


def _apply(house: ClickHouse, item: Migration) -> str:
    for statement in item.statements:
        _run(house, statement)
    columns: list[list[object]] = [[item.version], [item.name], [item.checksum]]
    house.insert("migrations", ("version", "name", "checksum"), ("UInt32", "String", "String"), columns, item.checksum)
    return item.name


def _run(house: ClickHouse, statement: str) -> None:
    for remaining in reversed(range(TRIES)):
        try:
            house.command(statement)
            return
        except ClickHouseFailed as error:
            if error.code not in RACES or not remaining:
                raise
