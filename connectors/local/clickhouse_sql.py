"""Just enough SQL to serve ClickHouse's HTTP interface: where the data of an INSERT begins, and which format is asked.

Everything else about a statement is the engine's business.
"""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
      (?P<skip> \s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `(?:[^`\\]|\\.)*` )
    | (?P<word> \w+ )
    | (?P<open> [(\[{] )
    | (?P<close> [)\]}] )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(rb"\s*(\w+)")
_DATA = re.compile(rb"[ \t\f]*;?[ \t\f]*(?:\r?\n)?")
"""What stands between the format's name and the data: ClickHouse takes blanks and one line break."""

_TRAILING_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^'`\"]*)?;?\s*\Z", re.IGNORECASE)
_INSERT = re.compile(rb"INSERT\b", re.IGNORECASE)
_READ = re.compile(rb"\(*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b", re.IGNORECASE)
_OF_A_SESSION = re.compile(rb"(SET\s|USE\s|CREATE\s+(OR\s+REPLACE\s+)?TEMPORARY\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement; for an `INSERT … FORMAT x`, `sql` ends before FORMAT, and `data` is what followed it."""

    sql: bytes
    format: str | None = None
    data: bytes | None = None

    @property
    def reads(self) -> bool:
        """Whether it only reads: it may then be given up when nobody waits for the answer."""
        return self.data is None and bool(_READ.match(self.sql, _first(self.sql)))

    def reading(self, file: str) -> bytes:
        """This INSERT with its rows in a file."""
        at = _word_of_insert(self.sql, b"SETTINGS") or len(self.sql)
        source = f"\nFROM INFILE '{file}' COMPRESSION 'none'\n".encode()
        return self.sql[:at] + source + self.sql[at:] + f"\nFORMAT {self.format}".encode()

    @property
    def of_a_session(self) -> bool:
        """Whether it is of use only to later statements of the same session."""
        return self.data is None and bool(_OF_A_SESSION.match(self.sql, _first(self.sql)))


def read_statement(text: bytes) -> Statement:
    """Split the text of a request."""
    if _INSERT.match(text, _first(text)):
        at = _word_of_insert(text, b"FORMAT")
        if at is not None:
            name = _NAME.match(text, at + len(b"FORMAT"))
            if name:
                data = _DATA.match(text, name.end())
                begin = data.end() if data else name.end()
                return Statement(text[:at], name.group(1).decode(), text[begin:])
    trailing = _TRAILING_FORMAT.search(text, max(0, len(text) - 1000))
    return Statement(text, trailing.group(1).decode() if trailing else None)


def _first(text: bytes) -> int:
    """Where the first word or sign begins, after blanks and comments."""
    return next((token.start() for token in _TOKEN.finditer(text) if token.lastgroup != "skip"), len(text))


def _word_of_insert(text: bytes, wanted: bytes) -> int | None:
    """Where a word stands in an INSERT whose data follows it, outside brackets, names and comments."""
    depth, previous = 0, b""
    for token in _TOKEN.finditer(text):
        kind, word = token.lastgroup, token.group().upper()
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind == "word" and depth == 0 and previous != b".":
            if word == wanted:
                return token.start()
            if word in (b"VALUES", b"SELECT", b"WITH", b"WATCH", b"FROM"):
                return None  # the engine reads the rows itself
        previous = word
    return None
