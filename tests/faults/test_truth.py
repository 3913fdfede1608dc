"""The control of each check: the record of a good load passes, and each way to break it is found and named."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.faults.counted import JOINED, VIEWS, values
from tests.faults.evidence import Evidence, Held, Kill, Record
from tests.faults.scripts import MAX_TOKENS, Asked, How, moderated, tokens
from tests.faults.truth import violations

NOW_MS = 1_800_000_000_000
MAY_FAIL = {"reader_gone": "edge", "interrupted": "dispatch"}
EDGE = {"instance": "edge-0", "incarnation": "a"}


def good() -> Evidence:
    """Four requests as they should be: two that resume (one stopped by a phrase), a plain one, a broken-off one."""
    found = Evidence(
        [], {name: [] for name in ("requests", "journal", "tokens", "outcomes", "answers", "verdicts")}, []
    )
    found.topics["dead-letters"] = []
    play(found, "r1", "ws", ["The river ", "rises ", "slowly"])
    play(found, "r2", "kafka", ["We call it ", "project ", "night", "fall, as ", "you know"], shown=1)
    play(found, "r3", "http", ["Шлюз ", "закрыт"])
    play(found, "r4", "http", ["Never ", "heard ", "of"], shown=1, cancelled=True)
    found.held[0].breaks.append((1.5, "closed"))
    found.kills.append(Kill("edge", NOW_MS + 50, 100.0))
    add(found, "journal", {"type": "edge_started", "edge": EDGE}, 60)
    sink(found)
    return found


def add(found: Evidence, topic: str, event: dict[str, Any], at: int = 0, partition: int = 0) -> None:
    records = found.topics[topic]
    records.append(Record(partition, len(records), NOW_MS + at, event))


def play(
    found: Evidence, request: str, how: How, deltas: list[str], shown: int | None = None, cancelled: bool = False
) -> None:
    """A request's whole life, `shown` of its deltas released."""
    asked = Asked(f"key of {request}", how, tuple(deltas), 0, 0)
    run, right = f"run of {request}", deltas[:shown]
    of = {"id": request, "tenant": "demo"}
    add(found, "requests", of | {"metadata": {"asked": asked.key}})
    add(found, "journal", of | {"type": "decision", "attempt": 1})
    add(found, "journal", of | {"type": "run_started", "attempt": 1, "run": run}, 1)
    for n, text in enumerate(deltas):
        add(found, "journal", of | {"type": "chunk", "run": run, "n": n, "text": text}, 5)
    add(found, "journal", of | {"type": "run_ended", "run": run, "chunks": len(deltas)}, 30)
    for seq, text in enumerate(right):
        add(found, "tokens", of | {"type": "tokens", "seq": seq, "text": text}, 10)
    status, reason = ("cancelled", "reader_gone") if cancelled else moderated(asked.text)[1:]
    end = of | {"type": "end", "seq": len(right), "status": status, "reason": reason}
    add(found, "tokens", end, 80 if cancelled else 25)
    add(found, "outcomes", of | {"type": "outcome", "run": run, "attempt": 1, "status": status}, 31)
    found.calls.append({"request_id": run, "started_ms": NOW_MS + 2})
    held = Held(asked, request, asked_at=1.0)
    if not held.plain:
        held.records = [dict(r.event, cursor="c") for r in found.topics["tokens"] if r.event["id"] == request]
        held.arrivals = [2.0] * len(held.records)
    else:
        held.text, held.status = "".join(right), 200
        held.outcome, held.finish_reason = ("broken", None) if cancelled else ("done", "stop")
        held.breaks = [(100.1, "reset")] if cancelled else []
    found.held.append(held)


def sink(found: Evidence) -> None:
    """ClickHouse's rows, as they should be."""
    for name, view in (VIEWS | JOINED).items():
        records = found.events(view.topic, *view.kinds)
        place = [record[:2] if name in VIEWS else () for record in records]
        rows = [values(record.event, view.identity + view.told) for record in records]
        found.views[name] = [row + at for row, at in zip(rows, place, strict=True)]
        if name in VIEWS:
            found.tables[name] = [record[:2] for record in records]


def test_a_good_record_passes() -> None:
    assert violations(good(), MAY_FAIL) == []


def test_repeats_in_the_log_are_no_violation() -> None:
    """A stage that was killed writes again what it cannot know to be there."""
    found = good()
    for record in found.events("tokens", "tokens", "end"):
        add(found, "tokens", record.event, 90)
    assert violations(found, MAY_FAIL) == []


