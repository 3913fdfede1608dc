"""Bad records: the golden events with fresh ids, broken in every way we could think of, from a seed."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from processors.cache import tenant_prefix
from processors.identity import partition_of, uuid7

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
TOPICS = ["requests", "journal", "tokens", "outcomes", "answers", "verdicts", "health", "dead-letters"]
TABLES = ["keys", "policies", "snapshots"]
"""Compacted topics: read whole at the start of a process, and judged by nobody."""
WEIGHTS = {"requests": 4, "journal": 6, "policies": 0.2, "dead-letters": 0.5}
PARTITIONS = {"health": 1, "dead-letters": 1, "keys": 1, "policies": 1}
STRANGE: list[Any] = [
    None, True, -1, 0, 10**30, -(10**30), 2**63, 1e308, -0.0, "", "x", "\x00", "\u202e", "📈" * 50, [], {}, [[]],
    {"": {}}, "-1e9999", "NaN", "null", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z",
    "2026-11-22T10:15:30", "10000-01-01T00:00:00Z",
]  # fmt: skip
LIKE: dict[type, list[Any]] = {
    int: [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), -(10**30)],
    float: [0.0, -0.0, -1.5, 1e-308, 1e308, -1e308, 1e18, 7],
    str: ["", " ", "x", "\x00", "\n\r", "\u202e", "\ufeff", "e\u0301", "📈" * 50, "long " * 40_000, "\ue000",
          "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-11-22T10:15:30", "1969-12-31T23:59:59+14:00",
          "2026-11-22T10:15:30.123456789Z", "%s{}$(x)`';--", "../../etc", "guard/open/x", "current"],
    bool: [True, False],
    list: [[]],
    dict: [{}],
}  # fmt: skip
"""Values of the same type, which a decoder may let pass."""
RAW = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e400",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    "[" * 3000,
    "{" * 10,
    "01",
    "'x'",
]
RAW += ["[" * 2000 + "]" * 2000, '{"a":' * 2000 + "1" + "}" * 2000, '"' + "long " * 40_000 + '"', "9" * 5000]
HEADERS: list[Any] = [
    [("v", b"9")], [("v", b"")], [("v", b"x")], [("v", None)], [("v", b"1.7")], [("v", b"\xff")], [], [("w", b"1")],
    [("v", b"1"), ("v", b"2")], [("v", b"1")] * 20, [("v", b"1" * 5000)],
]  # fmt: skip


class Bad(NamedTuple):
    """A record to be published; perhaps still a good one."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Fuzzer:
    """Makes records. `policy` is the version that pinned events name."""

    def __init__(self, seed: int, policy: str, now_ms: Callable[[], int]) -> None:
        self._chance = random.Random(seed)
        self._policy, self._now_ms = policy, now_ms
        self._samples = {
            topic: [json.loads(path.read_bytes()) for path in sorted((GOLDEN / topic).glob("*.json"))]
            for topic in [*TOPICS, *TABLES]
            if (GOLDEN / topic).exists()
        }
        self._samples["dead-letters"] = self._samples["requests"]
        self._weights = [WEIGHTS.get(topic, 1) for topic in [*TOPICS, *TABLES]]

    def make(self) -> Bad:
        """One record of any topic."""
        chance = self._chance
        [topic] = chance.choices([*TOPICS, *TABLES], self._weights)
        request = uuid7(self._now_ms(), chance.randbytes(10))
        event = self._snapshot(request) if topic == "snapshots" else self._event(topic, request)
        key = self._key(topic, request)
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        value: bytes | None = text.encode()
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            value = self.broken(value)
        headers = [("v", b"1")] if chance.random() < 0.95 else chance.choice(HEADERS)
        partitions = PARTITIONS.get(topic, 4)
        partition = partition_of(request, partitions)
        if chance.random() < 0.03:
            partition = chance.randrange(partitions)
        if chance.random() < 0.03 and topic not in [*TABLES, "health"]:  # a compacted topic takes none without a key
            key = chance.choice([None, b"", chance.randbytes(20), b"current"])
        return Bad(topic, partition, key, value, headers)

    def _event(self, topic: str, request: str) -> Any:
        event = json.loads(json.dumps(self._chance.choice(self._samples[topic])))
        if "id" in event:
            event["id"] = request
        if "tenant" in event:
            event["tenant"] = "demo"
        if topic == "requests" and "model" in event:
            event["model"] = "echo"
            event.pop("expires_at", None)
            event.pop("edge", None)
        for name in ("policy", "version"):
            if isinstance(event.get(name), str) and topic != "policies":
                event[name] = self._policy
        if event.get("cache_key"):
            event["cache_key"] = tenant_prefix("demo") + request
        if event.get("type") == "decision" and event["choice"]["type"] == "order":
            event["request"] = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
            event["choice"]["target"] = {"provider": "simulated", "model": "echo"}
        return event

    def _snapshot(self, request: str) -> Any:
        decision = self._event("journal", request)
        settled = {"closed": [request], "cancelled": [[request, "demo"]]}
        return self._chance.choice(
            [{"decision": decision}, [[request, "demo", "hash"]], {"edges": {}, "early": []}, settled]
        )

    def _key(self, topic: str, request: str) -> bytes:
        if topic == "snapshots":
            kept = [b"guard/open/", b"guard/closed/", b"guard/rest/", b"dispatch/"]
            return self._chance.choice(kept) + request.encode()
        return (("fuzz/" if topic in ("health", "policies", "keys") else "") + request).encode()

    def broken(self, value: bytes | None) -> bytes | None:
        """A value with something wrong, or now and then as it was."""
        if not value:
            return value
        way = self._chance.choice(
            [*[self._like] * 6, self._bytes, self._cut, self._spliced,
             self._other_field, self._raw_field, self._without, self._doubled, self._nothing]
        )  # fmt: skip
        return way(value)

    def _bytes(self, value: bytes) -> bytes:
        broken = bytearray(value)
        for _ in range(self._chance.choice([1, 1, 2, 8])):
            broken[self._chance.randrange(len(broken))] ^= 1 << self._chance.randrange(8)
        return bytes(broken)

    def _cut(self, value: bytes) -> bytes:
        return value[: self._chance.randrange(len(value))]

    def _spliced(self, value: bytes) -> bytes:
        at = self._chance.randrange(len(value))
        piece = self._chance.choice([b"\n", b"\x00", b"\xed\xa0\x80", b"\xff\xfe", b"\xef\xbb\xbf", value, value[at:]])
        return value[:at] + piece + value[at:]

    def _nothing(self, value: bytes) -> bytes | None:
        return self._chance.choice([None, b"", b" ", b"null", b"[]", b"{}", b'"', self._chance.randbytes(60), value])

    def _like(self, value: bytes) -> bytes:
        def change(parent: Any, at: Any) -> None:
            old = parent[at]
            if isinstance(old, list) and old and self._chance.random() < 0.7:
                parent[at] = old * self._chance.choice([2, 200])
            else:
                parent[at] = self._chance.choice(LIKE.get(type(old), [None]))

        return self._field(value, change)

    def _other_field(self, value: bytes) -> bytes:
        return self._field(value, lambda parent, at: parent.__setitem__(at, self._chance.choice(STRANGE)))

    def _without(self, value: bytes) -> bytes:
        return self._field(value, lambda parent, at: parent.__delitem__(at))

    def _raw_field(self, value: bytes) -> bytes:
        mark = "put-something-raw-here"
        marked = self._field(value, lambda parent, at: parent.__setitem__(at, mark))
        return marked.replace(f'"{mark}"'.encode(), self._chance.choice(RAW).encode())

    def _doubled(self, value: bytes) -> bytes:
        """A field twice, or one that nobody knows."""
        name = self._chance.choice(["id", "tenant", "type", "n", "unknown", ""])
        strange = json.dumps(self._chance.choice(STRANGE)).encode()
        return value[:-1] + b',"' + name.encode() + b'":' + strange + b"}" if value.endswith(b"}") else value

    def _field(self, value: bytes, change: Callable[[Any, Any], None]) -> bytes:
        try:
            event = json.loads(value)
        except (ValueError, RecursionError):
            return value
        places = list(_places(event))
        if not places:
            return value
        change(*self._chance.choice(places))
        return json.dumps(event, ensure_ascii=self._chance.random() < 0.5, separators=(",", ":")).encode(
            errors="surrogatepass"
        )


def _places(event: Any, depth: int = 0) -> Any:
    """Every (parent, key) of plain data."""
    items = event.items() if isinstance(event, dict) else enumerate(event) if isinstance(event, list) else ()
    for at, child in items:
        yield event, at
        if depth < 6:
            yield from _places(child, depth + 1)
