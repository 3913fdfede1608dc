"""What stands in ClickHouse at the end: each event once, whatever the log holds twice and however it was cut."""

import itertools
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.clickhouse.client import ClickHouse
from processors import events
from processors.codec import encode
from processors.identity import uuid7
from processors.sink.batch import Batch
from processors.sink.rows import TABLES, Records
from tests import samples
from tests.connectors.clickhouse.conftest import clear

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDS = [
    (path.parent.name, path.read_bytes())
    for path in sorted(GOLDEN.glob("v*/*/*.json"))
    if path.parent.name not in ("keys", "policies")
]
Record = tuple[str, int, bytes]
"""Topic, offset, value; all in partition 0."""


def insert(house: ClickHouse, records: Iterable[Record]) -> None:
    """One flush."""
    batch = Batch(frozenset())
    for topic, offset, value in records:
        batch.extend(topic, Records(0, [offset], [samples.START_MS + offset], [None], [None], [value]))
    token = str(uuid.uuid4())
    for table, columns in batch.columns():
        house.insert(table.log, table.columns, table.types, columns, token)


def journal(*found: Any, topic: str = "journal", first: int = 0) -> list[Record]:
    return [(topic, first + n, encode(event)) for n, event in enumerate(found)]


def rows(house: ClickHouse, sql: str) -> list[tuple[Any, ...]]:
    return house.query(sql)[1]


def contents(house: ClickHouse) -> dict[str, list[str]]:
    """All that the views show."""
    names = [*TABLES, "attempts", "streams"]
    return {name: sorted(house.raw(f"SELECT * FROM {name}", "JSONEachRow").decode().splitlines()) for name in names}


def twice(records: list[tuple[str, bytes]]) -> list[Record]:
    """The log holds everything twice: the repeats follow the whole."""
    return [(topic, offset, value) for offset, (topic, value) in enumerate(records * 2)]


def test_an_event_that_the_log_holds_twice_counts_once_in_every_view(house: ClickHouse) -> None:
    log = twice(RECORDS)
    insert(house, log[: len(RECORDS)])
    once = contents(house)
    for begin in range(len(RECORDS), len(log), 10):
        insert(house, log[begin : begin + 10])
    assert contents(house) == once
    assert sum(len(once[name]) for name in TABLES) > 40
    raw = sum(rows(house, f"SELECT count() FROM {table.log}")[0][0] for table in TABLES.values())
    assert raw > sum(len(once[name]) for name in TABLES)  # the control: without the views the repeats are there


@pytest.fixture(scope="module")
def whole(migrated: ClickHouse) -> dict[str, list[str]]:
    """What the tables show after one flush of everything, each event twice."""
    clear(migrated)
    insert(migrated, twice(RECORDS))
    return contents(migrated)


@settings(max_examples=5, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 2 * len(RECORDS)), max_size=5), order=st.randoms(use_true_random=False))
def test_any_cut_of_the_log_into_flushes_ends_in_the_same_tables(
    house: ClickHouse, whole: dict[str, list[str]], cuts: list[int], order: Any
) -> None:
    clear(house)
    log = twice(RECORDS)
    flushes = [log[begin:end] for begin, end in itertools.pairwise(sorted({0, len(log), *cuts}))]
    order.shuffle(flushes)  # two members, or a repeat after a crash: ClickHouse may get them in any order
    for flush in flushes:
        insert(house, flush)
    assert contents(house) == whole


def test_the_first_word_in_the_log_counts(house: ClickHouse) -> None:
    request = samples.request_id(0)
    first, second = samples.decision(request, model="first"), samples.decision(request, model="second")
    insert(house, journal(second, first=9))
    insert(house, journal(first, first=3))
    assert rows(house, "SELECT model, log_offset FROM decisions") == [("first", 3)]


def test_what_is_written_to_every_partition_is_one_event(house: ClickHouse) -> None:
    started = encode(events.EdgeStarted(samples.edge()))
    insert(house, [("journal", 4, started), ("journal", 9, started)])
    assert rows(house, "SELECT kind, edge, log_offset FROM control") == [("edge_started", "edge-0", 4)]


