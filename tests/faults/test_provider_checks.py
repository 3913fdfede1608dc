"""The controls of the provider faults' checks: a right record passes, and each broken one is found."""

from copy import deepcopy
from typing import Any

import pytest

from connectors.simulated.texts import STORY
from tests.faults import provider_checks as check
from tests.faults.provider_checks import Call, Event, Held
from tests.faults.provider_mix import KINDS, Case, Client, draw

SAID = ("river ", "lock ", "boat ")
AT = 1_800_000_000
"""Unix time at which everything below ended."""


def case(kind: str = "torn", client: Client = "stream", two: bool = False) -> Case:
    return Case("7", kind, client, two, {"deltas": list(SAID)}, "".join(SAID))


def stream(*texts: str, status: str = "failed", reason: str = "interrupted", http: int = 502) -> list[Event]:
    tokens: list[Event] = [{"type": "tokens", "seq": seq, "text": text} for seq, text in enumerate(texts)]
    error = {} if status in ("completed", "stopped", "cancelled") else {"error": {"status": http, "code": reason}}
    return [*tokens, {"type": "end", "seq": len(texts), "status": status, "reason": reason, "at_ms": AT * 1000} | error]


COMPLETE = {"status": "completed", "reason": "stop"}
TORN = {"reason": "truncated"}


@pytest.mark.parametrize(
    ("asked", "events"),
    [
        (case(), stream("river ", "lock ")),
        (case(), stream(**TORN)),
        (case(two=True), stream(STORY, **COMPLETE)),
        (case("good"), stream(*SAID, **COMPLETE)),
        (case("too many"), stream(reason="rate_limited", http=503)),
    ],
)
def test_a_right_stream_passes(asked: Case, events: list[Event]) -> None:
    assert check.of_stream(asked, events) == []


@pytest.mark.parametrize(
    ("asked", "events", "found"),
    [
        (case(), stream("river ")[:-1], "0 ends"),
        (case(), stream("river ") + stream("river ")[-1:], "2 ends"),
        (case(), [*stream("river "), stream("lock ")[0]], "1 ends"),
        (case(), stream("river ", "lock ")[1:], "numbered"),
        (case(), stream("river ", "river "), "nobody said"),
        (case(), stream("river ", **COMPLETE), "ended as"),
        (case(), stream("river ", **TORN), "ended as"),
        (case(), stream(), "ended as"),
        (case(), stream(reason="timeout", http=504), "ended as"),
        (case(two=True), stream(**TORN), "ended as"),
        (case(two=True), stream("river ", STORY, **COMPLETE), "nobody said"),
        (case(two=True), stream(STORY[:20], **COMPLETE), "nobody said"),
        (case("html"), stream("river "), "ended as"),
        (case("good"), stream("river ", **COMPLETE), "nobody said"),
        (case("too many"), stream(reason="rate_limited", http=502), "ended as"),
    ],
)
def test_a_wrong_stream_is_found(asked: Case, events: list[Event], found: str) -> None:
    assert found in " ".join(check.of_stream(asked, events))


WHOLE = Held(case("good"), AT, 0.1, "id", 200, "".join(SAID), "stop", done=True)
BROKEN = Held(case(), AT, 0.1, "id", 200, "river ", None, "interrupted")
REFUSED = Held(case("too many", "whole"), AT, 0.1, "id", 503, "", None, "rate_limited", "1")
LEFT = Held(case("endless, its reader leaves"), AT, 0.1, "id", 200, "river ", left=AT)
READ = Held(case(client="kafka"), AT, text="river ", seqs=(0, 1), end=stream("river ")[-1])


@pytest.mark.parametrize(
    ("held", "events"),
    [
        (WHOLE, stream(*SAID, **COMPLETE)),
        (BROKEN, stream("river ")),
        (REFUSED, stream(reason="rate_limited", http=503)),
        (LEFT, stream("river ", "lock ", status="cancelled", reason="reader_gone")),
        (READ, stream("river ")),
    ],
)
def test_a_right_client_passes(held: Held, events: list[Event]) -> None:
    assert check.of_client(held, events) == []


