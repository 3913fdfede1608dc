"""ClickHouse over HTTP, for everyone: a server's own interface, or chDB behind the same one.

An insert may be sent twice: clickhouse-connect does so by itself when the answer gets lost, and its caller does when it
times out. So each carries a token under which the table drops the second, with the same settings every time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

DATABASE = "sluice"
CONNECT_S = 5
ANSWER_S = 30

INSERT_SETTINGS: dict[str, Any] = {
    "async_insert": 0,  # else a server may answer before the rows are there, and without the token
    "insert_deduplicate": 1,
}


class ClickHouseFailed(Exception):
    """ClickHouse is away, or refuses. What was asked may have been done all the same: ask again, in the same words.

    `code` is ClickHouse's own number of the error, 0 where it did not answer.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class ClickHouse:
    """One connection, made when it is first needed and again after a failure. Not for two threads at once."""

    def __init__(self, url: str, *, answer_s: int = ANSWER_S) -> None:
        """`url` is http[s]://[user:password@]host[:port][/database]; the database is `sluice` where none is named.

        `answer_s` bounds how long an answer is waited for.
        """
        parts = urlsplit(url)
        self.database = unquote(parts.path.strip("/")) or DATABASE
        self._options: dict[str, Any] = {
            "interface": parts.scheme,
            "host": parts.hostname,
            "port": parts.port,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password or ""),
            "compress": False,  # on one machine it costs more than it saves
            "connect_timeout": CONNECT_S,
            "send_receive_timeout": answer_s,
            "autogenerate_session_id": False,
        }
        self._client: Client | None = None
        self._types: dict[str, ClickHouseType] = {}

    def insert(
        self, table: str, names: Sequence[str], types: Sequence[str], columns: Sequence[Sequence[object]], token: str
    ) -> None:
        """Insert columns, once: the same token again adds nothing. `token` must stand for exactly these rows.

        Raises:
            ClickHouseFailed: to be repeated with the same arguments.
        """
        with self._failures():
            self._connected().insert(
                table,
                columns,
                column_names=names,
                column_types=[self._type(name) for name in types],
                column_oriented=True,
                settings=INSERT_SETTINGS | {"insert_deduplication_token": token},
            )

    def command(self, sql: str) -> None:
        """Run a statement that gives no rows.

        Raises:
            ClickHouseFailed.
        """
        with self._failures():
            self._connected().command(sql)

    def query(self, sql: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and rows.

        Raises:
            ClickHouseFailed.
        """
        with self._failures():
            result = self._connected().query(sql)
            return tuple(result.column_names), [tuple(row) for row in result.result_rows]

    def raw(self, sql: str, output: str, settings: dict[str, Any] | None = None) -> bytes:
        """The answer as ClickHouse writes it in one of its formats.

        Raises:
            ClickHouseFailed.
        """
        with self._failures():
            return self._connected().raw_query(sql, fmt=output, settings=settings)

    def create_database(self) -> None:
        """Create our database where it is missing.

        Raises:
            ClickHouseFailed.
        """
        with self._failures():
            client = clickhouse_connect.get_client(**self._options)
            try:
                client.command(f"CREATE DATABASE IF NOT EXISTS `{self.database}`")
            finally:
                client.close()

    def close(self) -> None:
        """Give the connection back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Client:
        if self._client is None:
            self._client = clickhouse_connect.get_client(**self._options, database=self.database)
        return self._client

    def _type(self, name: str) -> ClickHouseType:
        if name not in self._types:
            self._types[name] = get_from_name(name)
        return self._types[name]

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (ClickHouseError, HTTPError, OSError) as error:
            code = getattr(error, "code", None) or 0
            if not code:
                self.close()
            raise ClickHouseFailed(str(error), code) from error
