"""Stage health: how providers fare, from outcomes and answers to the compacted topic `health`, with faust-streaming.

One worker. Its windows are kept by partition, so that any number of workers would count and restore rightly; but each
would know, and publish under the same keys, only its own partitions' part. One worker takes some thousand events a
second, far more than this machine's pipeline makes; its death delays news by the time of a restart.

Once a second what has changed is written to the table's changelog, then published, then acknowledged. So nothing is
lost, and what is delivered again after a crash is known by its offset and not counted twice.
"""

import asyncio
import logging
import time

import msgspec

from connectors.faust_app import Event, Ledger, Stage, headers_of
from processors.codec import BadRecord, decode, encode
from processors.errors import Invalid
from processors.events import Health
from processors.health import Place, Tally, WindowKey, Windows, key_of
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

PUBLISH_EVERY_S = 1.0

_tally = msgspec.json.Decoder(Tally).decode


async def main(context: Context) -> None:
    """Run until SIGTERM or SIGINT; raises what ended it otherwise.

    Raises:
        Invalid: this is not the first worker.
    """
    settings, loop, stop = context.settings, asyncio.get_running_loop(), asyncio.Event()
    if settings.instance != 0:
        raise Invalid("SLUICE_INSTANCE", "must be 0: health runs as one worker, two would publish halves of the truth")

    def wake() -> None:
        loop.call_soon_threadsafe(stop.set)

    Stopping().listen(wake)
    state = settings.home / "faust" / context.member
    stage = Stage("health", context.member, settings.kafka, state, ["outcomes", "answers"])
    observer = Observer(stage)
    await stage.run(observer.handle, context.announce_ready, stop)
    log.info("%d events counted, %d bad", observer.counted, observer.bad)


class Observer:
    """Counts events, and makes what it knows safe and public once a second."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._table = Ledger(stage.app, name="windows", value_type=bytes)
        stage.app.tables.add(self._table)
        self._table.on_recover(self._restore)
        self._windows = Windows()
        self._pending: list[Event] = []
        self.counted = self.bad = 0
        stage.schedule(self._publish, PUBLISH_EVERY_S)

    async def handle(self, event: Event) -> None:
        """Count a record. A bad one is only logged: the dead letter is the business of its topic's judge."""
        message = event.message
        try:
            known = decode(message.topic, event.value, headers_of(event))
        except BadRecord as error:
            self.bad += 1
            log.warning("%s[%d]@%d is bad: %s", message.topic, message.partition, message.offset, error)
        else:
            now = time.time()
            place = Place(message.topic, message.partition, message.offset, message.timestamp or now)
            self._windows.count(place, known, now)
            self.counted += 1
        self._pending.append(event)

    async def _publish(self) -> None:
        """Save, tell, acknowledge, in this order: an event is done when what it has changed is safe and public."""
        pending, self._pending = self._pending, []
        now = time.time()
        for key, tally in self._windows.changes(now).items():
            if tally is not None:
                self._table[key] = encode(tally)
            elif key in self._table:
                del self._table[key]
        await self._table.confirmed()
        await asyncio.gather(*(self._tell(health) for health in self._windows.news(now)))
        for event in pending:
            self._stage.done(event)

    async def _tell(self, health: Health) -> None:
        key = key_of(health.provider, health.model, health.tenant)
        await self._stage.send("health", key.encode(), encode(health))

    async def _restore(self) -> None:
        """Go on from the table, as it was restored. What was not acknowledged yet comes again."""
        self._windows = Windows((WindowKey(*key), _tally(value)) for key, value in self._table.items())
        self._pending = []
