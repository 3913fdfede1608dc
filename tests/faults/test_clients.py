"""Readers as they are: slow, restless, late, many. What each is owed, and what the others notice: nothing."""

import asyncio
import json
import random
import re
import secrets
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from typing import NamedTuple

import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.edge.peer import LINGER_S
from connectors.kafka.keys import PREFIX, publish_key
from processors.identity import partition_of
from tests.e2e.pipeline import new_id
from tests.faults.connecting import HANDSHAKE, Connecting
from tests.faults.evidence import Held, Kill
from tests.faults.gather import await_sink, calls, gather, mark
from tests.faults.load import Load
from tests.faults.playing import paced, playing, until
from tests.faults.scripts import Asked
from tests.faults.system import System, await_key
from tests.faults.test_kills import busy_s
from tests.faults.truth import violations
from tests.faults.wide import PIECE, PIECES, TOO_SLOW, Wide

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

TIMES = 20
ON_S = 1.5
"""Within so long of their edge's return all of its readers go on; the slowest answers come a piece in 0.6 s. A busy
machine has more: see `busy_s`."""


def address(system: System, instance: int, name: str = "url") -> str:
    """Where an edge has said that it listens."""
    return str(json.loads((system.home / "run" / f"edge-{instance}.json").read_bytes())[name])


def figures(system: System) -> dict[str, float]:
    """The edge's own figures."""
    with urllib.request.urlopen(address(system, 0, "metrics"), timeout=20) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^sluice_edge_(\w+) (\S+)$", text, re.MULTILINE)}


def test_one_who_comes_back_twenty_times_reads_one_stream(system: System, seed: int, full: bool) -> None:
    """By WebSocket and SSE, to two edges; the second reads half of the streams from the log."""
    dice = random.Random(f"{seed} restless")
    since = mark(system)
    held = [
        Held(
            paced(dice, "restless", dice.choice(("ws", "kafka")), 150, 60),
            leaves=sorted(dice.sample(range(1, 120), TIMES)),
        )
        for _ in range(40 if full else 8)
    ]
    with system.second("edge", SLUICE_INSTANCES="2", SLUICE_PORT="0"):
        edges = [system.pipeline.url, address(system, 1)]
        with playing(system, held, dice, edges):
            pass
    evidence = gather(system, since, held)
    assert violations(evidence) == []
    assert len(evidence.calls) == len(held)
    assert [one.connects for one in held if len(one.connects) <= TIMES] == []
    assert {edge for one in held for _, _, edge in one.connects} == set(edges)


