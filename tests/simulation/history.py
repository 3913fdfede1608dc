"""One history: run, judged; and if it fails, shrunk and told."""

from collections import Counter
from typing import NamedTuple

from tests.simulation.choices import Choices, Steps, shrink
from tests.simulation.scheduler import disturb
from tests.simulation.truth import Violation, check
from tests.simulation.world import World


class Verdict(NamedTuple):
    """What came of a history. `broken` is None where every promise held."""

    broken: Violation | None
    steps: Steps
    fired: Counter[str]
    ends: Counter[str]


def play(choices: Choices, told: list[str] | None = None) -> Verdict:
    """Run a history and judge it."""
    world = World(choices, told.append if told is not None else None)
    try:
        disturb(world, choices)
        world.settle()
        return Verdict(None, choices.made, world.fired, check(world))
    except Violation as broken:
        return Verdict(broken, choices.made, world.fired, Counter())


def shortest(steps: Steps, broken: Violation) -> tuple[Steps, Violation, list[str]]:
    """The shortest history that breaks the same promise, and what happens in it."""

    def fails(tried: Steps) -> bool:
        found = play(Choices(script=tried)).broken
        return found is not None and found.promise == broken.promise

    short = shrink(steps, fails)
    told: list[str] = []
    verdict = play(Choices(script=short), told)
    assert verdict.broken is not None
    return short, verdict.broken, told
