"""Batches: what becomes of good and bad records, in whatever portions they come."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.codec import VERSION_HEADERS, encode
from processors.events import Chunk, RunAlive, Tokens, ToolCall
from processors.sink.batch import Batch

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
    batch.extend("journal", [(0, 4, 1, None, None, CHUNK), (0, 5, 1, None, None, ALIVE)])
    batch.extend(
        "tokens", [(1, 6, 1, b"i", VERSION_HEADERS, encode(Tokens("i", "t", 0, "a"))), (1, 7, 2, b"i", None, b"\xff")]
    )
    batch.extend("journal", [(1, 8, 1, None, None, b'{"type":"nothing"}')])
    batch.extend("requests", [(1, 9, 1, None, None, None)])
    tables = {table.name: columns for table, columns in batch.columns()}
    assert sorted(tables) == ["chunks", "control", "releases"]
    assert [list(column) for column in tables["chunks"][-3:]] == [[0], [4], [1000]]
    assert [(bad.topic, bad.offset, bad.value, bad.error.code) for bad in batch.bad] == [
        ("tokens", 7, b"\xff", "undecodable")
    ]
    assert batch.skipped == {("journal", "undecodable"): 1, ("requests", "null_value"): 1}
    assert batch.records == 6


@given(records=st.lists(st.tuples(HEADERS, VALUES), max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_portions_make_no_difference(records: list[tuple[Any, Any]], cuts: list[int]) -> None:
    """One by one no record can hide in another's line."""
    log = [(0, offset, 7, b"k", headers, value) for offset, (headers, value) in enumerate(records)]
    one_by_one, portions = Batch(frozenset({"journal"})), Batch(frozenset({"journal"}))
    for record in log:
        one_by_one.extend("journal", [record])
    places = sorted({0, len(log), *(min(cut, len(log)) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        portions.extend("journal", log[begin:end])
    assert told(portions) == told(one_by_one)
