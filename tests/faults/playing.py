"""Given requests played at once by clients in a thread of their own, beside what the test does meanwhile."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.faults.clients import GIVE_UP_S, Clients
from tests.faults.evidence import Held
from tests.faults.scripts import WORDS, Asked, How
from tests.faults.system import System

AWAIT_S = 60.0
"""Guards against hanging."""


def paced(dice: random.Random, key: str, how: How, deltas: int, pace_ms: float, first_ms: float = 0) -> Asked:
    """A request whose answer comes in so many words; under the policy's limit up to about 150 of them."""
    words = tuple(f"{dice.choice(WORDS['en'])} " for _ in range(deltas))
    return Asked(f"{key}-{dice.getrandbits(32):x}", how, words, first_ms, pace_ms)


@contextmanager
def playing(
    system: System, held: Sequence[Held], dice: random.Random, edges: Sequence[str] = (), key: str = ""
) -> Iterator[None]:
    """Leaves once every client has its end, or has given up."""

    def publish(request: dict[str, object]) -> None:
        system.pipeline.publish_raw(json.dumps(request).encode())

    async def play() -> None:
        clients = Clients(edges or system.edges, key or system.key, publish, dice)
        try:
            await asyncio.gather(*map(clients.play, held))
        finally:
            await clients.close()

    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(play())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="playing")
    thread.start()
    try:
        yield
    finally:
        thread.join(GIVE_UP_S + 30)
        assert not thread.is_alive()
        assert not failed, failed


def until(condition: Callable[[], bool], what: str, within_s: float = AWAIT_S) -> None:
    """Wait for something that no event tells of, looking often."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)
