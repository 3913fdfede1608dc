"""The client's end of a connection, as far as ASGI does not tell of it: what is unsent, and whether it is still there.

Every open stream watches its peer: one that takes nothing for too long is cut, so that it costs neither memory nor
a provider's tokens.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from processors.edge.slow import Pace

CHECK_EVERY_S = 0.25
LINGER_S = 5.0
"""How long a closed connection may take to read what was sent before."""


class Peer:
    """One connection. `sent` counts the bytes handed to its socket by whoever writes to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._on_gone: dict[object, Callable[[], None]] = {}
        self.gone = False
        self.sent = 0

    def unsent(self) -> int:
        """Bytes that wait in this process because the socket takes no more."""
        return 0 if self.gone else self._transport.get_write_buffer_size()

    def left(self) -> int:
        """Bytes that have left this process."""
        return self.sent - self.unsent()

    def when_gone(self, owner: object, callback: Callable[[], None]) -> None:
        """Call `callback` once the connection is lost; at once if it is."""
        if self.gone:
            callback()
        else:
            self._on_gone[owner] = callback

    def release(self, owner: object) -> None:
        """Take the callback back."""
        self._on_gone.pop(owner, None)

    def lost(self) -> None:
        """The transport says so."""
        self.gone = True
        callbacks, self._on_gone = list(self._on_gone.values()), {}
        for callback in callbacks:
            callback()

    def close(self) -> None:
        """Send what waits and close; what is not taken within LINGER_S is dropped."""
        if not self.gone:
            self._transport.close()
            asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    def abort(self) -> None:
        """Close without another byte."""
        if not self.gone:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until the connection is gone."""
        gone = asyncio.Event()
        self.when_gone(gone, gone.set)
        await gone.wait()


class Watched(Protocol):
    """An open stream, or a connection of many."""

    def behind(self) -> int:
        """Bytes that came for it and have not been handed to the socket."""

    def cut(self) -> None:
        """It is too slow: close it."""


class Watch:
    """Looks at every watched connection a few times a second."""

    def __init__(self) -> None:
        self._watched: dict[Watched, tuple[Peer, Pace]] = {}
        self.cut = 0

    def add(self, watched: Watched, peer: Peer) -> None:
        """Begin to look at it."""
        self._watched[watched] = (peer, Pace(time.monotonic()))

    def remove(self, watched: Watched) -> None:
        """No longer."""
        self._watched.pop(watched, None)

    def abort_all(self) -> None:
        """Close every watched connection without another byte."""
        for peer, _ in list(self._watched.values()):
            peer.abort()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            self.check(time.monotonic())

    def check(self, now: float) -> None:
        """Cut what is too slow."""
        for watched, (peer, pace) in list(self._watched.items()):
            unsent = peer.unsent()
            behind = watched.behind() if unsent else 0
            if pace.too_slow(now, peer.left(), unsent, behind):
                self.remove(watched)
                self.cut += 1
                watched.cut()
