"""What a table of the sink is: its columns in the order in which rows hold them, and how rows become columns."""

from array import array
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]
Columns = list[Sequence[Any]]
Place = tuple[int, int, int]
"""Partition, offset and append time (microseconds of Unix time) of a record: the last three columns of every row."""

STRING = "String"
INT = "Int64"
FLOAT = "Float64"
TIME = "DateTime64(6, 'UTC')"
BOOL = "UInt8"
MAYBE_INT = "Nullable(Int64)"
MAYBE_FLOAT = "Nullable(Float64)"
MAYBE_TIME = "Nullable(DateTime64(6, 'UTC'))"
STRINGS = "Array(String)"
PAIRS = "Map(String, String)"
NUMBERS = "Map(String, Float64)"
COUNTS = "Map(String, Int64)"

TOOL = {"tool_index": INT, "tool_id": STRING, "tool_name": STRING}
TARGET = {"provider": STRING, "provider_model": STRING}
USAGE = {
    "usage_input": INT, "usage_output": INT, "usage_cached": INT, "usage_reasoning": INT, "usage_source": STRING,
}  # fmt: skip
COST = {"cost_micros": INT, "currency": STRING, "prices": STRING}
PLACE = {"topic_partition": "UInt16", "log_offset": "UInt64", "appended": TIME}

_BOUND = 1 << 63


class Table:
    """Columns of `<name>_log` and the types they travel in.

    Columns that ClickHouse stores as LowCardinality travel as String: it converts them faster than Python does.
    """

    def __init__(self, name: str, columns: dict[str, str]) -> None:
        self.name = name
        self.log = f"{name}_log"
        types = columns | PLACE
        self.columns = tuple(types)
        self.types = tuple(types.values())
        self._integers = tuple(
            index for index, kind in enumerate(self.types) if kind in (INT, MAYBE_INT, TIME, MAYBE_TIME)
        )
        self._counts = tuple(index for index, kind in enumerate(self.types) if kind == COUNTS)

    def columns_of(self, rows: list[Row]) -> Columns:
        """Rows as columns that fit."""
        return self.fitted(list(zip(*rows, strict=True)))

    def fitted(self, columns: Columns) -> Columns:
        """An integer beyond 64 bits, which JSON may hold, becomes the nearest that fits."""
        for index in self._integers:
            columns[index] = _bounded(columns[index])
        for index in self._counts:
            columns[index] = [dict(zip(counts, _bounded([*counts.values()]), strict=True)) for counts in columns[index]]
        return columns


def _bounded(column: Sequence[Any]) -> Sequence[Any]:
    try:
        array("q", column)  # one pass in C
    except (OverflowError, TypeError):
        return [None if number is None else max(-_BOUND, min(_BOUND - 1, number)) for number in column]
    return column
