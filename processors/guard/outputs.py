"""What the guard gives back, as data: records to write, and why an answer must stop."""

from typing import Literal, NamedTuple

import msgspec

from processors.events import Event


class Out(msgspec.Struct, frozen=True, gc=False):
    """An event for a topic, under the request's id. Records of the journal are acknowledged before all others.

    A struct, because one is made for each piece of text, and a NamedTuple takes three times as long to make.
    """

    topic: str
    key: str
    event: Event


class Rejected(NamedTuple):
    """A record of the journal for the dead-letter topic: where it stood, and what is wrong with it.

    `raw` replaces the record's own bytes where something inside it is at fault (a reused id: the request).
    """

    offset: int
    code: str
    message: str
    raw: bytes | None = None


StopReason = Literal[
    "content_filter", "token_limit", "cost_limit", "time_limit", "budget_exhausted", "budget_unavailable",
    "degeneration",
]  # fmt: skip


class Finding(NamedTuple):
    """Why the answer must stop."""

    reason: StopReason
    rule: str

    @property
    def is_limit(self) -> bool:
        """Whether it is no matter of what the text says, so that no verdict has told of it."""
        return self.reason not in ("content_filter", "degeneration")
