"""Events as the stages would write them, for the tests of the folds."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from processors.events import (
    Cancel,
    Chunk,
    Decision,
    EdgeRef,
    Event,
    Order,
    RunEnded,
    RunError,
    RunStarted,
    Target,
    Usage,
)
from processors.identity import partition_of, uuid7
from processors.policy import VersionedPolicy, parse_policy
from processors.record import Record

START_MS = 1_795_400_000_000
START = datetime.fromtimestamp(START_MS / 1000, UTC)
PARTITIONS = 4


def request_id(number: int, partition: int = 0) -> str:
    """The number-th id of the partition."""
    found = -1
    for seed in range(100_000):
        candidate = uuid7(START_MS, seed.to_bytes(10, "big"))
        if partition_of(candidate, PARTITIONS) == partition:
            found += 1
            if found == number:
                return candidate
    raise AssertionError("no id found")


def policy(**changes: Any) -> VersionedPolicy:
    """A policy with two providers, one tenant, and the phrases that the tests look for. Texts may repeat themselves."""
    data: dict[str, Any] = {
        "version": 1,
        "providers": {
            "first": {"base_url": "http://127.0.0.1:1/v1"},
            "second": {"base_url": "http://127.0.0.1:2/v1"},
        },
        "routes": {"assistant": [{"provider": "first", "model": "a"}, {"provider": "second", "model": "b"}]},
        "tenants": {"demo": {}, "other": {}},
        "rules": [
            {"id": "stop", "kind": "phrase", "phrases": ["blocked phrase", "запретное слово"], "action": "stop"},
            {"id": "flag", "kind": "phrase", "phrases": ["odd thing"], "action": "flag"},
            {"id": "refuse", "kind": "phrase", "phrases": ["never ask"], "action": "refuse", "severity": 9},
        ],
        "degeneration": dict.fromkeys(("exact", "counting", "run", "drift"), "ignore"),
        "limits": {"max_output_tokens": 100, "chars_per_token": {"en": 4, "ru": 3}},
        "prices": {"currency": "RUB", "per_million": {"input": 100, "output": 400, "cached": 50}},
    }
    return parse_policy(data | changes)


def order(*candidates: Target, deadline_s: float = 120.0) -> Order:
    """An order to the first provider."""
    until = START + timedelta(seconds=deadline_s)
    return Order(Target("first", "a"), until, until, candidates)


def decision(request: str, choice: Any = None, attempt: int = 1, **more: Any) -> Decision:
    """A decision of tenant demo; without a choice an order with one more candidate."""
    fields: dict[str, Any] = {
        "tenant": "demo",
        "policy": policy().version,
        "body_hash": "b" * 32,
        "model": "assistant",
        "submitted": START,
        "prompt_tokens": 5,
    }
    if attempt == 1:
        fields["request"] = msgspec.Raw(b'{"id":"' + request.encode() + b'"}')
    choice = order(Target("second", "b")) if choice is None else choice
    return Decision(id=request, attempt=attempt, choice=choice, **(fields | more))


def run(
    request: str,
    pieces: list[str],
    run_id: str = "run-1",
    attempt: int = 1,
    error: RunError | None = None,
    usage: Usage | None = None,
    **more: Any,
) -> list[Event]:
    """A run of the provider: its start, its chunks, its end."""
    target = Target("first", "a") if attempt == 1 else Target("second", "b")
    ended = RunEnded(
        request,
        "demo",
        attempt,
        run_id,
        target,
        len(pieces),
        finish_reason=None if error else "stop",
        error=error,
        usage=usage,
        **more,
    )
    chunks = [Chunk(request, "demo", run_id, n, text) for n, text in enumerate(pieces)]
    return [RunStarted(request, "demo", attempt, run_id, target), *chunks, ended]


def cancel(request: str) -> Cancel:
    """The client's cancel."""
    return Cancel(request, "demo")


def edge(incarnation: str = "i1") -> EdgeRef:
    """An edge."""
    return EdgeRef("edge-0", incarnation)


def records(events: list[Event], first_offset: int = 0, step_ms: int = 10) -> list[Record]:
    """Events as they stand in a partition, one every 10 ms."""
    return [Record(first_offset + n, START_MS + n * step_ms, event) for n, event in enumerate(events)]


@dataclass
class Cuts:
    """A text in pieces."""

    text: str
    at: list[int] = field(default_factory=list)

    @property
    def pieces(self) -> list[str]:
        places = sorted({min(place, len(self.text)) for place in self.at} | {0, len(self.text)})
        return [self.text[a:b] for a, b in itertools.pairwise(places)]
