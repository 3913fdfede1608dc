"""chDB, ClickHouse's engine in this process: one statement at a time, its settings and its errors.

chDB keeps one engine per process and directory; a connection to it costs 0.1 ms. So every statement gets a connection
of its own and with it a clean set of settings, as a query over ClickHouse's HTTP interface has.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import chdb.session

from connectors.local.clickhouse_sql import Statement

SERVER = {"max_server_memory_usage": "2147483648", "mark_cache_size": "67108864", "background_pool_size": "1"}
"""Set once, when the engine opens. Bytes; the pool is what merges and mutations run in."""
LIMITS = {
    "max_threads": "1",
    "max_insert_threads": "1",
    "max_memory_usage": "1073741824",
    "max_result_bytes": "268435456",
    "input_format_parallel_parsing": "0",
}
"""For every statement unless it says otherwise. An answer is held in memory whole, hence the limit to it."""

_CODE = re.compile(r"Code: (\d+)\. ")
_ERROR_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^()]*(?:\([^()]*\))?\))?\s*\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")


class EngineError(Exception):
    """A statement failed. `code` and `name` are ClickHouse's; the message is its full text."""

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.name = name


def refused(code: int, name: str, text: str) -> EngineError:
    """An error of our own, worded as the engine's are."""
    return EngineError(code, name, f"Code: {code}. DB::Exception: {text} ({name})")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement with all that a request says about it. `settings` also hold parameters, as `param_NAME`."""

    id: str
    statement: Statement
    default_format: str = "TabSeparated"
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave. Rows and bytes written include those of dependent materialized views."""

    body: bytes = b""
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed_s: float = 0.0


class Engine:
    """chDB on one directory. `run` is for one thread; `cancel` may be called from another meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        arguments = "&".join(f"{name}={value}" for name, value in SERVER.items())
        self._open = _connect(f"{self._path}?{arguments}")  # while it is open, so is the engine
        self.timezone = self._open.query("SELECT timezone()", "TSVRaw").bytes().decode().strip()

    def run(self, query: Query) -> Answer:
        """Run a statement to its end.

        Raises:
            EngineError: ClickHouse refused it, or it was cancelled.
        """
        session = _connect(self._path)
        try:
            session.query(_set(LIMITS | dict(query.settings) | {"log_comment": query.id}))
            if query.database:
                session.query(f"USE {_quote_name(query.database)}")
            if query.statement.data is None:
                return _answer(session.query(query.statement.sql, query.default_format))
            return _insert(session, query.statement, query.statement.data)
        except RuntimeError as error:
            raise _engine_error(str(error)) from None
        finally:
            session.close()

    def cancel(self, query_id: str | None = None) -> None:
        """Have the running statement end with QUERY_WAS_CANCELLED; without an id whichever it is."""
        session = _connect(self._path)
        try:
            running = f"Settings['log_comment'] = {_quote(query_id)}" if query_id else "query NOT LIKE 'KILL %'"
            session.query(f"KILL QUERY WHERE {running}")
        finally:
            session.close()

    def close(self) -> None:
        self._open.close()


def _connect(where: str) -> Any:
    return chdb.session.Session(where)  # type: ignore[no-untyped-call]


def _insert(session: Any, statement: Statement, data: bytes) -> Answer:
    """The rows of an INSERT, read from a file in memory. What cannot be read to its end adds no row of the block at
    fault.

    chDB's own way to feed rows (`send_insert`) says that all is well where the last block could not be written.
    """
    with _in_memory(data) as file:
        return _answer(session.query(statement.reading(file)))


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """The path of a file with this content; on disk only where the system knows no files in memory."""
    with open(os.memfd_create("insert"), "wb") if hasattr(os, "memfd_create") else NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.name}" if isinstance(file.name, int) else file.name


def _answer(result: Any) -> Answer:
    return Answer(
        body=result.bytes() or b"",
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        elapsed_s=result.elapsed(),
    )


def _set(settings: Mapping[str, str]) -> str:
    """One SET for all: a `readonly` among them counts only afterwards.

    Raises:
        EngineError: a name that can be no setting's.
    """
    for name in settings:
        if not _IDENTIFIER.match(name):
            raise refused(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}.")
    return "SET " + ", ".join(f"{name} = {_quote(value)}" for name, value in settings.items())


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quote_name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _engine_error(text: str) -> EngineError:
    code, name = _CODE.search(text), _ERROR_NAME.search(text)
    if not code:
        return refused(1002, "UNKNOWN_EXCEPTION", text)
    return EngineError(int(code.group(1)), name.group(1) if name else "UNKNOWN_EXCEPTION", text[code.start() :])
