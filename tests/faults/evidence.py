"""What a run of the load leaves behind, as plain values: what clients hold, the log, the provider's calls, the rows.

`truth.violations` judges it; a test may change any of it first, to show that the judge sees the difference.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from tests.faults.scripts import Asked

Outcome = Literal["", "done", "error", "broken", "clean", "refused"]
"""How a plain HTTP answer ended: as it should, with an error in the stream, with a broken connection, with a clean end
of the connection and nothing said, with an error status."""


@dataclass
class Held:
    """What one client holds of one request. Times are of `time.monotonic`."""

    asked: Asked
    id: str | None = None
    asked_at: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)
    """Every record that arrived, over all connections, as it arrived; for plain HTTP none."""
    arrivals: list[float] = field(default_factory=list)
    """When each record, or piece of a plain answer, arrived."""
    leaves: list[int] = field(default_factory=list)
    """After so many records its client closes the connection, and comes back."""
    cancels: bool = False
    """Whether its client cancels it as soon as it is submitted."""
    connects: list[tuple[float, str, str]] = field(default_factory=list)
    """When it connected, how (`ws`, `sse`, `http`), and to which edge."""
    breaks: list[tuple[float, str]] = field(default_factory=list)
    """When a connection broke, and what was told."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    wrong: str = ""
    """Why the client could not go on, though it should."""
    text: str = ""
    """Of plain HTTP: the text received."""
    outcome: Outcome = ""
    finish_reason: str | None = None
    status: int = 0

    @property
    def plain(self) -> bool:
        return self.asked.how in ("http", "whole")

    @property
    def cursor(self) -> str | None:
        """Where to resume."""
        return self.records[-1]["cursor"] if self.records else None

    @property
    def ended(self) -> bool:
        """Whether the client has seen its end."""
        return bool(self.outcome) if self.plain else bool(self.records) and self.records[-1]["type"] == "end"

    @property
    def interruptions(self) -> list[float]:
        """How long each broken connection kept the reader from its next record."""
        return [next((at for at in self.arrivals if at > when), float("inf")) - when for when, _ in self.breaks]

    @property
    def longest_wait(self) -> float:
        """The longest time without a record, from the first one on."""
        return max((b - a for a, b in pairwise(self.arrivals)), default=0.0)


class Record(NamedTuple):
    """A record of a topic; `at_ms` is its time there."""

    partition: int
    offset: int
    at_ms: int
    event: dict[str, Any]


class Kill(NamedTuple):
    """A fault that hit a process of a stage, or a service by its name."""

    stage: str
    at_ms: float
    """Of Unix time, as records have it."""
    at: float
    """Of `time.monotonic`, as clients note it."""
    pid: int = 0
    until_ms: float = 0.0
    """Where it lasted, as a frozen process does: its end."""


@dataclass
class Evidence:
    """Everything of one load. Topics hold the records of its requests alone, ClickHouse's rows likewise."""

    held: list[Held]
    topics: dict[str, list[Record]]
    calls: list[dict[str, Any]]
    """The provider's own record: `request_id` is the run, `started_ms` is of Unix time."""
    views: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    """Rows of each view: the columns `counted.VIEWS` names for it, partition and offset last."""
    tables: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Partition and offset of each row of the table behind a view."""
    kills: list[Kill] = field(default_factory=list)

    def events(self, topic: str, *kinds: str) -> list[Record]:
        """A topic's records of some types, partition by partition in the order of the log."""
        return [record for record in self.topics.get(topic, []) if record.event.get("type") in kinds]
