"""What the guard keeps in the log so that a rebuild need not read far back: the topic `snapshots`.

Open requests by id, closed ones in lists (so that a repeat is known), and the little that belongs to no request yet.
"""

from typing import NamedTuple

import msgspec

from processors.events import Decision, EdgeRef, EndStatus, JournalEvent, Order, RunEnded, Usage
from processors.guard.allowance import AllowanceState
from processors.guard.release import ReleaseState

OPEN, CLOSED, REST = "guard/open/", "guard/closed/", "guard/rest"


class Kept(NamedTuple):
    """A record of the snapshots topic; no value means that the key is done with. `offset`: up to where it reaches."""

    key: str
    value: bytes | None
    offset: int = -1


class Early(msgspec.Struct, frozen=True):
    """A record that waits: for its decision, or for a lease."""

    offset: int
    time_ms: int
    event: JournalEvent


class StreamState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request's state as it is written to `snapshots`."""

    decision: Decision
    first_offset: int
    last_offset: int
    last_ms: int
    closed: bool
    closed_as: EndStatus
    attempt: int
    order: Order | None
    run: str | None
    waiting: bool
    readers: tuple[EdgeRef, ...]
    alone_since_ms: int
    spent: Usage | None
    cost: int
    release: ReleaseState
    until_ms: float | None = None
    ending: RunEnded | None = None
    allowance: AllowanceState | None = None
    deferred: tuple[Early, ...] = ()


class Rest(msgspec.Struct, frozen=True):
    """The newest incarnation of each edge, and what stands before its decision."""

    edges: dict[str, str]
    early: tuple[Early, ...]


encode = msgspec.json.Encoder().encode
decode_stream = msgspec.json.Decoder(StreamState).decode
decode_closed = msgspec.json.Decoder(list[tuple[str, str, str]]).decode
"""Id, tenant and body hash of closed requests."""
decode_rest = msgspec.json.Decoder(Rest).decode
