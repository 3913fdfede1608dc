"""The calls that the simulated provider has had, for tests and benchmarks to look at. Bounded: the oldest go first."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec

MAX_CALLS = 10_000

How = Literal["finished", "client_closed", "fault"]


class Call(msgspec.Struct):
    """One call. Monotonic times are seconds of `time.monotonic`, which processes of one machine share."""

    request_id: str | None
    """The caller's `x-request-id`."""
    model: str
    stream: bool
    max_tokens: int | None
    authorized: bool
    """Whether an Authorization header came; its value is not kept."""
    user_agent: str | None
    started: datetime
    started_monotonic: float
    deltas: int = 0
    """Handed to the socket."""
    how: How | None = None
    """How it ended; None while it goes on."""
    ended: datetime | None = None
    ended_monotonic: float | None = None


class Calls:
    """The log. `changed` wakes whoever waits for something to happen."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._changed = asyncio.Event()
        self._waiting = 0

    def begin(self, call: Call) -> None:
        self.calls.append(call)
        self._wake()

    def sent(self, call: Call) -> None:
        """One more delta."""
        call.deltas += 1
        if self._waiting:
            self._wake()

    def end(self, call: Call, how: How) -> None:
        """The first word on how a call ended counts."""
        if call.how is None:
            call.how = how
            call.ended, call.ended_monotonic = datetime.now(UTC), time.monotonic()
            self._wake()

    def clear(self) -> None:
        self.calls.clear()

    async def wait(self, condition: Callable[[Call], bool], timeout_s: float = 10.0) -> Call:
        """The first call of which `condition` holds, as soon as one begins, sends or ends so.

        Raises:
            TimeoutError: none did in time.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while (found := next((call for call in self.calls if condition(call)), None)) is None:
                    await self._changed.wait()
        finally:
            self._waiting -= 1
        return found

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
