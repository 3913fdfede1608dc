"""A rolling restart (SIGTERM, a stage at a time) under load, with streams as long as the policy allows beside."""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.faults.evidence import Evidence, Held, Kill, Record
from tests.faults.gather import gather, mark
from tests.faults.load import Load
from tests.faults.scripts import WORDS, Asked
from tests.faults.system import POLICY, STAGES, System, started
from tests.faults.test_kills import busy_s
from tests.faults.truth import violations

pytestmark = pytest.mark.kafka

MAY_FAIL = {"shutdown": "dispatch", "reader_gone": "edge"}
"""What outlasts a draining dispatch; plain HTTP under a restarting edge."""
DRAIN_S = 8.0
INTERRUPTED_S = 2.0
"""Two seconds are promised of a machine that has nothing else to do; where a bare start takes longer, so may this."""
SLACK = 3.0
"""And where other tests run beside: what they take of the machine in that moment no bare start before it tells."""
Restart = tuple[Kill, float, float]
"""What was told to end, when its successor worked, and how much slower than before the load things were."""


@pytest.fixture(scope="module")
def longest_s(full: bool) -> float:
    """A stream of almost the deadline's length."""
    return 100.0 if full else 15.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, longest_s: float) -> Iterator[System]:
    """Under a shorter deadline and drain, so that streams outlast both; readers may stay away while an edge starts."""
    home = tmp_path_factory.mktemp("rolling")
    policy = home / "policy.yaml"
    rules = POLICY.read_text().replace("deadline_s: 120", f"deadline_s: {longest_s + 5:g}")
    policy.write_text(rules.replace("resume_grace_s: 5", "resume_grace_s: 60"))
    with started(home, policy, SLUICE_DRAIN_S=f"{DRAIN_S:g}") as running:
        yield running


@pytest.mark.timeout(600)
def test_a_rolling_restart_interrupts_nobody_for_long(
    system: System, longest_s: float, seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"{seed} rolls")
    others = [stage for stage in STAGES if stage != "dispatch"] * 3 if full else ["guard", "edge"]
    dice.shuffle(others)
    idle = {stage: busy_s(stage) for stage in {"dispatch", *others}}
    since = mark(system)

    def longest(dice: random.Random, key: str) -> Asked:
        deltas = [f"{word} " for word in dice.choices(WORDS["en"], k=150)]
        return Asked(key, dice.choice(("ws", "kafka")), tuple(deltas), 0, longest_s * 1000 / len(deltas))

    with Load(system, seed=seed, streams=200 if full else 20, seconds=(1, 4)) as load:
        load.flowing()
        with Load(system, seed=seed + 1, streams=2, asks=longest) as excepted:
            excepted.flowing()
            excepted.last()
            restarts = [restart(system, "dispatch", idle["dispatch"])]
            with Load(system, seed=seed + 2, streams=4, asks=longest) as beside:
                beside.flowing()
                beside.last()
                for stage in others:
                    time.sleep(dice.uniform(0, 1))  # the moment is the seed's
                    restarts.append(restart(system, stage, idle[stage]))
    held = [*load.held, *excepted.held, *beside.held]
    with capsys.disabled():
        print("", *(told(one, held) for one in restarts), sep="\n")
    found = gather(system, since, held, [kill for kill, _, _ in restarts])
    assert violations(found, MAY_FAIL) == []
    assert list(cut_short(found)) == []
    assert [one.records[-1]["reason"] for one in excepted.held] == ["shutdown"] * 2
    assert [one.records[-1]["reason"] for one in beside.held] == ["stop"] * 4
    most_s = INTERRUPTED_S * (1 if full else SLACK)
    assert [told(one, held) for one in restarts if interruption(one, held) > most_s * one[2]] == []


