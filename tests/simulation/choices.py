"""What the scheduler chooses: drawn from a seed and written down, so that a history can be run again, and shrunk."""

from collections.abc import Callable
from random import Random

Steps = list[list[int]]
"""The choices of a history, step by step. One that is missing counts as 0, which is always the choice of no fault."""


class Choices:
    """Gives choices from a seed, or from what was written down before."""

    def __init__(self, seed: int | None = None, script: Steps | None = None) -> None:
        self.made: Steps = []
        self._random = Random(seed).random if script is None else None
        self._script = script or []

    def next_step(self, most: int) -> bool:
        """Begin a step; False where the history is over."""
        if len(self.made) >= (most if self._random else len(self._script)):
            return False
        self.made.append([])
        return True

    def pick(self, count: int) -> int:
        """A number from 0 to `count` - 1."""
        step = self.made[-1]
        if self._random is not None:
            value = int(self._random() * count)
        else:
            script = self._script[len(self.made) - 1]
            value = min(script[len(step)], count - 1) if len(step) < len(script) else 0
        step.append(value)
        return value

    def chance(self, one_in: int) -> bool:
        """True once in so many."""
        return self.pick(one_in) == one_in - 1


def shrink(steps: Steps, fails: Callable[[Steps], bool]) -> Steps:
    """A history as short as single deletions make it, with as many zeros as it bears, that still `fails`."""
    steps = _without_steps(steps, fails)
    for at, step in enumerate(steps):
        for place, value in enumerate(step):
            for smaller in (0, value // 2, value - 1):
                if 0 <= smaller < step[place]:
                    tried = [*steps[:at], [*step[:place], smaller, *step[place + 1 :]], *steps[at + 1 :]]
                    if fails(tried):
                        steps, step = tried, tried[at]
                        break
    return _without_steps(steps, fails)


def _without_steps(steps: Steps, fails: Callable[[Steps], bool]) -> Steps:
    """Leave out stretches of steps, ever shorter ones, as long as it still fails. The first step is the scenario."""
    size = len(steps) // 2
    while size:
        at = len(steps) - size
        while at > 0:
            tried = steps[:at] + steps[at + size :]
            if fails(tried):
                steps = tried
            at -= size
        size //= 2
    return steps
