"""What the guard tells the other stages, and the records of the compacted topics."""

from typing import Any, Literal

import msgspec

from processors.events.base import Cost, Event, Kind, Target, Time, Usage
from processors.events.journal import AnswerPart, Order, RunError
from processors.events.tokens import EndStatus


class Outcome(Event, frozen=True, tag="outcome"):
    """The guard's word on how an attempt went.

    A failed one that may be tried again carries its order, so that the next decision is a function of this record
    alone; where no attempt may follow, `order` is absent and the stream has ended.
    """

    id: str
    tenant: str
    attempt: int
    run: str
    policy: str
    body_hash: str
    model: str
    target: Target
    status: Literal["completed", "failed", "stopped", "cancelled"]
    error: RunError | None = None
    order: Order | None = None
    usage: Usage | None = None
    cost: Cost = Cost()
    first_token_ms: float | None = None
    total_ms: float = 0.0
    session: str | None = None
    key: str | None = None


class Answer(Event, frozen=True, tag="answer"):
    """A completed answer as it was released. `cache_key` and `parts` stand only where the cache may keep it."""

    id: str
    tenant: str
    model: str
    target: Target | None
    finish_reason: str
    usage: Usage
    cost: Cost
    cache_key: str | None = None
    cache_ttl_s: float = 0.0
    parts: tuple[AnswerPart, ...] = ()


class Verdict(Event, frozen=True, tag="verdict"):
    """What was found, and what is done about it. `span` counts characters of the text of this kind and choice as the
    provider wrote it; the text itself is a hash. `detector` is the kind of personal data, of rules that look for it;
    `score` is a classifier's. In a dry run, where everything is only flagged, `would` is what would be done else."""

    id: str
    tenant: str
    run: str
    n: int
    rule: str
    category: str
    severity: int
    policy: str
    source: Literal["prompt", "answer"]
    action: Literal["flag", "mask", "stop", "refuse"] = "flag"
    detector: str = ""
    score: float | None = None
    kind: Kind = "content"
    choice: int = 0
    span: tuple[int, int] = (0, 0)
    text_hash: str = ""
    seen_chars: int = 0
    seen_tokens: int = 0
    would: Literal["", "flag", "mask", "stop", "refuse"] = ""


class Action(Event, frozen=True, tag="action"):
    """What was done about it. `n` numbers the actions of a request from 0."""

    id: str
    tenant: str
    run: str
    n: int
    action: Literal["flag", "mask", "hold", "stop", "refuse"]
    rule: str
    reason: str = ""
    policy: str = ""
    seen_chars: int = 0
    seen_tokens: int = 0


class Summary(Event, frozen=True, tag="summary"):
    """What the guard made of a request, written with its end: by rule how many verdicts, by action how many actions, by
    label of the classifier the highest score. `released_chars` are those given to the reader, placeholders included;
    `seen_chars` and `seen_tokens` are of the last run's text as the provider wrote it."""

    id: str
    tenant: str
    run: str
    policy: str
    status: EndStatus
    reason: str
    rules: dict[str, int] = msgspec.field(default_factory=dict)
    actions: dict[str, int] = msgspec.field(default_factory=dict)
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    seen_chars: int = 0
    seen_tokens: int = 0
    released_chars: int = 0
    tokens_saved: int = 0


class Health(Event, frozen=True, tag="health"):
    """One window over a provider's model for one tenant, or over all tenants (`tenant` empty).

    Keyed by provider/model/tenant; the newest record of a key counts.
    """

    provider: str
    model: str
    window_s: float
    at: Time
    tenant: str = ""
    attempts: int = 0
    failures: int = 0
    first_token_ms: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    currency: str = "USD"


class ApiKey(Event, frozen=True, tag="api_key"):
    """Keyed by the SHA-256 of the key, in hex; the key itself is never stored."""

    tenant: str
    name: str
    created: Time
    revoked: Time | None = None


class PolicyPublished(Event, frozen=True, tag="policy"):
    """Keyed by the version (content hash) and, for the one in force, by `current`."""

    version: str
    policy: dict[str, Any]


VerdictEvent = Verdict | Action | Summary
