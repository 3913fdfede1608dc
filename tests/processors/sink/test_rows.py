"""Every record gives a row of the right shape, and no record, however odd, one that ClickHouse cannot take."""

import json
import typing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.dead_letters import PREFIX, dead_letter_headers
from processors import events
from processors.codec import BadRecord, encode
from processors.sink.batch import Batch
from processors.sink.raw import DEAD_LETTER_PREFIX
from processors.sink.rows import Records
from processors.sink.table import MAYBE_INT, Table
from tests import samples

GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLES = [path for path in sorted(GOLDEN.glob("v*/*/*.json")) if path.parent.name not in ("keys", "policies")]
PYTHON: dict[str, tuple[type, ...]] = {
    "String": (str, bytes),
    "Int64": (int,),
    "UInt8": (bool,),
    "UInt16": (int,),
    "UInt64": (int,),
    "Float64": (float, int),
    "DateTime64(6, 'UTC')": (int,),
    "Array(String)": (tuple,),
    "Map(String, String)": (dict,),
    "Map(String, Float64)": (dict,),
    "Map(String, Int64)": (dict,),
}


def row(topic: str, value: bytes | None, headers: Any = None, key: bytes | None = None) -> tuple[Table, dict[str, Any]]:
    """The table and the named values of a record that lies at partition 3, offset 77.

    Raises:
        BadRecord: it gives no row.
    """
    batch = Batch(frozenset({topic}))
    batch.extend(topic, Records(3, [77], [1_795_400_000_000], [key], [headers], [value]))
    for bad in batch.bad:
        raise bad.error
    ((table, columns),) = batch.columns()
    return table, {name: column[0] for name, column in zip(table.columns, columns, strict=True)}


def check_types(table: Table, values: dict[str, Any]) -> None:
    for (name, value), kind in zip(values.items(), table.types, strict=True):
        inner = kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Nullable") else kind
        if value is None:
            assert kind.startswith("Nullable"), f"{table.name}.{name} is None"
        else:
            assert isinstance(value, PYTHON[inner]), f"{table.name}.{name}: {value!r} for {kind}"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_golden_event_gives_a_row_that_fits_its_table(path: Path) -> None:
    table, values = row(path.parent.name, path.read_bytes())
    check_types(table, values)
    assert list(values.values())[-3:] == [3, 77, 1_795_400_000_000_000]


def test_every_event_type_of_the_topics_has_a_golden_sample_here() -> None:
    """So the test above speaks for all of them."""
    wanted = {
        kind.__name__
        for union in (events.JournalEvent, events.TokenEvent, events.VerdictEvent)
        for kind in typing.get_args(union)
    } | {"Outcome", "Answer", "Health"}
    tags = {getattr(events, name).__struct_config__.tag for name in wanted}
    assert tags == {msgspec.json.decode(path.read_bytes()).get("type") for path in SAMPLES} - {None}


def test_text_and_its_length_stand_in_columns_of_their_own() -> None:
    _, values = row(
        "journal", encode(events.Chunk("i", "demo", "r", 4, "привет", "tool_call", tool=events.ToolCall(2, "c")))
    )
    assert (values["text"], values["chars"], values["n"]) == ("привет", 6, 4)
    assert (values["tool_index"], values["tool_id"], values["tool_name"]) == (2, "c", "")


def test_money_and_times_are_integers() -> None:
    end = events.End("i", "demo", 5, "completed", "stop", cost=events.Cost(1_234_567, "RUB", "v1"))
    _, values = row("tokens", encode(end))
    assert (values["cost_micros"], values["currency"], values["prices"]) == (1_234_567, "RUB", "v1")
    elsewhere = b'"2026-11-22T13:15:30.123456+03:00"'
    submitted = encode(samples.decision("i", submitted=None))[:-1] + b',"submitted":' + elsewhere + b"}"
    _, values = row("journal", submitted)
    assert values["submitted"] == int(datetime.fromisoformat("2026-11-22T10:15:30+00:00").timestamp()) * 10**6 + 123_456