def stream(house: ClickHouse) -> str:
    """A request of two attempts, the first of which failed; returns its id."""
    request = samples.request_id(1)
    failed = events.RunError("provider_error", "boom", 503)
    usage = events.Usage(10, 20, source="provider")
    insert(
        house,
        journal(
            samples.decision(request, user="ann", metadata={"team": "a"}),
            *samples.run(request, [], "run-1", error=failed),
            samples.decision(request, attempt=2),
            *samples.run(request, ["Hel", "lo"], "run-2", attempt=2, usage=usage, first_token_ms=12.5),
        ),
    )
    target = events.Target("first", "a")
    outcome = events.Outcome(
        request, "demo", 1, "run-1", "p", "b", "assistant", target, "failed", failed, cost=events.Cost(7, "RUB", "p")
    )
    done = events.Outcome(
        request, "demo", 2, "run-2", "p", "b", "assistant", target, "completed", cost=events.Cost(9000, "RUB", "p")
    )
    insert(house, journal(outcome, done, outcome, topic="outcomes"))
    end = events.End(
        request, "demo", 2, "completed", "stop", usage=usage, cost=events.Cost(9007, "RUB", "p"), attempts=2,
        first_token_ms=80.0,
    )  # fmt: skip
    insert(
        house, journal(events.Opened(request, "demo"), events.Tokens(request, "demo", 0, "Hello"), end, topic="tokens")
    )
    return request


def test_attempts_hold_the_money(house: ClickHouse) -> None:
    stream(house)
    found = rows(
        house,
        "SELECT attempt, run, provider, status, error, usage_output, cost_micros, currency, first_token_ms, user "
        "FROM attempts ORDER BY attempt",
    )
    assert found == [
        (1, "run-1", "first", "failed", "provider_error", 0, 7, "RUB", None, "ann"),
        (2, "run-2", "second", "completed", "", 20, 9000, "RUB", 12.5, "ann"),
    ]


def test_streams_have_a_line_a_request(house: ClickHouse) -> None:
    request = stream(house)
    waiting = samples.request_id(2)
    insert(house, journal(samples.decision(waiting), first=50))
    found = rows(
        house,
        "SELECT id, submitted, status, reason, attempts, usage_output, cost_micros, first_token_ms, user, metadata, "
        "ended IS NULL FROM streams ORDER BY status",
    )
    ended, still = found
    assert ended == (
        request, samples.START.replace(tzinfo=None), "completed", "stop", 2, 20, 9007, 80.0, "ann", {"team": "a"}, 0,
    )  # fmt: skip
    assert (still[0], still[2], still[-1]) == (waiting, "open", 1)
    assert rows(house, "SELECT sum(cost_micros) FROM attempts") == rows(house, "SELECT sum(cost_micros) FROM streams")


@pytest.mark.parametrize("view", ["runs", "run_ends", "chunks", "releases", "control", "outcomes", "ends", "streams"])
def test_user_and_metadata_stand_in_every_row_of_a_request(house: ClickHouse, view: str) -> None:
    stream(house)
    if view == "ends":  # its own, told by the guard; here it has none
        assert rows(house, "SELECT DISTINCT user FROM ends") == [("",)]
    else:
        assert rows(house, f"SELECT DISTINCT user, metadata['team'] FROM {view}") == [("ann", "a")]


def test_text_goes_before_the_figures_do_and_an_operator_may_say_when(house: ClickHouse) -> None:
    old = encode(events.Tokens(samples.request_id(0), "demo", 0, "Hello"))
    forty_days_ago = int((datetime.now(UTC) - timedelta(days=40)).timestamp() * 1000)
    batch = Batch(frozenset())
    batch.extend("tokens", Records(0, [0], [forty_days_ago], [None], [None], [old]))
    for days, text in ((60, "Hello"), (30, "")):
        house.command(
            f"ALTER TABLE releases_log MODIFY COLUMN text String TTL toDateTime(appended) + INTERVAL {days} DAY"
        )
        for table, columns in batch.columns():
            house.insert(table.log, table.columns, table.types, columns, "once")
        house.command("OPTIMIZE TABLE releases_log FINAL")
        assert rows(house, "SELECT seq, chars, text FROM releases") == [(0, 5, text)]


COOKBOOK = Path(__file__).parents[3] / "docs" / "clickhouse.md"
QUERIES = [block.partition("```")[0] for block in COOKBOOK.read_text().split("```sql\n")[1:]]


@pytest.mark.parametrize("sql", QUERIES, ids=lambda sql: sql.split("\n")[0][:40])
def test_every_query_of_the_cookbook_runs(house: ClickHouse, sql: str) -> None:
    stream(house)
    house.raw(sql, "JSON")


def test_the_cookbook_s_way_to_the_last_hour_finds_it(house: ClickHouse) -> None:
    sql = next(sql for sql in QUERIES if "leftPad" in sql)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    old, new = (uuid7(now_ms - minutes * 60_000, bytes(10)) for minutes in (61, 59))
    insert(house, journal(events.Chunk(old, "demo", "r", 0, "old"), events.Chunk(new, "demo", "r", 0, "new!")))
    assert rows(house, sql) == [("demo", 1, 4)]


def test_the_cookbook_names_every_view() -> None:
    text = COOKBOOK.read_text()
    assert [name for name in [*TABLES, "attempts", "streams"] if f"`{name}`" not in text] == []
