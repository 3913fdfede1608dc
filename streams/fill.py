"""Stage fill: answers into the cache, with faust-streaming.

Best effort, because the cache may miss: while Redis is away records wait for it a while, then go uncached. A bad
record goes to the dead letters. Several workers share the partitions; writing an entry twice changes nothing.
"""

import asyncio
import logging
import time

from connectors.faust_app import Event, Stage, headers_of
from connectors.redis.cache import AnswerCache, CacheAway
from processors.codec import BadRecord, decode
from processors.fill import Entry, entry
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long an outage of Redis holds up the stage; after that answers pass by uncached."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


async def main(context: Context) -> None:
    """Run until SIGTERM or SIGINT; raises what ended it otherwise."""
    settings, loop, stop = context.settings, asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(stop.set)

    Stopping().listen(wake)
    cache = AnswerCache(settings.redis)
    stage = Stage("fill", context.member, settings.kafka, settings.home / "faust" / context.member, ["answers"])
    filler = Filler(stage, cache)
    try:
        await stage.run(filler.handle, context.announce_ready, stop)
    finally:
        await cache.aclose()
        log.info("%d answers kept, %d dropped, %d bad", filler.kept, filler.dropped, filler.bad)


class Filler:
    """Keeps one answer after the other. `kept`, `dropped` and `bad` count them."""

    def __init__(self, stage: Stage, cache: AnswerCache) -> None:
        self._stage, self._cache = stage, cache
        self._away_since: float | None = None
        self._try_again_at = 0.0
        self.kept = self.dropped = self.bad = 0

    async def handle(self, event: Event) -> None:
        """Take a record to its end: kept, dropped, not to be kept, or dead-lettered."""
        try:
            wanted = entry(decode("answers", event.value, headers_of(event)))
        except BadRecord as error:
            await self._bury(event, error)
        except Exception as error:
            await self._bury(event, BadRecord("internal_error", f"{type(error).__name__}: {error}"))
        else:
            if wanted is not None:
                await self._keep(wanted)
        self._stage.done(event)

    async def _bury(self, event: Event, error: BadRecord) -> None:
        self.bad += 1
        await self._stage.bury(event, error)

    async def _keep(self, wanted: Entry) -> None:
        pause = FIRST_PAUSE_S
        while time.monotonic() >= self._try_again_at:
            try:
                await self._cache.put(*wanted)
            except CacheAway as error:
                self._away(error)
            else:
                self._back()
                return
            if not self._patient():
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self.dropped += 1

    def _patient(self) -> bool:
        """Whether to wait for Redis. Once patience has run out, one record a while finds out if it is back."""
        assert self._away_since is not None
        now = time.monotonic()
        if now - self._away_since < PATIENCE_S:
            return True
        self._try_again_at = now + LONGEST_PAUSE_S
        return False

    def _away(self, error: CacheAway) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("Redis takes no answers; those of the next %d s wait, later ones are dropped: %s",
                        PATIENCE_S, error)  # fmt: skip

    def _back(self) -> None:
        self.kept += 1
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            log.info("Redis is back after %.1f s; %d answers dropped since start", seconds, self.dropped)
            self._away_since = None
