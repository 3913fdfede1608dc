"""Whether ClickHouse counts each event of the log once, in tables and in views. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.faults.evidence import Evidence, Record


class View(NamedTuple):
    """The events of one view: where they come from, and what makes two records the same event."""

    topic: str
    kinds: tuple[str, ...]
    identity: tuple[str, ...]
    told: tuple[str, ...] = ()
    """Columns whose values are compared as well."""


VIEWS = {
    "decisions": View("journal", ("decision",), ("id", "attempt")),
    "runs": View("journal", ("run_started",), ("id", "run")),
    "run_ends": View("journal", ("run_ended",), ("id", "run"), ("chunks",)),
    "chunks": View("journal", ("chunk",), ("id", "run", "n"), ("text",)),
    "releases": View("tokens", ("tokens",), ("id", "seq"), ("text",)),
    "ends": View("tokens", ("end",), ("id",), ("status", "reason", "seq")),
    "outcomes": View("outcomes", ("outcome",), ("id", "run", "attempt"), ("status",)),
    "answers": View("answers", ("answer",), ("id",), ("finish_reason",)),
    "verdicts": View("verdicts", ("verdict",), ("id", "run", "n"), ("rule",)),
    "scores": View("journal", ("scored",), ("id", "run", "kind", "choice", "at")),
    "opinions": View("journal", ("opinion",), ("id", "run", "kind", "choice", "at"), ("verdict",)),
    "actions": View("verdicts", ("action",), ("id", "n"), ("action", "rule")),
    "summaries": View("verdicts", ("summary",), ("id",), ("status", "reason")),
}
JOINED = {
    "streams": View("tokens", ("end",), ("id",), ("status",)),
    "attempts": View("journal", ("run_started",), ("id", "run")),
}
"""Views that put events together: a row for each, without a place in the log."""


def counted_once(evidence: Evidence) -> Iterator[str]:
    """Each event stands in its view once, as its first record tells it; each row of a table is a record, once."""
    for name, view in (VIEWS | JOINED).items():
        if name not in evidence.views:
            continue
        records = evidence.events(view.topic, *view.kinds)
        first: dict[tuple[Any, ...], Record] = {}
        for record in records:
            first.setdefault(values(record.event, view.identity), record)
        width = len(view.identity)
        rows = evidence.views[name]
        for identity, count in Counter(row[:width] for row in rows).items():
            if count > 1:
                yield f"view {name} counts {identity} {count} times"
        seen = {row[:width]: row for row in rows}
        yield from compare(f"view {name}", set(seen), set(first))
        for identity, row in seen.items():
            record = first.get(identity)
            if record is not None:
                yield from _row(name, row, record, view)
        if name in VIEWS:
            yield from _table(name, evidence.tables[name], records, {record[:2] for record in first.values()})


def _row(name: str, row: tuple[Any, ...], record: Record, view: View) -> Iterator[str]:
    told = row[len(view.identity) : len(view.identity) + len(view.told)]
    if told != values(record.event, view.told):
        yield f"view {name} tells {told} of {row[: len(view.identity)]}, the log {values(record.event, view.told)}"
    if name in VIEWS and row[-2:] != (record.partition, record.offset):
        yield f"view {name} has {row[: len(view.identity)]} from {row[-2:]}, not from its first record {record[:2]}"


def _table(
    name: str, rows: list[tuple[int, int]], records: list[Record], needed: set[tuple[Any, ...]]
) -> Iterator[str]:
    """Merges drop what is repeated in the log, so that of repeats only the first record must be there."""
    for place, count in Counter(rows).items():
        if count > 1:
            yield f"table {name}_log holds record {place} {count} times"
    for place in set(rows) - {record[:2] for record in records}:
        yield f"table {name}_log holds {place}, which is no such record"
    for place in needed - set(rows):
        yield f"table {name}_log lacks record {place}"


def compare(where: str, there: set[tuple[Any, ...]], right: set[tuple[Any, ...]]) -> Iterator[str]:
    """What is missing and what should not be."""
    for missing in sorted(right - there)[:5]:
        yield f"{where} lacks {missing} ({len(right - there)} in all)"
    for surplus in sorted(there - right)[:5]:
        yield f"{where} has {surplus}, which the log does not ({len(there - right)} in all)"


def values(event: dict[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    """Some fields; those that are left out are empty."""
    return tuple(event.get(name, "") for name in names)