@pytest.mark.parametrize(
    ("held", "events", "changes"),
    [
        (WHOLE, stream(*SAID, **COMPLETE), {"text": "river lock "}),
        (WHOLE, stream(*SAID, **COMPLETE), {"done": False}),
        (WHOLE, stream(*SAID, **COMPLETE), {"finish": "length"}),
        (WHOLE, stream(*SAID, **COMPLETE), {"code": "interrupted"}),
        (BROKEN, stream("river "), {"done": True}),
        (BROKEN, stream("river "), {"finish": "stop"}),
        (BROKEN, stream("river "), {"code": None}),
        (BROKEN, stream("river "), {"text": "river river "}),
        (REFUSED, stream(reason="rate_limited", http=503), {"http": 200}),
        (REFUSED, stream(reason="rate_limited", http=503), {"retry_after": None}),
        (LEFT, stream("river ", status="cancelled", reason="reader_gone"), {"text": "lock "}),
        (READ, stream("river "), {"text": ""}),
        (READ, stream("river "), {"seqs": (0, 0, 1)}),
        (READ, stream("river "), {"end": None}),
    ],
)
def test_a_wrong_client_is_found(held: Held, events: list[Event], changes: dict[str, Any]) -> None:
    wrong = deepcopy(held)
    for name, value in changes.items():
        setattr(wrong, name, value)
    assert len(check.of_client(wrong, events)) == 1


def test_what_takes_too_long_is_found() -> None:
    assert check.of_time(Held(case("good"), AT, check.AT_ONCE_S)) == []
    assert check.of_time(Held(case("good"), AT, check.AT_ONCE_S + check.SLACK_S + 0.1)) != []
    assert check.of_time(Held(case("hangs"), AT, KINDS["hangs"].within_s)) == []
    assert check.of_time(Held(case("hangs"), AT, KINDS["hangs"].within_s + check.AT_ONCE_S + check.SLACK_S + 0.1)) != []


def iso(after_s: float) -> str:
    return check.datetime.fromtimestamp(AT + after_s).astimezone().isoformat()


RUNS: list[Event] = [
    {"type": "run_started", "run": "r", "target": {"model": "script"}},
    {"type": "run_ended", "run": "r"},
]
CALL: Call = {"request_id": "r", "started": iso(-2), "ended": iso(0.9)}


def test_a_right_record_of_calls_passes() -> None:
    end = stream("river ")[-1]
    assert check.of_calls(BROKEN, end, RUNS, [CALL]) == []
    assert check.of_calls(LEFT, end, RUNS, []) == []


@pytest.mark.parametrize(
    ("journal", "calls", "found"),
    [
        (RUNS, [], "calls []"),
        (RUNS, [CALL, CALL], "calls ['r', 'r']"),
        (RUNS, [CALL | {"request_id": "s"}], "calls ['s']"),
        (RUNS, [CALL | {"ended": None}], "goes on"),
        (RUNS, [CALL | {"ended": iso(3.1)}], "went on for 3.10 s"),
        (RUNS, [CALL | {"started": iso(0.5)}], "after the end"),
        (RUNS[:1], [CALL], "not those that ended"),
        ([*RUNS, RUNS[0] | {"run": "s"}, RUNS[1] | {"run": "s"}], [CALL, CALL | {"request_id": "s"}], "2 runs"),
    ],
)
def test_a_wrong_record_of_calls_is_found(journal: list[Event], calls: list[Call], found: str) -> None:
    assert found in " ".join(check.of_calls(BROKEN, stream("river ")[-1], journal, calls))


def test_the_seed_fixes_the_mix() -> None:
    assert draw(7, 100) == draw(7, 100) != draw(8, 100)
    assert {bad.kind for bad, _ in draw(7, 100)} == KINDS.keys() - {"good"}
    assert {good.kind for _, good in draw(7, 100)} == {"good"}