def test_readers_who_come_back_at_once_after_their_edge_s_death_are_served_at_once(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """128 of them: more than may read the log at a time. The new edge has their streams in memory."""
    since = mark(system)
    kills: list[Kill] = []
    told: list[str] = []
    late: list[str] = []
    with Load(system, seed=seed, streams=128 if full else 48, seconds=(6, 12), hows=("ws", "kafka")) as load:
        for _ in range(3 if full else 1):
            load.flowing()
            kills.append(kill := system.kill("edge"))
            back = system.recovered(kill)
            back_at = kill.at + back.total_s
            until(lambda: all(after(held, back_at) for held in load.open), "every reader goes on")  # noqa: B023
            broken = [held for held in load.held if held.breaks and held.breaks[-1][0] >= kill.at]
            last = max(after(held, back_at) or 0.0 for held in broken)
            busy = busy_s("edge")
            told.append(
                f"{len(broken)} readers broken off; edge back after {back.total_s:.2f} s, {back.own_s:.2f} s its own,"
                f" of which a bare start takes {busy:.2f} s; the last of them went on {last:.2f} s after"
            )
            if last > ON_S + 2 * busy:
                late.append(told[-1])
    with capsys.disabled():
        print("", *told, sep="\n")
    assert violations(gather(system, since, load.held, kills), {"reader_gone": "edge"}) == []
    assert [why for held in load.held for _, why in held.breaks if "busy" in why] == []
    assert late == []


def after(held: Held, moment: float) -> float | None:
    """How long after a moment its next record came."""
    return next((at - moment for at in held.arrivals if at > moment), None)


def test_what_the_log_no_longer_keeps_is_told_as_a_gap(system: System, seed: int) -> None:
    """In mid-stream, to who asks an edge that reads it from the log: from the beginning, and by a cursor."""
    dice = random.Random(f"{seed} gap")
    owned_by_the_first = new_id()
    while partition_of(owned_by_the_first, 4) % 2:
        owned_by_the_first = new_id()
    asked = paced(dice, "gap", "kafka", 150, 60)
    follow = {"asked": asked, "id": owned_by_the_first}
    early = Held(**follow)  # type: ignore[arg-type]
    with system.second("edge", SLUICE_INSTANCES="2", SLUICE_PORT="0"), playing(system, [early], dice):
        system.pipeline.publish(id=owned_by_the_first, **asked.body())
        until(lambda: len(early.records) > 60, "there is something to lose")
        await_sink(system)  # which would lose it, too
        kept = early.records[40]
        lose(system, owned_by_the_first, offset_of(kept["cursor"]))
        late = [Held(**follow, records=early.records[:count]) for count in (0, 0, 0, 5, 5, 5)]  # type: ignore[arg-type]
        missed_nothing = [Held(**follow, records=early.records[:count]) for count in (40, 41, 50)]  # type: ignore[arg-type]
        with playing(system, [*late, *missed_nothing], dice, [address(system, 1)]):
            pass
    assert early.gaps == []
    assert early.ended  # who was there from the beginning has all of it
    for held in late:
        assert held.gaps == [{"type": "gap", "id": early.id, "oldest_seq": 40}]
        had = [record for record in held.records if record["seq"] < 40]
        assert held.records[len(had) :] == early.records[40:]
    for held in missed_nothing:  # the control
        assert (held.gaps, held.records) == ([], early.records)


def lose(system: System, request: str, before: int) -> None:
    """Let the log forget what stands before an offset in the partition of a request."""
    admin = AdminClient({"bootstrap.servers": system.bootstrap})
    for future in admin.delete_records([TopicPartition("tokens", partition_of(request, 4), before)]).values():
        future.result(30)


def offset_of(cursor: str) -> int:
    return int(cursor.split(".")[1], 16)


UNCHANGED_S = 0.8
"""What the others' p99 gap may move by between two windows on a busy machine; a stall of the edge shows as more."""
MOST_UNSENT = 256 << 10
"""As docs/api.md has it."""


def test_a_slow_reader_is_cut_and_the_others_do_not_notice(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the control a window in which the edge stands still now and then, one in which wide streams are read as they
    come, and one in which they are not."""
    dice = random.Random(f"{seed} slow")
    key = PREFIX + secrets.token_urlsafe(32)
    publish_key(system.bootstrap, key, tenant="wide", name="faults")
    await_key(system.pipeline.url, key)
    since = mark(system)
    others = [Held(Asked(f"other-{seed}-{n}", "ws", tuple("a " * 550), 0, 30)) for n in range(64 if full else 24)]
    read, slow = Wide(system, key, dice), Wide(system, key, dice)
    with playing(system, others, dice):
        until(lambda: all(held.arrivals for held in others), "the others have text")
        control = p99(others, *standing_still(system))
        began = time.monotonic()
        cut = figures(system)["slow_readers_total"]
        asyncio.run(read.read())
        beside_readers = p99(others, began, time.monotonic())
        assert figures(system)["slow_readers_total"] == cut
        assert [read.by_ws.ended, read.by_sse.ended, b"[DONE]" in read.plain] == [True, True, True]
        began = time.monotonic()
        asyncio.run(slow.read(lambda: figures(system)["slow_readers_total"] == cut + 3))
        beside_slow_ones = p99(others, began, time.monotonic())
    assert [slow.by_ws.ended, slow.by_sse.ended, b"[DONE]" in slow.plain] == [False, False, False]
    assert slow.closed == TOO_SLOW
    with playing(system, [slow.by_ws, slow.by_sse], dice, key=key):
        pass
    for held in (slow.by_ws, slow.by_sse):
        assert [record["seq"] for record in held.records] == list(range(len(held.records)))
        assert "".join(record.get("text", "") for record in held.records) == slow.asked.text
    (stopped,) = [call for call in calls(system, since) if call["how"] == "client_closed"]
    with capsys.disabled():
        print(
            f"\nthe others' p99 gap: {beside_readers:.3f} s beside readers, {beside_slow_ones:.3f} s beside slow ones,"
            f" {control:.3f} s in the control; cut after {stopped['deltas'] * PIECE >> 10} KiB"
        )
    assert MOST_UNSENT < stopped["deltas"] * PIECE < PIECES * PIECE
    assert beside_slow_ones < beside_readers + UNCHANGED_S
    assert control > beside_readers + UNCHANGED_S


def standing_still(system: System) -> tuple[float, float]:
    """A while in which the edge is stopped again and again; from when until when."""
    edge, began = psutil.Process(system.pid("edge")), time.monotonic()
    for _ in range(4):
        edge.suspend()
        time.sleep(1.6)  # the fault itself; far above what a busy machine does to the others
        edge.resume()
        time.sleep(0.1)
    return began, time.monotonic()


def p99(held: Sequence[Held], began: float, ended: float) -> float:
    """Of the times between two records of one reader, of all readers, within a window."""
    gaps = sorted(b - a for one in held for a, b in pairwise([t for t in one.arrivals if began <= t <= ended]))
    return gaps[len(gaps) * 99 // 100]


WARM = 100
FEW = 3
"""Descriptors and tasks by which an edge at rest may differ: a table's reconnect, a scrape."""
MEMORY_SLACK = 12 << 20
"""Bytes of resident memory by which it may, beside what it keeps of streams: its allocator's."""
REST_S = 60.0
"""Guards against hanging."""


def test_connects_and_disconnects_leave_nothing(
    system: System, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"{seed} connects")
    asked = paced(dice, "short", "ws", 5, 0)
    stored = Held(asked)
    with playing(system, [stored], dice):
        pass
    connecting = Connecting(system.pipeline.url, system.key, str(stored.id), asked.body())
    count = 10_000 if full else 1000
    asyncio.run(connecting.run(dice, WARM))
    before = at_rest(system)
    asyncio.run(connecting.run(dice, count))
    after = at_rest(system)
    with capsys.disabled():
        print(f"\nbefore {count} connects {before}, after {after}")
    assert grown(before, after) == []
    with held_open(connecting.url, 30):  # the control
        assert grown(before, holding(system)) == ["descriptors", "tasks"]


class Holding(NamedTuple):
    """What an edge's process holds; memory without what it keeps of streams."""

    descriptors: int
    tasks: int
    memory: int


def holding(system: System) -> Holding:
    edge, told = psutil.Process(system.pid("edge")), figures(system)
    kept = int(told["memory_bytes"])
    return Holding(edge.num_fds(), int(told["tasks"]), edge.memory_info().rss - kept)


def at_rest(system: System) -> Holding:
    """What it holds once nothing is open, and nothing has been closed for as long as a closed connection may linger."""
    give_up, since, last = time.monotonic() + REST_S, time.monotonic(), holding(system)
    while time.monotonic() < min(give_up, since + LINGER_S + 1):
        told, now = figures(system), holding(system)
        if told["open_streams"] or told["open_sockets"] or now[:2] != last[:2]:
            since = time.monotonic()
        last = now
        time.sleep(0.2)
    return last


def grown(before: Holding, after: Holding) -> list[str]:
    """What has become more than the slack allows."""
    most = Holding(before.descriptors + FEW, before.tasks + FEW, before.memory + MEMORY_SLACK)
    return [name for name in Holding._fields if getattr(after, name) > getattr(most, name)]


@contextmanager
def held_open(url: str, count: int) -> Iterator[None]:
    """Connections that stay for a while."""
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(count):
            opened = stack.enter_context(closing(socket.create_connection((host, int(port)))))
            opened.sendall(HANDSHAKE)
            assert b"101" in opened.recv(100)
        yield
