"""The journal: everything that happens to a request, in one partition, in one order.

Only our stages write it. Guard and dispatch are both folds of it, so what counts is what stands first.
"""

from typing import Any, Literal

import msgspec

from processors.events.base import EdgeRef, Event, Kind, Part, Target, Time, ToolCall, Usage
from processors.events.request import OnDisconnect


class AnswerPart(Part, frozen=True):
    """A stretch of answer text of one kind, choice and tool call."""

    kind: Kind
    text: str
    choice: int = 0
    tool: ToolCall | None = None


class Order(Part, frozen=True, tag="order"):
    """Call this provider. `candidates` are what remains to be tried if it fails."""

    target: Target
    deadline: Time
    expires_at: Time
    candidates: tuple[Target, ...] = ()
    max_tokens: int | None = None
    usual_tokens: int | None = None
    """What an answer of the target's model has had of late, on average; to tell what a stop saves."""


class CachedAnswer(Part, frozen=True, tag="cached"):
    """The stored answer of an earlier request of the same tenant."""

    parts: tuple[AnswerPart, ...]
    finish_reason: str
    usage: Usage
    source: str
    """Id of the request that was answered."""


class Refusal(Part, frozen=True, tag="refusal"):
    """The prompt broke a rule."""

    rule: str
    category: str
    message: str
    severity: int = 0


class Rejection(Part, frozen=True, tag="rejection"):
    """The request cannot be served: HTTP status, OpenAI error code, and the field at fault where there is one."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: int | None = None


Choice = Order | CachedAnswer | Refusal | Rejection


NO_REQUEST = msgspec.Raw()
"""Stands where a decision carries none. Always this object: msgspec leaves out a default that is the very same."""


class Decision(Event, frozen=True, tag="decision"):
    """Admission's word on one attempt. The first of each (request, attempt) counts.

    Only the first attempt's decision carries the request itself: as raw JSON, so that dispatch can send what came
    and a reused id can be dead-lettered as it came.
    """

    id: str
    tenant: str
    attempt: int
    policy: str
    body_hash: str
    choice: Choice
    model: str = ""
    submitted: Time | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    edge: EdgeRef | None = None
    on_disconnect: OnDisconnect = "continue"
    cache_key: str | None = None
    unscreened: tuple[str, ...] = ()
    """Types of message parts that no rule has read."""
    flags: tuple[str, ...] = ()
    """Ids of rules that flagged the prompt and let it pass."""
    prompt_tokens: int = 0
    """Estimated from characters; stands in where the provider sends no usage."""
    language: Literal["en", "ru"] = "en"
    """In which to speak to the user: that of the prompt's letters."""
    session: str | None = None
    key: str | None = None
    """What the hash of the caller's API key begins with; none where the request came by Kafka."""
    request: msgspec.Raw = NO_REQUEST


class RunStarted(Event, frozen=True, tag="run_started"):
    """Dispatch is about to call the provider for this attempt. The first of an order counts."""

    id: str
    tenant: str
    attempt: int
    run: str
    target: Target


class Chunk(Event, frozen=True, tag="chunk", gc=False):
    """A piece of text as the provider sent it. `n` numbers the chunks of a run from 0."""

    id: str
    tenant: str
    run: str
    n: int
    text: str
    kind: Kind = "content"
    choice: int = 0
    tool: ToolCall | None = None


class RunAlive(Event, frozen=True, tag="run_alive"):
    """The run goes on although no chunk has come."""

    id: str
    tenant: str
    run: str


ErrorClass = Literal[
    "connect", "timeout_connect", "timeout_first_token", "timeout_between_tokens", "timeout_total", "rate_limited",
    "unauthorized", "not_found", "invalid_request", "provider_error", "bad_response", "truncated", "content_filter",
    "interrupted", "cancelled", "stopped", "shutdown",
]  # fmt: skip


class RunError(Part, frozen=True):
    """Why a run did not complete. `message` is ours or the provider's, cut short, without secrets."""

    kind: ErrorClass
    message: str
    status: int | None = None
    retry_after_s: float | None = None