Break = Callable[[Evidence], object]


def drop_token(e: Evidence) -> None:
    del e.topics["tokens"][1]


def change(e: Evidence, topic: str, kind: str, number: int = 0, at: int = 0, **fields: Any) -> None:
    """Another value in a record of a topic."""
    record = e.events(topic, kind)[number]
    place = e.topics[topic].index(record)
    e.topics[topic][place] = record._replace(at_ms=record.at_ms + at, event=record.event | fields)


def again(e: Evidence, topic: str, kind: str, **fields: Any) -> None:
    """A record of a topic once more, with other values."""
    add(e, topic, e.events(topic, kind)[0].event | fields, 95)


def leak(e: Evidence) -> None:
    """The phrase reaches log and client, piece by piece."""
    change(e, "tokens", "tokens", 3, text="We call it project night")
    again(e, "tokens", "tokens", id="r2", seq=1, text="fall")


BREAKS: dict[str, tuple[Break, str]] = {
    "a token is missing in the log": (drop_token, "is released as [0, 2, 3]"),
    "a released record changed": (
        lambda e: again(e, "tokens", "tokens", text="other"), "two different records 0"),
    "a second end": (lambda e: again(e, "tokens", "end", seq=4), "has 2 ends"),
    "two ends of one seq": (
        lambda e: again(e, "tokens", "end", status="failed"), "two different records 3"),
    "no end": (lambda e: e.topics["tokens"].pop(3), "has 0 ends"),
    "text after the end": (
        lambda e: again(e, "tokens", "tokens", seq=4), "goes on after its end"),
    "a stream nobody asked for": (lambda e: again(e, "tokens", "end", id="r9"), "never asked for"),
    "other text": (lambda e: change(e, "tokens", "tokens", 1, text="rose "), "is not what was to be said"),
    "a wrong end": (lambda e: change(e, "tokens", "end", 0, reason="length"), "ended ('completed', 'length') and not"),
    "an undue failure": (
        lambda e: change(e, "tokens", "end", 0, status="failed", reason="interrupted"), "ended ('failed', 'interr"),
    "a failure whose fault came later": (
        lambda e: (change(e, "tokens", "end", 0, status="failed", reason="interrupted"),
                   e.kills.append(Kill("dispatch", NOW_MS + 26, 9.0))),
        "r1 ended ('failed', 'interrupted')"),
    "a failure with wrong text": (
        lambda e: change(e, "tokens", "tokens", -1, text="Nevor "), "failed, and is not the beginning"),
    "a client lacks a record": (lambda e: e.held[0].records.pop(1), "holds [0, 2, 3]"),
    "a client has a record twice": (
        lambda e: e.held[0].records.insert(1, e.held[0].records[0]), "holds [0, 0, 1, 2, 3]"),
    "a client has other text": (lambda e: e.held[0].records[0].update(text="A river "), "holds {"),
    "a client has another end": (lambda e: e.held[0].records[3].update(status="failed"), "holds {"),
    "a client without an end": (lambda e: e.held[0].records.pop(), "never saw an end"),
    "a client was told of a gap": (lambda e: e.held[0].gaps.append({"oldest_seq": 2}), "told of a gap"),
    "a client is stuck": (lambda e: setattr(e.held[0], "wrong", "no end within 9 s"), "no end within 9 s"),
    "a plain answer is short": (lambda e: setattr(e.held[2], "text", "Шлюз "), "is not what was to be said (stop)"),
    "a plain answer ends cleanly and too early": (
        lambda e: setattr(e.held[3], "outcome", "clean"), "the plain answer of key of r4 (r4) ended clean"),
    "a plain answer never ends": (lambda e: setattr(e.held[3], "outcome", ""), "(r4) ended never"),
    "a plain answer breaks off by itself": (lambda e: e.kills.clear(), "and no edge has died"),
    "a broken plain answer goes on": (
        lambda e: change(e, "tokens", "end", 3, at=5000, status="completed", reason="stop"), "although its edge came"),
    "a plain answer is refused for nothing": (
        lambda e: setattr(e.held[2], "outcome", "refused"), "told of a failure (200) that is none"),
    "a plain request is published twice": (
        lambda e: again(e, "requests", None, id="r8", metadata={"asked": "key of r3"}), "published 2 times"),
    "a run is called twice": (lambda e: e.calls.append(dict(e.calls[0])), "a run was called twice"),
    "a call nobody announced": (
        lambda e: e.calls.append({"request_id": "run of nobody", "started_ms": NOW_MS}), "not in the journal"),
    "a call after its run's end": (
        lambda e: e.calls[0].update(started_ms=NOW_MS + 200), "was called for run run of r1 after its end"),
    "a call after the request's end": (
        lambda e: e.calls[0].update(started_ms=NOW_MS + 2000), "1 provider calls after its end"),
    "a further run without a kill": (
        lambda e: (again(e, "journal", "run_started", run="run 2"),
                   e.calls.append({"request_id": "run 2", "started_ms": NOW_MS + 3})),
        "2 provider calls, 1 allowed"),
    "a request is cancelled that nobody cancels": (
        lambda e: change(e, "tokens", "end", 0, status="cancelled", reason="client"), "ended ('cancelled', 'client')"),
    "a leaked phrase": (leak, "a blocked phrase was released: r2 in the log"),
    "a phrase leaked to a client alone": (
        lambda e: e.held[1].records[0].update(text="project nightfall"), "key of r2 at its client"),
    "a dead letter": (lambda e: add(e, "dead-letters", {"value": "{}"}), "a good record was dead-lettered"),
    "a view lacks an event": (lambda e: e.views["chunks"].pop(), "view chunks lacks"),
    "a view counts an event twice": (lambda e: e.views["ends"].append(e.views["ends"][0]), "counts ('r1',) 2 times"),
    "a view has what the log has not": (
        lambda e: e.views["runs"].append(("r7", "run", 0, 99)), "view runs has ('r7', 'run')"),
    "a view tells another text": (
        lambda e: e.views["releases"].__setitem__(0, ("r1", 0, "A river ", 0, 0)), "view releases tells"),
    "a view shows a later record": (
        lambda e: e.views["ends"].__setitem__(0, (*e.views["ends"][0][:-1], 99)), "not from its first record"),
    "a table lacks a record": (lambda e: e.tables["chunks"].pop(), "chunks_log lacks record"),
    "a table holds a record twice": (
        lambda e: e.tables["chunks"].append(e.tables["chunks"][0]), "times"),
    "a table holds no record": (lambda e: e.tables["outcomes"].append((3, 999)), "which is no such record"),
    "a joined view doubles": (
        lambda e: e.views["attempts"].append(e.views["attempts"][0]), "view attempts counts"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_found(name: str) -> None:
    spoil, said = BREAKS[name]
    found = deepcopy(good())
    spoil(found)
    told = violations(found, MAY_FAIL)
    assert any(said in line for line in told), told


def test_a_failure_that_may_happen_is_none() -> None:
    """The beginning of the text with a declared end, of a request that the kill has hit."""
    found = good()
    found.kills.append(Kill("dispatch", NOW_MS + 20, 9.0))
    change(found, "tokens", "end", 0, status="failed", reason="interrupted")
    found.held[0].records[-1].update(status="failed", reason="interrupted")
    left = [line for line in violations(found, MAY_FAIL) if not line.startswith("view ")]
    assert left == []


@pytest.mark.parametrize(("asked_before_s", "told"), [(0.05, 0), (-0.05, 1)])
def test_a_fault_hits_who_asked_before_it(asked_before_s: float, told: int) -> None:
    """The record may come later: a log that was away takes it when it is back."""
    found = good()
    found.kills[:] = [Kill("dispatch", NOW_MS - 10, found.held[0].asked_at + asked_before_s)]
    change(found, "tokens", "end", 0, status="failed", reason="interrupted")
    assert len([line for line in violations(found, MAY_FAIL) if "r1 ended" in line]) == told


def test_a_kill_of_dispatch_allows_one_more_call() -> None:
    found = good()
    found.kills.append(Kill("dispatch", NOW_MS + 10, 9.0))
    BREAKS["a further run without a kill"][0](found)
    assert not [line for line in violations(found, MAY_FAIL) if "allowed" in line]


def test_what_may_be_read_of_a_script() -> None:
    assert moderated("all of it") == ("all of it", "completed", "stop")
    assert moderated("The name is Project  Nightfall, so") == ("The name is ", "stopped", "content_filter")
    assert moderated("проекты полночь") == ("проекты полночь", "completed", "stop")
    text, status, reason = moderated("river " * 500)
    assert (len(text), status, reason) == (4 * MAX_TOKENS, "stopped", "token_limit")
    assert tokens("река") == 2
