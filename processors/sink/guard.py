"""Rows of what the guard writes besides the journal, and of `health`."""

from collections.abc import Sequence

from processors.codec import encode
from processors.events import Action, Answer, End, Health, Opened, Outcome, Summary, Tokens, Verdict
from processors.sink.journal import control
from processors.sink.table import (
    BOOL,
    COST,
    COUNTS,
    FLOAT,
    INT,
    MAYBE_FLOAT,
    NUMBERS,
    PAIRS,
    STRING,
    TARGET,
    TIME,
    TOOL,
    USAGE,
    Columns,
    Place,
    Row,
    Table,
)
from processors.sink.values import cost_columns, micros, target_columns, tools, usage_columns

RELEASES = Table(
    "releases",
    {
        "id": STRING, "tenant": STRING, "seq": INT, "kind": STRING, "choice": INT, "chars": INT, "text": STRING, **TOOL,
    },
)  # fmt: skip
ENDS = Table(
    "ends",
    {
        "id": STRING, "tenant": STRING, "seq": INT, "status": STRING, "reason": STRING, "message": STRING,
        "error_status": INT, "error_type": STRING, "error_code": STRING, "error_param": STRING, **USAGE, **COST,
        "model": STRING, "attempts": INT, "cached": BOOL, "policy": STRING, "user": STRING, "metadata": PAIRS,
        "first_token_ms": MAYBE_FLOAT, "total_ms": FLOAT, "tokens_saved": INT,
    },
)  # fmt: skip
OUTCOMES = Table(
    "outcomes",
    {
        "id": STRING, "tenant": STRING, "attempt": INT, "run": STRING, "policy": STRING, "body_hash": STRING,
        "model": STRING, **TARGET, "status": STRING, "error": STRING, "error_message": STRING, "error_status": INT,
        "retry": BOOL, **USAGE, **COST, "first_token_ms": MAYBE_FLOAT, "total_ms": FLOAT,
        "session": STRING, "key": STRING,
    },
)  # fmt: skip
ANSWERS = Table(
    "answers",
    {
        "id": STRING, "tenant": STRING, "model": STRING, **TARGET, "finish_reason": STRING, **USAGE, **COST,
        "cache_key": STRING, "cache_ttl_s": FLOAT, "chars": INT, "parts": STRING,
    },
)  # fmt: skip
VERDICTS = Table(
    "verdicts",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "n": INT, "rule": STRING, "category": STRING, "severity": INT,
        "policy": STRING, "source": STRING, "kind": STRING, "choice": INT, "span_start": INT, "span_end": INT,
        "text_hash": STRING, "seen_chars": INT, "seen_tokens": INT, "action": STRING, "detector": STRING,
        "score": MAYBE_FLOAT, "would": STRING,
    },
)  # fmt: skip
ACTIONS = Table(
    "actions",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "n": INT, "action": STRING, "rule": STRING, "reason": STRING,
        "policy": STRING, "seen_chars": INT, "seen_tokens": INT,
    },
)  # fmt: skip
SUMMARIES = Table(
    "summaries",
    {
        "id": STRING, "tenant": STRING, "run": STRING, "policy": STRING, "status": STRING, "reason": STRING,
        "rules": COUNTS, "actions": COUNTS, "scores": NUMBERS, "seen_chars": INT, "seen_tokens": INT,
        "released_chars": INT, "tokens_saved": INT,
    },
)  # fmt: skip
HEALTH = Table(
    "health",
    {
        "tenant": STRING, **TARGET, "window_s": FLOAT, "at": TIME, "attempts": INT, "failures": INT,
        "first_token_ms": MAYBE_FLOAT, "input_tokens": INT, "output_tokens": INT, "cost_micros": INT,
        "currency": STRING,
    },
)  # fmt: skip


def opened(event: Opened, place: Place) -> Row:
    reason = "cached" if event.cached else ""
    return control("opened", place, event.id, event.tenant, model=event.model, reason=reason)


def releases(events: Sequence[Tokens]) -> Columns:
    """Of many at once: see `journal.chunks`."""
    texts = [event.text for event in events]
    return [
        [event.id for event in events], [event.tenant for event in events], [event.seq for event in events],
        [event.kind for event in events], [event.choice for event in events], [*map(len, texts)], texts,
        *tools([event.tool for event in events]),
    ]  # fmt: skip


def end(event: End, place: Place) -> Row:
    error = event.error
    wrong = (0, "", "", "") if error is None else (error.status, error.type, error.code, error.param or "")
    return (
        event.id, event.tenant, event.seq, event.status, event.reason, event.message or "", *wrong,
        *usage_columns(event.usage), *cost_columns(event.cost), event.model, event.attempts, event.cached,
        event.policy, event.user or "", event.metadata or {}, event.first_token_ms, event.total_ms,
        event.tokens_saved, *place,
    )  # fmt: skip


def outcome(event: Outcome, place: Place) -> Row:
    error = event.error
    wrong = ("", "", 0) if error is None else (error.kind, error.message, error.status or 0)
    return (
        event.id, event.tenant, event.attempt, event.run, event.policy, event.body_hash, event.model,
        *target_columns(event.target), event.status, *wrong, event.order is not None,
        *usage_columns(event.usage), *cost_columns(event.cost), event.first_token_ms, event.total_ms,
        event.session or "", event.key or "", *place,
    )  # fmt: skip


def answer(event: Answer, place: Place) -> Row:
    return (
        event.id, event.tenant, event.model, *target_columns(event.target), event.finish_reason,
        *usage_columns(event.usage), *cost_columns(event.cost), event.cache_key or "", event.cache_ttl_s,
        sum(len(part.text) for part in event.parts), encode(event.parts).decode() if event.parts else "", *place,
    )  # fmt: skip


def verdict(event: Verdict, place: Place) -> Row:
    return (
        event.id, event.tenant, event.run, event.n, event.rule, event.category, event.severity, event.policy,
        event.source, event.kind, event.choice, *event.span, event.text_hash, event.seen_chars, event.seen_tokens,
        event.action, event.detector, event.score, event.would, *place,
    )  # fmt: skip


def action(event: Action, place: Place) -> Row:
    return (
        event.id, event.tenant, event.run, event.n, event.action, event.rule, event.reason, event.policy,
        event.seen_chars, event.seen_tokens, *place,
    )  # fmt: skip


def summary(event: Summary, place: Place) -> Row:
    return (
        event.id, event.tenant, event.run, event.policy, event.status, event.reason, event.rules, event.actions,
        event.scores, event.seen_chars, event.seen_tokens, event.released_chars, event.tokens_saved, *place,
    )  # fmt: skip


def health(event: Health, place: Place) -> Row:
    return (
        event.tenant, event.provider, event.model, event.window_s, micros(event.at), event.attempts, event.failures,
        event.first_token_ms, event.input_tokens, event.output_tokens, event.cost_micros, event.currency, *place,
    )  # fmt: skip
