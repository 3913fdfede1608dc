"""What every event shares: the struct it is built on, and the small values that several events carry.

All events are frozen, slotted, and one JSON object on the wire. The `type` tag comes first, so that a reader can
tell a kind it skips from the first bytes without decoding it. Fields at their default are left out.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

VERSION = 1
"""Major version of every event here. Readers accept this major and dead-letter a higher one."""

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone: one without it can be compared with no other."""

Kind = Literal["content", "reasoning", "refusal", "tool_call"]
"""What a piece of text is: the answer, the model's reasoning, its refusal, or a tool call's arguments."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """An event about one request. Unknown fields are ignored when read (add-only evolution)."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value inside an event."""


class ToolCall(Part, frozen=True):
    """Which tool call a `tool_call` text belongs to; `id` and `name` stand on its first piece only."""

    index: int = 0
    id: str | None = None
    name: str | None = None


class Usage(Part, frozen=True):
    """Tokens of one or more runs. `source` says whether the provider counted or we estimated from characters."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    source: Literal["provider", "estimated"] = "estimated"


class Cost(Part, frozen=True):
    """Money in integer micro-units of an ISO 4217 currency, under the price list of one policy version."""

    micros: int = 0
    currency: str = "USD"
    prices: str = ""


class Target(Part, frozen=True):
    """One way to answer: a provider of the policy and the model's name there."""

    provider: str
    model: str


class EdgeRef(Part, frozen=True):
    """The edge process that reads for a client. An older incarnation of the same instance is gone for good."""

    instance: str
    incarnation: str
