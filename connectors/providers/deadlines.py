"""By when a provider call must have got where: connected, the first token, the next token, the whole.

Instants are seconds of the event loop's clock. A phase runs only while the provider is waited for (`watch` to
`unwatch`), so a slow consumer is not held against it; the whole call's deadline runs always.
"""

import asyncio
import math
from collections.abc import Callable

from processors.events import ErrorClass, RunError
from processors.policy import Timeouts

FINISH_GRACE_S = 2.0
"""How long usage and the end of the stream are waited for once the finish reason has come."""


class Deadlines:
    """Of one call; made when it starts."""

    def __init__(self, timeouts: Timeouts, total_s: float) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self._total_at = self.started + total_s
        self._due = self.started + timeouts.connect_s
        self._kind: ErrorClass = "timeout_connect"
        self._next_s: float | None = None  # the phase that the next wait begins
        self._paused_at: float | None = None
        self._expired: Callable[[], None] | None = None
        self._alarm: asyncio.Handle | None = None
        self._rings_at = 0.0
        """Kept here: of what is less than half a millisecond away uvloop gives a handle that cannot tell."""

    def pause(self) -> None:
        """It is not the provider that is waited for, until `connected`: only the whole call's deadline runs, and the
        wait is no time of the call's."""
        self._due, self._paused_at = math.inf, self._loop.time()

    def connected(self) -> None:
        """There is a connection: the first token is waited for."""
        now = self._loop.time()
        self._due, self._kind = now + self._timeouts.first_token_s, "timeout_first_token"
        if self._paused_at is not None:
            self.started += now - self._paused_at

    def moved(self, finishing: bool) -> None:
        """A token or the finish reason came: the next wait begins anew."""
        self._next_s = FINISH_GRACE_S if finishing else self._timeouts.between_tokens_s
        self._kind = "timeout_between_tokens"

    def until(self) -> float:
        """The instant at which whatever is waited for is overdue."""
        return min(self._due, self._total_at)

    def passed(self) -> bool:
        return self._loop.time() >= self.until()

    def elapsed_ms(self) -> float:
        """Since the call started."""
        return (self._loop.time() - self.started) * 1000

    def overdue(self) -> RunError:
        """What to say once `passed`."""
        if self._total_at <= self._due:
            return RunError("timeout_total", "the call's deadline has passed")
        waited = {
            "timeout_connect": f"no connection within {self._timeouts.connect_s:g} s",
            "timeout_first_token": f"no token within {self._timeouts.first_token_s:g} s",
        }.get(self._kind, f"no further token within {self._timeouts.between_tokens_s:g} s")
        return RunError(self._kind, waited)

    def watch(self, expired: Callable[[], None]) -> bool:
        """Call `expired` when the time has passed, unless `unwatch` comes first. False: it has passed already.

        One timer serves many waits: it is set again only where it would go off too late, or once it has gone off.
        `asyncio.timeout` around each read would cost a quarter of all that a paced delta costs.
        """
        if self._next_s is not None:
            self._due = self._loop.time() + self._next_s
            self._next_s = None
        if self.passed():
            return False
        self._expired = expired
        if self._alarm is None or self._rings_at > self.until():
            self._set()
        return True

    def unwatch(self) -> None:
        self._expired = None

    def stop(self) -> None:
        """The call is over."""
        self._expired = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings_at = self.until()
        self._alarm = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._expired is None:
            return
        if self.passed():
            self._expired()
        else:
            self._set()
