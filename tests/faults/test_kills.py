"""kill -9 of each stage in turn, at random moments, under many streams: then the whole truth is checked."""

import random
import subprocess
import sys
import time

import pytest

from tests.faults.evidence import Kill
from tests.faults.gather import gather, mark
from tests.faults.load import Load
from tests.faults.system import STAGES, System
from tests.faults.truth import violations

pytestmark = pytest.mark.kafka

MAY_FAIL = {"interrupted": "dispatch", "reader_gone": "edge"}
"""The reasons of ends that a stage's death may cause; the other stages' deaths may cause none."""
GUARD_S = 3.0
"""A killed guard works again within three seconds, at 128 open streams; asserted with slack: see `busy_s`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In full a load for each stage; else one load under which each is killed once."""
    if "stages" in metafunc.fixturenames:
        cases = [(stage,) for stage in STAGES] if metafunc.config.getoption("--full") else [STAGES]
        metafunc.parametrize("stages", cases, ids="-".join)


@pytest.mark.timeout(600)
def test_killed_stages_lose_and_double_nothing(
    system: System, stages: tuple[str, ...], seed: int, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"{seed} {stages}")
    schedule = [*stages] * (10 if full else 1)
    dice.shuffle(schedule)
    since = mark(system)
    kills: list[Kill] = []
    told: list[str] = []
    slow: list[str] = []
    with Load(system, seed=seed, streams=200 if full else 12, seconds=(2, 6)) as load:
        load.flowing()
        for stage in schedule:
            time.sleep(dice.uniform(0, 1.5))  # the moment is the seed's
            kills.append(system.kill(stage))
            back = system.recovered(kills[-1])
            busy = busy_s(stage)  # meanwhile what moves again has arrived
            moved = load.moved_again(kills[-1])
            told.append(
                f"{stage}: back after {back.total_s:.1f} s, {back.own_s:.1f} s its own, of which a bare start takes"
                f" {busy:.1f} s; text after {moved:.1f} s"
            )
            if stage == "guard" and back.own_s > GUARD_S + 2 * busy:
                slow.append(told[-1])
    with capsys.disabled():
        print("", *told, sep="\n")
    assert violations(gather(system, since, load.held, kills), MAY_FAIL) == []
    assert slow == []


def busy_s(stage: str) -> float:
    """How long a process takes that only imports the stage, under the same load: 0.5 s on an idle machine."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import streams.stage, streams.{stage}"], check=True)
    return time.monotonic() - began
