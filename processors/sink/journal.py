"""Rows of the journal's events."""

from collections.abc import Sequence

from processors.codec import encode
from processors.events import (
    CachedAnswer,
    Cancel,
    Choice,
    Chunk,
    Decision,
    EdgeStarted,
    GivenUp,
    Joined,
    Leased,
    Left,
    Opinion,
    Order,
    Refusal,
    RunAlive,
    RunEnded,
    RunStarted,
    Scored,
    Stop,
    TimedOut,
)
from processors.sink.table import (
    BOOL,
    COUNTS,
    FLOAT,
    INT,
    MAYBE_FLOAT,
    MAYBE_INT,
    MAYBE_TIME,
    NUMBERS,
    PAIRS,
    STRING,
    STRINGS,
    TARGET,
    TOOL,
    USAGE,
    Columns,
    Place,
    Row,
    Table,
)
from processors.sink.values import edge_columns, micros, target_columns, tools, usage_columns

DECISIONS = Table(
    "decisions",
    {
        "id": STRING, "tenant": STRING, "attempt": INT, "policy": STRING, "body_hash": STRING, "model": STRING,
        "submitted": MAYBE_TIME, "user": STRING, "metadata": PAIRS, "edge": STRING, "incarnation": STRING,
        "on_disconnect": STRING, "cache_key": STRING, "unscreened": STRINGS, "flags": STRINGS, "prompt_tokens": INT,
        "session": STRING, "key": STRING, "choice": STRING,
        **TARGET, "candidates": INT, "deadline": MAYBE_TIME, "expires_at": MAYBE_TIME, "max_tokens": MAYBE_INT,
        "source": STRING, "finish_reason": STRING,
        "rule": STRING, "category": STRING, "severity": INT,
        "status": INT, "code": STRING, "param": STRING, "message": STRING,
    },
)  # fmt: skip
RUNS = Table("runs", {"id": STRING, "tenant": STRING, "attempt": INT, "run": STRING, **TARGET})
RUN_ENDS = Table(
    "run_ends",
    {
        "id": STRING, "tenant": STRING, "attempt": INT, "run": STRING, **TARGET, "chunks": INT,
        "finish_reason": STRING, "error": STRING, "error_message": STRING, "error_status": INT, **USAGE,
        "raw_usage": STRING, "first_token_ms": MAYBE_FLOAT, "total_ms": FLOAT, "provider_request_id": STRING,
    },
)  # fmt: skip
CHUNKS = Table(
    "chunks",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "n": INT, "kind": STRING, "choice": INT, "chars": INT,
        "text": STRING, **TOOL,
    },
)  # fmt: skip
SCORES = Table(
    "scores",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "kind": STRING, "choice": INT, "at": INT, "scores": NUMBERS,
        "model": STRING,
    },
)  # fmt: skip
OPINIONS = Table(
    "opinions",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "kind": STRING, "choice": INT, "at": INT, "verdict": STRING,
        "categories": STRINGS, "model": STRING,
    },
)  # fmt: skip
LEASES = Table(
    "leases",
    {"id": STRING, "tenant": STRING, "said": STRING, "granted": COUNTS, "exhausted": STRINGS, "away": BOOL},
)
CONTROL = Table(
    "control",
    {
        "id": STRING, "tenant": STRING, "kind": STRING, "attempt": INT, "run": STRING, "reason": STRING,
        "rule": STRING, "edge": STRING, "incarnation": STRING, "seen": INT, "model": STRING,
    },
)  # fmt: skip
"""What steers a stream."""

_NO_ORDER: Row = ("", "", 0, None, None, None)
_NO_ANSWER: Row = ("", "")
_NO_RULE: Row = ("", "", 0)
_NO_REJECTION: Row = (0, "", "", "")


def decision(event: Decision, place: Place) -> Row:
    return (
        event.id, event.tenant, event.attempt, event.policy, event.body_hash, event.model,
        micros(event.submitted), event.user or "", event.metadata or {}, *edge_columns(event.edge),
        event.on_disconnect, event.cache_key or "", event.unscreened, event.flags, event.prompt_tokens,
        event.session or "", event.key or "", *_choice(event.choice), *place,
    )  # fmt: skip