@pytest.mark.timeout(300)
def test_the_control_a_stage_that_does_not_drain(system: System, seed: int) -> None:
    """The same under a dispatch that is killed instead: the truth says so."""
    since = mark(system)
    with Load(system, seed=seed, streams=10, seconds=(3, 6), hows=("ws",)) as load:
        load.flowing()
        kill = system.kill("dispatch")
        system.recovered(kill)
    found = gather(system, since, load.held, [kill])
    assert any("ended ('failed', 'interrupted')" in line for line in violations(found, MAY_FAIL))
    assert any(line for line in cut_short(found))


def restart(system: System, stage: str, idle_s: float) -> Restart:
    """Tell a stage's process to end, and wait until its successor works; `idle_s` is a bare start without a load."""
    kill = system.kill(stage, signal.SIGTERM)
    system.recovered(kill)
    back = time.monotonic()
    return kill, back, max(1.0, busy_s(stage) / idle_s)


def interruption(restarted: Restart, held: list[Held]) -> float:
    """The longest time without a record of a stream that can resume, of those that reach into a restart."""
    kill, back, _ = restarted
    waits = (
        later - earlier
        for one in held
        if not one.plain
        for earlier, later in pairwise(one.arrivals)
        if earlier < back and later > kill.at
    )
    return max(waits, default=0.0)


def told(restarted: Restart, held: list[Held]) -> str:
    kill, back, slower = restarted
    longest = interruption(restarted, held)
    return (
        f"{kill.stage}: back after {back - kill.at:.1f} s, the longest interruption {longest:.1f} s"
        f" (a bare start took {slower:.1f} times as long as without the load)"
    )


def cut_short(found: Evidence) -> Iterator[str]:
    """Streams that ended because of a restart and not because they outlasted dispatch's drain, and further runs."""
    drained = [kill.at_ms + DRAIN_S * 1000 for kill in found.kills if kill.stage == "dispatch"]
    resumable = {one.id for one in found.held if not one.plain}
    for end in found.events("tokens", "end"):
        if end.event["status"] == "failed" and end.at_ms < min(drained, default=float("inf")):
            yield f"{end.event['id']} failed ({end.event['reason']}) before the drain was over"
        if end.event["status"] == "cancelled" and end.event["id"] in resumable:
            yield f"{end.event['id']} was cancelled ({end.event['reason']}), and its reader can resume"
    for request, count in Counter(run.event["id"] for run in found.events("journal", "run_started")).items():
        if count > 1:
            yield f"{request} has {count} runs"


def test_an_interruption_is_seen() -> None:
    """Of a stream that had begun, in the time of the restart alone, however it was read."""
    held = Held(Asked("a", "ws", ("x",), 0, 0), arrivals=[1.0, 2.0, 5.5, 8.0])
    plain = Held(Asked("b", "http", ("x",), 0, 0), arrivals=[1.0, 9.0])
    restarted = (Kill("guard", 0.0, 3.0), 5.0, 1.0)
    assert interruption(restarted, [held, plain]) == 3.5
    assert interruption((Kill("guard", 0.0, 8.5), 9.0, 1.0), [held, plain]) == 0.0


def test_a_stream_that_was_cut_short_is_seen() -> None:
    kill = Kill("dispatch", 1000.0, 1.0)
    end = {"type": "end", "id": "r", "status": "failed", "reason": "shutdown"}
    run = {"type": "run_started", "id": "r"}

    def found(at_ms: float, **more: str) -> Evidence:
        reader = Held(Asked("a", "ws", ("x",), 0, 0), id="r")
        topics = {"tokens": [Record(0, 0, int(at_ms), end | more)], "journal": [Record(0, 0, 0, run)]}
        return Evidence([reader], topics, [], kills=[kill])

    assert list(cut_short(found(1000 + DRAIN_S * 1000))) == []
    assert len(list(cut_short(found(5000.0)))) == 1
    assert len(list(cut_short(found(99_000.0, status="cancelled")))) == 1
    doubled = found(99_000.0)
    doubled.topics["journal"] *= 2
    assert len(list(cut_short(doubled))) == 1
