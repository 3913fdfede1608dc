"""Histories of the whole flow, drawn from a seed: whatever the scheduler breaks, the promises hold."""

import random
import time
from collections import Counter

import pytest

from tests.simulation.choices import Choices, Steps
from tests.simulation.history import Verdict, play, shortest

HISTORIES, ALL_HISTORIES = 1_000, 10_000
FAULTS = (
    "crash: admission", "crash: dispatch", "crash: edge", "crash: fill", "crash: guard", "crash: sink",
    "zombie: admission", "zombie: dispatch", "zombie: guard", "zombie: sink",
    "crash at: admission has decided", "crash at: dispatch is about to commit", "crash at: guard has written",
    "crash at: guard keeps", "crash at: guard is about to commit", "crash at: the sink has noted what it inserts",
    "repeat: journal", "repeat: requests", "an id used twice", "client leaves", "client comes back", "client cancels",
    "time passes", "records arrive",
)  # fmt: skip
RARE_FAULTS = (
    "crash at: guard has sent a cause", "crash at: the sink has inserted and not committed", "repeat: outcomes",
    "repeat: answers",
)  # fmt: skip
ENDS = (
    "completed: stop", "refused: content_filter", "cancelled: client", "cancelled: reader_gone", "failed: interrupted",
    "failed: timeout", "failed: invalid_request", "stopped: content_filter", "stopped: token_limit",
    "a second attempt",
)  # fmt: skip
RARE_ENDS = ("an answer from the cache",)


def fail(seed: int, verdict: Verdict) -> None:
    """Tell the seed, and the shortest history that breaks the same promise."""
    assert verdict.broken is not None
    steps, broken, told = shortest(verdict.steps, verdict.broken)
    lines = "\n".join(told)
    pytest.fail(f"seed {seed} breaks a promise: {broken}\n{lines}\nto play it again: {steps}")


@pytest.mark.timeout(600)
def test_every_promise_holds_in_every_history(request: pytest.FixtureRequest) -> None:
    """Also that each kind of fault was there, and each kind of end: else it would prove nothing."""
    full = request.config.getoption("--full", default=False)
    count = ALL_HISTORIES if full else HISTORIES
    first = request.config.getoption("--seed", default=None) or random.SystemRandom().randrange(1 << 32)
    print(f"seeds {first} to {first + count - 1}")
    fired, ends, began = Counter[str](), Counter[str](), time.process_time()
    for seed in range(first, first + count):
        verdict = play(Choices(seed))
        if verdict.broken is not None:
            fail(seed, verdict)
        fired += verdict.fired
        ends += verdict.ends
    print(f"{count * 60 / (time.process_time() - began):,.0f} histories a minute of one core")
    expected = dict.fromkeys((*FAULTS, *ENDS), count // 200) | dict.fromkeys((*RARE_FAULTS, *RARE_ENDS), count // 2500)
    seen = fired + ends
    assert {name: seen[name] for name, least in expected.items() if seen[name] < least} == {}


def test_a_history_is_a_function_of_its_choices() -> None:
    for seed in range(20):
        once = play(Choices(seed))
        again = play(Choices(script=once.steps))
        assert (again.steps, again.fired, again.ends) == (once.steps, once.fired, once.ends)


def test_what_was_not_chosen_is_no_fault() -> None:
    steps: Steps = [[] for _ in range(20)]
    assert not any(name.startswith(("crash", "zombie", "repeat")) for name in play(Choices(script=steps)).fired)