def test_a_request_is_stored_as_far_as_it_can_be_told() -> None:
    value = b'{"id":"i","tenant":"t","model":7,"metadata":{"a":"b","c":1},"user":["x"],"messages":[],"edge":"no","x":1}'
    table, values = row("requests", value)
    assert table.name == "requests"
    assert (values["model"], values["user"], values["metadata"], values["edge"]) == ("", "", {"a": "b"}, "")
    assert (values["body"], values["bytes"]) == (value, len(value))


def test_the_cancel_of_a_request_is_no_request() -> None:
    table, values = row("requests", b'{"id":"i","tenant":"t","cancel":true}')
    assert (table.name, values["kind"], values["id"]) == ("control", "cancel_requested", "i")


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"id":1,"tenant":"t"}', b'{"tenant":"t"}', b"\xff" * 9])
def test_what_has_no_id_and_tenant_is_a_bad_record(value: bytes | None) -> None:
    with pytest.raises(BadRecord):
        row("requests", value)


def test_a_dead_letter_keeps_its_raw_bytes_and_tells_its_origin() -> None:
    raw = b"\x00\xff not json"
    headers = dead_letter_headers("tokens", 2, 41, 1_795_400_000_123, "sink", BadRecord("undecodable", "why"))
    table, values = row("dead-letters", raw, [(name, value) for name, value in headers], b"\xfe")
    assert DEAD_LETTER_PREFIX == PREFIX
    assert table.name == "dead_letters"
    assert (values["value"], values["key"], values["bytes"]) == (raw, b"\xfe", len(raw))
    assert (values["origin_topic"], values["origin_partition"], values["origin_offset"]) == ("tokens", 2, 41)
    assert (values["stage"], values["error"], values["message"]) == ("sink", "undecodable", "why")
    assert values["origin_timestamp"] == 1_795_400_000_123_000


HEADER_NAMES = st.sampled_from(["topic", "partition", "offset", "timestamp", "stage", "error"])


@given(
    value=st.none() | st.binary(),
    key=st.none() | st.binary(),
    headers=st.none() | st.lists(st.tuples(HEADER_NAMES.map(PREFIX.__add__) | st.text(), st.none() | st.binary())),
)
def test_whatever_lies_in_the_dead_letters_can_be_stored(value: Any, key: Any, headers: Any) -> None:
    check_types(*row("dead-letters", value, headers, key))


def test_counts_beyond_64_bits_become_the_nearest_that_fit() -> None:
    raw = {"type": "summary", "id": "x", "tenant": "demo", "run": "r", "policy": "p", "status": "completed"}
    event = json.dumps(raw | {"reason": "stop", "rules": {"a": 1 << 70, "b": -(1 << 70), "c": 3}}).encode()
    _, values = row("verdicts", event)
    assert values["rules"] == {"a": (1 << 63) - 1, "b": -(1 << 63), "c": 3}


@given(st.lists(st.none() | st.integers(-(1 << 70), 1 << 70), min_size=1, max_size=5))
def test_integers_beyond_64_bits_become_the_nearest_that_fit(numbers: list[int | None]) -> None:
    table = Table("t", {"n": MAYBE_INT})
    column, *_ = table.columns_of([(number, 0, 0, 0) for number in numbers])
    assert list(column) == [
        number if number is None else max(-(1 << 63), min((1 << 63) - 1, number)) for number in numbers
    ]


@pytest.mark.parametrize(
    "text", [b"\\ud800", b"\xff", b"\xed\xa0\x80"], ids=["lone surrogate", "no UTF-8", "coded surrogate"]
)
@pytest.mark.parametrize(
    ("topic", "start"),
    [("requests", b'{"id":"i","tenant":"t","user":"'), ("journal", b'{"type":"cancel","id":"i","tenant":"')],
)
def test_text_that_is_no_text_is_a_bad_record(topic: str, start: bytes, text: bytes) -> None:
    with pytest.raises(BadRecord):
        row(topic, start + text + b'"}')


def test_a_higher_version_is_a_bad_record_in_every_topic_with_events() -> None:
    for topic in ("requests", "journal", "tokens", "health"):
        with pytest.raises(BadRecord, match="version"):
            row(topic, b"{}", [("v", b"2")])
