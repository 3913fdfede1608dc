"""What the guard releases: the only events a reader ever sees."""

from typing import Literal

from processors.events.base import Cost, Event, Kind, Part, ToolCall, Usage

EndStatus = Literal["completed", "stopped", "refused", "failed", "cancelled"]


class Opened(Event, frozen=True, tag="opened"):
    """The request has its first decision. Not delivered; it tells every edge that the id exists and whose it is."""

    id: str
    tenant: str
    model: str = ""
    cached: bool = False


class Tokens(Event, frozen=True, tag="tokens", gc=False):
    """Moderated text. `seq` numbers the released records of a request from 0 without a gap, the end included."""

    id: str
    tenant: str
    seq: int
    text: str
    kind: Kind = "content"
    choice: int = 0
    tool: ToolCall | None = None


class EndError(Part, frozen=True):
    """How HTTP tells the end: status, and the OpenAI error object's `type`, `code` and `param`."""

    status: int
    type: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None
    """After which the same request may be served, where that is known."""


class End(Event, frozen=True, tag="end"):
    """The terminal event: exactly one for each accepted request.

    `reason` is the provider's finish reason for `completed`, else what ended the stream. `cost` covers all attempts so
    far. `first_token_ms` counts from the request's append to the append of the record that released the first text.
    """

    id: str
    tenant: str
    seq: int
    status: EndStatus
    reason: str
    message: str | None = None
    error: EndError | None = None
    usage: Usage = Usage()
    cost: Cost = Cost()
    model: str = ""
    attempts: int = 1
    cached: bool = False
    policy: str = ""
    user: str | None = None
    metadata: dict[str, str] | None = None
    first_token_ms: float | None = None
    total_ms: float = 0.0
    tokens_saved: int = 0
    """A cache hit saves its answer's tokens. A stop saves what answers of the model have had of late, on average, and
    this one has not; where that is not known, at most what remained of the request's token limit."""


TokenEvent = Opened | Tokens | End