def _choice(choice: Choice) -> Row:
    if isinstance(choice, Order):
        times = (micros(choice.deadline), micros(choice.expires_at))
        order = (*target_columns(choice.target), len(choice.candidates), *times, choice.max_tokens)
        return ("order", *order, *_NO_ANSWER, *_NO_RULE, *_NO_REJECTION)
    if isinstance(choice, CachedAnswer):
        return ("cached", *_NO_ORDER, choice.source, choice.finish_reason, *_NO_RULE, *_NO_REJECTION)
    if isinstance(choice, Refusal):
        rule = (choice.rule, choice.category, choice.severity)
        return ("refusal", *_NO_ORDER, *_NO_ANSWER, *rule, 0, "", "", choice.message)
    rejection = (choice.status, choice.code, choice.param or "", choice.message)
    return ("rejection", *_NO_ORDER, *_NO_ANSWER, *_NO_RULE, *rejection)


def run_started(event: RunStarted, place: Place) -> Row:
    return (event.id, event.tenant, event.attempt, event.run, event.target.provider, event.target.model, *place)


def run_ended(event: RunEnded, place: Place) -> Row:
    error = event.error
    wrong = ("", "", 0) if error is None else (error.kind, error.message, error.status or 0)
    return (
        event.id, event.tenant, event.attempt, event.run, *target_columns(event.target), event.chunks,
        event.finish_reason or "", *wrong, *usage_columns(event.usage),
        "" if event.raw_usage is None else encode(event.raw_usage).decode(),
        event.first_token_ms, event.total_ms, event.provider_request_id or "", *place,
    )  # fmt: skip


def chunks(events: Sequence[Chunk]) -> Columns:
    """Of many at once, a column after the other: most of what the sink does is this."""
    texts = [event.text for event in events]
    return [
        [event.id for event in events], [event.tenant for event in events], [event.run for event in events],
        [event.n for event in events], [event.kind for event in events], [event.choice for event in events],
        [*map(len, texts)], texts, *tools([event.tool for event in events]),
    ]  # fmt: skip


def control(
    kind: str,
    place: Place,
    id: str = "",
    tenant: str = "",
    *,
    attempt: int = 0,
    run: str = "",
    reason: str = "",
    rule: str = "",
    edge: Row = ("", ""),
    seen: int = -1,
    model: str = "",
) -> Row:
    """A row of `control`; what a kind does not tell stays empty, or -1 where it is an offset."""
    return (id, tenant, kind, attempt, run, reason, rule, *edge, seen, model, *place)


def run_alive(event: RunAlive, place: Place) -> Row:
    """The first of a run counts: the others say the same again."""
    return control("run_alive", place, event.id, event.tenant, run=event.run)


def joined(event: Joined, place: Place) -> Row:
    """The first of an edge process counts: nothing in a second one tells it from the first written twice."""
    return control("joined", place, event.id, event.tenant, edge=edge_columns(event.edge))


def left(event: Left, place: Place) -> Row:
    return control("left", place, event.id, event.tenant, edge=edge_columns(event.edge))


def edge_started(event: EdgeStarted, place: Place) -> Row:
    """Written to every partition, yet one event."""
    return control("edge_started", place, edge=edge_columns(event.edge))


def cancel(event: Cancel, place: Place) -> Row:
    return control("cancel", place, event.id, event.tenant, reason=event.by)


def stop(event: Stop, place: Place) -> Row:
    return control("stop", place, event.id, event.tenant, reason=event.reason, rule=event.rule)


def timed_out(event: TimedOut, place: Place) -> Row:
    return control("timed_out", place, event.id, event.tenant, reason=event.kind, seen=event.seen)


def scored(event: Scored, place: Place) -> Row:
    return (event.id, event.tenant, event.run, event.kind, event.choice, event.at, event.scores, event.model, *place)


def opinion(event: Opinion, place: Place) -> Row:
    """The first on a text counts."""
    return (
        event.id, event.tenant, event.run, event.kind, event.choice, event.at, event.verdict, event.categories,
        event.model, *place,
    )  # fmt: skip


def leased(event: Leased, place: Place) -> Row:
    """Told twice, the same grants are one event."""
    said = " ".join(f"{name}={amount}" for name, amount in sorted(event.granted.items()))
    said += "".join(f" {name}!" for name in event.exhausted) + (" away" if event.away else "")
    return (event.id, event.tenant, said.strip(), event.granted, event.exhausted, event.away, *place)


def given_up(event: GivenUp, place: Place) -> Row:
    return control("given_up", place, event.id, event.tenant, attempt=event.attempt, reason=event.reason)
