"""Who leaves or cancels stops costing: nobody calls on for them, by the provider's own record and by the journal."""

import asyncio
import json
import random
import signal
import socket
import struct
import time
import urllib.request
from contextlib import suppress
from typing import Any, Literal

import pytest
from websockets.asyncio.client import connect

from processors.identity import partition_of
from tests.e2e.pipeline import new_id
from tests.faults.evidence import Held, Record
from tests.faults.gather import calls, gather, mark, settled
from tests.faults.playing import paced, playing, until
from tests.faults.scripts import Asked
from tests.faults.system import System
from tests.faults.truth import violations

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

CANCEL_S = 1.0
"""What is promised: the provider's connection is closed within a second of a cancel, or of the closed socket."""
SLACK_S = 1.0
"""What this machine may add: the tests' clients, the broker and all stages share its cores."""

Leaving = Literal["closed", "reset", "half-closed", "at any moment", "socket"]
LEAVING: tuple[Leaving, ...] = ("closed", "reset", "half-closed", "at any moment", "socket")


def test_a_client_that_vanishes_stops_its_call(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"{seed} vanished")
    since = mark(system)
    left: dict[str, float] = {}
    staying = [Held(paced(dice, "stays", "http", 100, 30)) for _ in range(4)]
    leaving = [(kind, paced(dice, kind, "http", 150, 60)) for kind in LEAVING for _ in range(20 if full else 4)]

    async def leave_all() -> None:
        moments = [dice.uniform(0.0, 2.0) for _ in leaving]
        await asyncio.gather(*[leave(system, *one, left, moment) for one, moment in zip(leaving, moments, strict=True)])

    with playing(system, staying, dice):
        asyncio.run(leave_all())
    topics = settled(system, since)
    by_key = called(system, topics)
    late = {key: max(ended(call) for call in by_key.get(key, [])) - at for key, at in left.items() if by_key.get(key)}
    with capsys.disabled():
        print(f"\ncalls are closed up to {max(late.values()):.3f} s after their client has gone ({len(late)} calls)")
    assert len(late) > len(leaving) / 2
    assert {key: by for key, by in late.items() if by > CANCEL_S + SLACK_S} == {}
    assert [call for key in left for call in by_key.get(key, []) if call["how"] != "client_closed"] == []
    assert {held.outcome for held in staying} == {"done"}  # the control: without leaving, a call runs to its end
    assert {call["how"] for held in staying for call in by_key[held.asked.key]} == {"finished"}


