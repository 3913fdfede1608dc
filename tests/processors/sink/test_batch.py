"""Batches: what becomes of good and bad records, in whatever portions they come."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.codec import VERSION_HEADERS, encode
from processors.events import Chunk, RunAlive, Tokens, ToolCall
from processors.sink.batch import Batch
from processors.sink.rows import Records

CHUNK = encode(Chunk("i", "t", "r", 0, "a\nb", tool=ToolCall(1, "c", "f")))
ALIVE = encode(RunAlive("i", "t", "r"))
VALUES = st.sampled_from(
    [
        CHUNK,
        ALIVE,
        encode(Chunk("i", "t", "r", 1, "b")),
        CHUNK[:-1],
        CHUNK + b"\n" + CHUNK,
        CHUNK + b"\n",
        b"",
        None,
        b"[]",
    ]
)
HEADERS = st.sampled_from([None, [], VERSION_HEADERS, [("v", b"2")], [("x", None)]])


def told(batch: Batch) -> tuple[Any, ...]:
    """All that a batch holds, in an order of its own."""
    tables = [table.name for table, _ in batch.columns()]
    assert len(tables) == len(set(tables))  # a second insert under one token would be dropped
    rows = {table.name: sorted(zip(*columns, strict=True)) for table, columns in batch.columns()}
    return rows, [bad[:-1] for bad in batch.bad], batch.skipped, batch.records, batch.bytes


def test_columns_by_table_and_bad_records_by_judge() -> None:
    batch = Batch(frozenset({"tokens"}))
    batch.extend("journal", Records(0, [4, 5], [1, 1], [None, None], [None, None], [CHUNK, ALIVE]))
    released = encode(Tokens("i", "t", 0, "a"))
    batch.extend("tokens", Records(1, [6, 7], [1, 2], [b"i", b"i"], [VERSION_HEADERS, None], [released, b"\xff"]))
    batch.extend("journal", Records(1, [8], [1], [None], [None], [b'{"type":"nothing"}']))
    batch.extend("requests", Records(1, [9], [1], [None], [None], [None]))
    tables = {table.name: columns for table, columns in batch.columns()}
    assert sorted(tables) == ["chunks", "control", "releases"]
    assert [list(column) for column in tables["chunks"][-3:]] == [[0], [4], [1000]]
    assert [(bad.topic, bad.offset, bad.value, bad.error.code) for bad in batch.bad] == [
        ("tokens", 7, b"\xff", "undecodable")
    ]
    assert batch.skipped == {("journal", "undecodable"): 1, ("requests", "null_value"): 1}
    assert batch.records == 6


def log(records: list[tuple[Any, Any]], begin: int, end: int) -> Records:
    """A part of a partition's records, given as headers and values."""
    headers, values = zip(*records[begin:end], strict=True)
    return Records(0, range(begin, end), [7] * len(values), [b"k"] * len(values), headers, values)


@given(records=st.lists(st.tuples(HEADERS, VALUES), max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_portions_make_no_difference(records: list[tuple[Any, Any]], cuts: list[int]) -> None:
    """One by one no record can hide in another's line."""
    one_by_one, portions = Batch(frozenset({"journal"})), Batch(frozenset({"journal"}))
    for number in range(len(records)):
        one_by_one.extend("journal", log(records, number, number + 1))
    places = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        portions.extend("journal", log(records, begin, end))
    assert told(portions) == told(one_by_one)
