"""Many streams at once, kept open from a thread of its own, so that the test's thread can break things meanwhile.

    with Load(system, seed=seed, streams=200) as load:
        load.flowing()              # until all of them have text
        kill = system.kill("guard")
        print(system.recovered(kill), load.moved_again(kill))
    held = load.held                # when every client has its end

What is asked is fixed by the seed; `seconds` is about how long an answer takes.
"""

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Protocol

from confluent_kafka import Producer

from tests.faults.clients import GIVE_UP_S, Clients
from tests.faults.evidence import Held, Kill
from tests.faults.scripts import HOWS, Asked, How, ask

FLOWING_S = 90.0
"""Guards against hanging."""


class Addresses(Protocol):
    """Where a load goes."""

    @property
    def edges(self) -> list[str]: ...
    @property
    def key(self) -> str: ...
    @property
    def bootstrap(self) -> str: ...


class Load:
    """`streams` requests at a time; where one has ended the next begins, until the block is left."""

    def __init__(
        self,
        system: Addresses,
        *,
        seed: int,
        streams: int,
        seconds: tuple[float, float] = (1.0, 4.0),
        hows: tuple[How, ...] = HOWS,
        repeated: float = 0.1,
        asks: Callable[[random.Random, str], Asked] | None = None,
    ) -> None:
        """`asks` makes a request from the dice and its key, where those of `scripts.ask` will not do."""
        self.held: list[Held] = []
        self._system = system
        self._seed, self._streams = seed, streams
        self._asks = asks or (lambda dice, key: ask(dice, key, seconds, hows, repeated))
        self._stopping = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")
        self._producer = Producer(
            {"bootstrap.servers": system.bootstrap, "linger.ms": 0, "enable.idempotence": True, "log_level": 0}
        )

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """No new requests; wait until every client has its end, or has given up."""
        self._stopping.set()
        self._thread.join(GIVE_UP_S + 30)
        assert not self._thread.is_alive()
        if self._failed is not None:
            raise self._failed

    def last(self) -> None:
        """Ask for nothing more; what is open goes on."""
        self._stopping.set()

    @property
    def open(self) -> list[Held]:
        """Clients that have text and not yet their end."""
        return [held for held in list(self.held) if held.arrivals and not held.ended]

    def flowing(self) -> None:
        """Wait until as many clients have had text as are to be there at a time."""
        give_up = time.monotonic() + FLOWING_S
        while (flowing := sum(bool(held.arrivals) for held in list(self.held))) < self._streams:
            assert time.monotonic() < give_up, f"{flowing} of {self._streams} streams have text"
            assert self._failed is None, self._failed
            time.sleep(0.02)

    def served(self, count: int) -> None:
        """Wait until so many requests that were begun from now on have their end."""
        since, give_up = time.monotonic(), time.monotonic() + FLOWING_S
        while (served := sum(held.ended and held.asked_at > since for held in list(self.held))) < count:
            assert time.monotonic() < give_up, f"{served} of {count} further requests have their end"
            assert self._failed is None, self._failed
            time.sleep(0.02)

    def moved_again(self, kill: Kill) -> float:
        """How long after a fault text arrived again: to the end of the longest silence of all clients together, of
        those that begin within a second of it. 0 where there was none; to be asked once it is over."""
        times = sorted(at for held in list(self.held) for at in held.arrivals if at > kill.at)
        times = [kill.at, *times]
        silences = [(b - a, b) for a, b in pairwise(times) if a <= kill.at + 1.0]
        return max(silences)[1] - kill.at if silences else float("inf")

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(16) as pool:
                asyncio.run(self._all(pool))
        except BaseException as error:
            self._failed = error

    async def _all(self, pool: ThreadPoolExecutor) -> None:
        asyncio.get_running_loop().set_default_executor(pool)
        clients = Clients(self._system.edges, self._system.key, self._publish, random.Random(f"{self._seed} clients"))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._streams):
                    group.create_task(self._one_after_another(clients, number))
        finally:
            await clients.close()

    async def _one_after_another(self, clients: Clients, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")
        load = os.urandom(4).hex()  # keys differ between loads of one seed, for the log holds them all
        await asyncio.sleep(dice.random() * 0.5)  # not all in one moment
        turn = 0
        while not self._stopping.is_set():
            held = Held(self._asks(dice, f"{load}-{number}-{turn}"))
            self.held.append(held)
            await clients.play(held)
            turn += 1

    def _publish(self, request: dict[str, object]) -> None:
        self._producer.produce("requests", json.dumps(request, ensure_ascii=False).encode())
        assert self._producer.flush(GIVE_UP_S) == 0
