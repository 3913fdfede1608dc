"""When a connection is too slow to be kept: too much unsent for too long, or no progress at all."""

MOST_UNSENT = 256 * 1024
"""Bytes that may wait for one connection: in its socket, and arrived for it since it fell behind."""
BURST_S = 1.0
"""How long more than that may wait: a burst, such as a cached answer, is no slowness of its reader."""
STALL_S = 10.0
"""How long anything may wait without a byte of progress."""


class Pace:
    """Judges one connection from samples; time is given in seconds of any steady clock."""

    __slots__ = ("_over_since", "_sent", "_sent_at")

    def __init__(self, now: float) -> None:
        self._sent = 0
        self._sent_at = now
        self._over_since: float | None = None

    def too_slow(self, now: float, sent: int, unsent: int, behind: int) -> bool:
        """Whether to close it. `sent` counts bytes that have left, `unsent` those that could not leave yet, and
        `behind` those that came for it in the meantime."""
        if sent != self._sent or not unsent:
            self._sent, self._sent_at = sent, now
        if not unsent or unsent + behind <= MOST_UNSENT:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        overfull = self._over_since is not None and now - self._over_since >= BURST_S
        return overfull or now - self._sent_at >= STALL_S