async def leave(system: System, kind: Leaving, asked: Asked, left: dict[str, float], moment: float) -> None:
    """Ask, and vanish after the first text; or at a moment, whatever has come by then."""
    if kind == "socket":
        url = system.pipeline.url.replace("http", "ws") + "/v1/ws"
        opened = await connect(url, additional_headers={"Authorization": f"Bearer {system.key}"})
        await opened.send(json.dumps({"type": "submit", "request": asked.body(), "on_disconnect": "cancel"}))
        while '"tokens"' not in str(await opened.recv()):
            pass
        left[asked.key] = time.monotonic()
        opened.transport.abort()
        return
    host, port = system.pipeline.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(asked.body() | {"stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {system.key}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    if kind == "at any moment":
        await asyncio.sleep(moment)
    else:
        await reader.readuntil(b"data: ")
    left[asked.key] = time.monotonic()
    if kind == "half-closed":
        writer.write_eof()
        await reader.read()
    elif kind == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def called(system: System, topics: dict[str, list[Record]]) -> dict[str, list[dict[str, Any]]]:
    """The provider's calls by the key of what was asked."""
    key_of = {r.event["id"]: r.event["metadata"]["asked"] for r in topics["requests"] if "metadata" in r.event}
    runs = {r.event["run"]: key_of[r.event["id"]] for r in topics["journal"] if r.event.get("type") == "run_started"}
    until(lambda: all(c["how"] for c in calls_of(system, runs)), "every call has ended")
    by_key: dict[str, list[dict[str, Any]]] = {}
    for call in calls_of(system, runs):
        by_key.setdefault(runs[call["request_id"]], []).append(call)
    return by_key


def calls_of(system: System, runs: dict[str, str]) -> list[dict[str, Any]]:
    """The provider's record of these runs, as it is now."""
    return [call for call in system.pipeline.provider_calls() if call["request_id"] in runs]


def ended(call: dict[str, Any]) -> float:
    """When a call ended, of `time.monotonic`."""
    return float(call["ended_monotonic"])


def test_a_cancel_right_after_the_submit_ends_the_request(system: System, seed: int, full: bool) -> None:
    dice = random.Random(f"{seed} cancels")
    since = mark(system)
    held = [
        Held(paced(dice, "at once", dice.choice(("ws", "kafka")), 150, 60, dice.uniform(0, 100)), cancels=True)
        for _ in range(100 if full else 20)
    ]
    stays = Held(paced(dice, "stays", "ws", 20, 10))
    with playing(system, [*held, stays], dice):
        pass
    evidence = gather(system, since, [*held, stays])
    assert violations(evidence) == []
    assert {one.records[-1]["status"] for one in held} == {"cancelled"}
    assert stays.records[-1]["status"] == "completed"  # the control
    cancelled_ms = {r.event["id"]: r.at_ms for r in evidence.events("journal", "cancel")}
    assert cancelled_ms.keys() == {one.id for one in held}
    run_of = {r.event["run"]: r.event["id"] for r in evidence.events("journal", "run_started")}
    until(lambda: all(call["how"] for call in calls(system, since)), "every call has ended")
    shift = time.time() - time.monotonic()
    late = {
        run: (ended(call) + shift) * 1000 - cancelled_ms[run_of[run]]
        for call in calls(system, since)
        if run_of[run := call["request_id"]] != stays.id
    }
    assert {run: ms for run, ms in late.items() if ms > (CANCEL_S + SLACK_S) * 1000} == {}


def test_a_cancel_between_two_attempts_allows_no_second(system: System) -> None:
    """Admission is held while the first attempt fails, so that the cancel stands before its word on the next. The
    second request is the control, and tells when admission has spoken on both: they share every partition."""
    since = mark(system)
    cancelled, other = new_id(), new_id()
    while partition_of(cancelled, 4) != partition_of(other, 4):
        other = new_id()
    pipeline, fails = system.pipeline, json.dumps({"simulate": {"status": 503, "first_ms": 3000}})
    for request in (cancelled, other):
        pipeline.publish(id=request, model="script", messages=[{"role": "user", "content": fails}])
    for request in (cancelled, other):
        pipeline.records("journal", request, "run_started")
    admission = pipeline.stage("admission")
    admission.suspend()
    try:
        for request in (cancelled, other):
            pipeline.records("journal", request, "run_ended")
        delete(system, cancelled)
        end = pipeline.records("tokens", cancelled, "end")[-1]
    finally:
        admission.resume()
    assert (end["status"], end["reason"]) == ("cancelled", "client")
    assert pipeline.records("tokens", other, "end")[-1]["status"] == "failed"
    runs = [r.event for r in settled(system, since)["journal"] if r.event.get("type") == "run_started"]
    made = [call["request_id"] for call in calls(system, since)]
    counts = {one: sum(run["id"] == one and run["run"] in made for run in runs) for one in (cancelled, other)}
    assert counts == {cancelled: 1, other: 2}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_a_cancel_during_a_restart_of_dispatch_lets_no_run_go_on(
    system: System, seed: int, full: bool, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of those that run are cancelled, and half of those that are submitted while it is away."""
    dice = random.Random(f"{seed} {number.name}")
    since = mark(system)
    count = 40 if full else 12
    running = [Held(paced(dice, "running", "ws", 150, 60)) for _ in range(count)]
    meanwhile = [Held(paced(dice, "meanwhile", "kafka", 40, 20), cancels=bool(n % 2)) for n in range(count)]
    cancelled_at: dict[str, float] = {}
    with playing(system, running, dice):
        until(lambda: all(held.arrivals for held in running), "all have text")
        kill = system.kill("dispatch", number)
        with playing(system, meanwhile, dice):
            for held in running[::2]:
                assert held.id is not None
                cancelled_at[held.id] = time.monotonic()
                delete(system, held.id)
            system.recovered(kill)
            back_at = time.monotonic()
    evidence = gather(system, since, [*running, *meanwhile], [kill])
    assert violations(evidence, {"interrupted": "dispatch"}) == []
    cancelled_at |= {str(held.id): held.asked_at for held in meanwhile if held.cancels}
    run_of = {r.event["run"]: r.event["id"] for r in evidence.events("journal", "run_started")}
    until(lambda: all(call["how"] for call in calls(system, since)), "every call has ended")
    late = {}
    for call in calls(system, since):
        request = run_of[call["request_id"]]
        if request in cancelled_at:
            killed = number is signal.SIGKILL  # one that drains obeys all the while
            late[request] = ended(call) - max(cancelled_at[request], back_at if killed else 0)
    with capsys.disabled():
        print(f"\n{len(late)} calls of {len(cancelled_at)} cancelled, the last closed {max(late.values()):.3f} s late")
    assert {request: by for request, by in late.items() if by > CANCEL_S + SLACK_S} == {}
    ends = {held.id: held.records[-1]["status"] for held in [*running, *meanwhile]}
    assert {ends[held.id] for held in meanwhile if held.cancels} == {"cancelled"}
    assert {ends[held.id] for held in running[::2]} <= {"cancelled", "failed"}  # failed: the kill itself stands first
    assert {ends[held.id] for held in meanwhile if not held.cancels} == {"completed"}  # the control


def delete(system: System, request: str) -> None:
    """Cancel by HTTP."""
    url, headers = f"{system.pipeline.url}/v1/streams/{request}?wait_s=10", {"Authorization": f"Bearer {system.key}"}
    urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="DELETE"), timeout=30).close()