class RunEnded(Event, frozen=True, tag="run_ended"):
    """The provider call is over. Without `error` it completed, with the finish reason as the provider sent it."""

    id: str
    tenant: str
    attempt: int
    run: str
    target: Target
    chunks: int
    finish_reason: str | None = None
    error: RunError | None = None
    usage: Usage | None = None
    raw_usage: dict[str, Any] | None = None
    first_token_ms: float | None = None
    total_ms: float = 0.0
    provider_request_id: str | None = None


class Joined(Event, frozen=True, tag="joined"):
    """An edge has its first reader of the stream."""

    id: str
    tenant: str
    edge: EdgeRef


class Left(Event, frozen=True, tag="left"):
    """An edge has lost its last reader of the stream."""

    id: str
    tenant: str
    edge: EdgeRef


class EdgeStarted(Event, frozen=True, tag="edge_started"):
    """Written to every partition: readers of older incarnations of this instance have left."""

    edge: EdgeRef


class Cancel(Event, frozen=True, tag="cancel"):
    """End the request: its client said so, or its last reader has gone."""

    id: str
    tenant: str
    by: Literal["client", "reader_gone"] = "client"


class Stop(Event, frozen=True, tag="stop"):
    """The guard ends the request because of what it found; dispatch closes the provider's connection."""

    id: str
    tenant: str
    reason: Literal[
        "content_filter",
        "token_limit",
        "cost_limit",
        "time_limit",
        "budget_exhausted",
        "budget_unavailable",
        "degeneration",
        "log_lost",
        "internal_error",
    ]
    rule: str = ""


class TimedOut(Event, frozen=True, tag="timed_out"):
    """The guard saw nothing of the request for too long, or its deadline or the limit of its run passed.

    `seen` is the offset of the last record it had seen of it: the fold ignores this record when a later one of the
    request stands before it.
    """

    id: str
    tenant: str
    kind: Literal["idle", "deadline", "limit"]
    seen: int


class Scored(Event, frozen=True, tag="scored"):
    """What a model says of the end of a running text, `at` characters into it: by label a score of 0 to 1.

    The guard asks for it and obeys it when it reads it back, so that a rebuild decides the same. No scores: there is no
    model that could be asked.
    """

    id: str
    tenant: str
    run: str
    at: int
    scores: dict[str, float]
    model: str
    kind: Kind = "content"
    choice: int = 0


Judgement = Literal["safe", "unsafe", "silent"]


class Opinion(Event, frozen=True, tag="opinion"):
    """What a moderator says of a running text, `at` characters into it, or that it has said nothing in time.

    The first on each text counts. `categories` are in the words of the moderator's own model.
    """

    id: str
    tenant: str
    run: str
    at: int
    verdict: Judgement
    categories: tuple[str, ...] = ()
    model: str = ""
    kind: Kind = "content"
    choice: int = 0


class Leased(Event, frozen=True, tag="leased"):
    """What shared budgets allow a request, all of its runs together: by budget so many tokens or micro-units.

    The guard asks for it ahead of the text and obeys it when it reads it back. Of what stands in several of these the
    most counts. `exhausted`: budgets that will allow no more than that. `away`: the books could not be read, and the
    policy's word for that case stands instead.
    """

    id: str
    tenant: str
    granted: dict[str, int]
    exhausted: tuple[str, ...] = ()
    away: bool = False


class GivenUp(Event, frozen=True, tag="given_up"):
    """Dispatch will not call the provider for this attempt, or no longer."""

    id: str
    tenant: str
    attempt: int
    reason: Literal["expired", "shutdown"]


JournalEvent = (
    Decision
    | RunStarted
    | Chunk
    | RunAlive
    | RunEnded
    | Joined
    | Left
    | EdgeStarted
    | Cancel
    | Stop
    | TimedOut
    | GivenUp
    | Scored
    | Opinion
    | Leased
)
