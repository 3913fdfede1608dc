"""kill -9 of each stage in turn, at random moments, under many streams: then the whole truth is checked."""

import random
import time

import pytest

from tests.faults.evidence import Kill
from tests.faults.gather import gather, mark
from tests.faults.load import Load
from tests.faults.system import STAGES, Recovery, System
from tests.faults.truth import violations

pytestmark = pytest.mark.kafka

MAY_FAIL = {"dispatch": {"interrupted"}, "edge": {"reader_gone"}}
"""Reasons of ends that a stage's death may cause; the other stages' deaths may cause none."""
GUARD_S, BUSY_S = 3.0, 2.0
"""A killed guard's streams move again within three seconds; and what a busy machine may add."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_killed_under_load(system: System, stage: str, seed: int, full: bool) -> None:
    dice = random.Random(f"{seed} {stage}")
    streams = 200 if full else 128 if stage == "guard" else 40
    since = mark(system)
    kills: list[Kill] = []
    recoveries: list[tuple[Recovery, float]] = []
    with Load(system, seed=seed, streams=streams, seconds=(2, 6) if streams > 40 else (1, 4)) as load:
        load.flowing()
        for _ in range(10 if full else 1):
            time.sleep(dice.uniform(0, 1.5))  # the moment is the seed's
            kill = system.kill(stage)
            recovery = system.recovered(kill)
            time.sleep(0.5)  # so that what moves again has arrived
            kills.append(kill)
            recoveries.append((recovery, load.moved_again(kill)))
    for recovery, moved in recoveries:
        print(
            f"{stage}: back after {recovery.total_s:.1f} s ({recovery.own_s:.1f} s its own), text after {moved:.1f} s"
        )
    assert violations(gather(system, since, load.held, kills), MAY_FAIL.get(stage, ())) == []
    if stage == "guard":
        slowest = max(recovery.own_s for recovery, _ in recoveries)
        assert slowest < GUARD_S + BUSY_S
