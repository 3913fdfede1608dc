"""Batches: what becomes of good and bad records."""

from processors.codec import encode
from processors.events import Chunk, Tokens
from processors.sink.batch import Batch


def test_columns_by_table_and_bad_records_by_judge() -> None:
    batch = Batch(frozenset({"tokens"}))
    batch.add("journal", 0, 4, 1, None, None, encode(Chunk("i", "t", "r", 0, "a")))
    batch.add("journal", 0, 5, 1, None, None, encode(Chunk("i", "t", "r", 1, "b")))
    batch.add("tokens", 1, 6, 1, b"i", [("v", b"1")], encode(Tokens("i", "t", 0, "a")))
    batch.add("tokens", 1, 7, 1, b"i", None, b"\xff")
    batch.add("journal", 1, 8, 1, None, None, b'{"type":"nothing"}')
    batch.add("requests", 1, 9, 1, None, None, None)
    tables = {table.name: columns for table, columns in batch.columns()}
    assert list(tables) == ["chunks", "releases"]
    assert tables["chunks"][-2] == (4, 5)
    assert [(bad.topic, bad.offset, bad.value, bad.error.code) for bad in batch.bad] == [
        ("tokens", 7, b"\xff", "undecodable")
    ]
    assert batch.skipped == {("journal", "undecodable"): 1, ("requests", "null_value"): 1}
    assert batch.records == 6
