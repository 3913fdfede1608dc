"""What producers publish to `requests`: a request, or the cancel of one."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from processors.events.base import EdgeRef, Part

OnDisconnect = Literal["continue", "cancel"]


class Message(Part, frozen=True):
    """One chat message, read as far as screening needs it; the provider gets the original bytes."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request for one answer. The smallest is `id`, `tenant`, `model`, `messages`.

    Unlike other events a request is read strictly: a parameter we do not know cannot be obeyed, so it is refused by
    name and never dropped. `stream` and `stream_options` shape only how HTTP delivers; the pipeline always streams.
    """

    id: str
    tenant: str
    model: str
    messages: list[Message]

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    user: str | None = None
    metadata: dict[str, str] | None = None
    session: str | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    sensitivity: Literal["public", "internal", "restricted"] = "public"

    expires_at: datetime | None = None
    deadline_s: float | None = None
    cache: Literal["use", "no-cache", "no-store"] = "use"
    edge: EdgeRef | None = None
    on_disconnect: OnDisconnect = "continue"
    client_request_id: str | None = None
    key: str | None = None
    """What the hash of the caller's API key begins with; set by edges."""


PROVIDER_PARAMETERS = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
    "frequency_penalty", "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort",
)  # fmt: skip
"""What is handed to the provider as it came, beside `messages`."""


class Envelope(msgspec.Struct, frozen=True):
    """The little that must be readable before anything else can be said about a record of `requests`."""

    id: str
    tenant: str
    cancel: bool = False
