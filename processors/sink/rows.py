"""Which row a record becomes, and in which table."""

from collections.abc import Callable
from typing import Any

from processors import events
from processors.codec import VERSION_HEADERS, Headers, decode
from processors.sink import guard, journal, raw
from processors.sink.table import Place, Row, Table

REQUESTS_TOPIC = "requests"
DEAD_LETTERS_TOPIC = "dead-letters"

_ROWS: dict[type, tuple[Table, Callable[[Any, Place], Row]]] = {
    events.Decision: (journal.DECISIONS, journal.decision),
    events.RunStarted: (journal.RUNS, journal.run_started),
    events.Chunk: (journal.CHUNKS, journal.chunk),
    events.RunAlive: (journal.CONTROL, journal.run_alive),
    events.RunEnded: (journal.RUN_ENDS, journal.run_ended),
    events.Joined: (journal.CONTROL, journal.joined),
    events.Left: (journal.CONTROL, journal.left),
    events.EdgeStarted: (journal.CONTROL, journal.edge_started),
    events.Cancel: (journal.CONTROL, journal.cancel),
    events.Stop: (journal.CONTROL, journal.stop),
    events.TimedOut: (journal.CONTROL, journal.timed_out),
    events.GivenUp: (journal.CONTROL, journal.given_up),
    events.Opened: (journal.CONTROL, guard.opened),
    events.Tokens: (guard.RELEASES, guard.tokens),
    events.End: (guard.ENDS, guard.end),
    events.Outcome: (guard.OUTCOMES, guard.outcome),
    events.Answer: (guard.ANSWERS, guard.answer),
    events.Verdict: (guard.VERDICTS, guard.verdict),
    events.Action: (guard.ACTIONS, guard.action),
    events.Health: (guard.HEALTH, guard.health),
}

TABLES = {
    table.name: table
    for table in (raw.REQUESTS, raw.DEAD_LETTERS, *dict.fromkeys(table for table, _ in _ROWS.values()))
}


def row_of(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    headers: Headers,
    value: bytes | None,
) -> tuple[Table, Row]:
    """The table and the row of a record.

    Raises:
        BadRecord: it cannot be read; what comes of it is the business of its topic's judge.
    """
    place = (partition, offset, timestamp_ms * 1000)
    if topic == REQUESTS_TOPIC:
        return raw.request(value, headers, place)
    if topic == DEAD_LETTERS_TOPIC:
        return raw.dead_letter(key, headers, value, place)
    event = decode(topic, value, None if headers == VERSION_HEADERS else headers)  # the usual ones need no look
    table, build = _ROWS[type(event)]
    return table, build(event, place)
