"""What the stages on faust-streaming share: an app set up so that it keeps its word, and a run that ends in time.

Faust acknowledges a record even when handling it failed, creates topics by itself, serves a web page and takes over
standard output. None of that happens here: `Stage` hands records over one by one, acknowledges those that have been
dealt with, and ends the process, uncommitted, when one cannot be.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from confluent_kafka import Consumer, KafkaException, TopicPartition
from faust.types import EventT, FutureMessage, TopicT

from connectors.kafka.batches import SESSION_MS
from connectors.kafka.dead_letters import TOPIC as DEAD_LETTERS
from connectors.kafka.dead_letters import dead_letter_headers
from connectors.kafka.writer import Headers
from processors.codec import VERSION_HEADERS, BadRecord

log = logging.getLogger(__name__)

FAUST_LOG = logging.getLogger("faust")
"""Faust logs a subclass of its own under the name of *our* module unless told otherwise."""

MAX_RECORD_BYTES = 4 << 20
COMMIT_INTERVAL_S = 1.0
STOP_S = 3.0

Event = EventT[Any]
Handler = Callable[[Event], Awaitable[None]]


class Stage:
    """A faust app that reads `topics` as one group and hands each record to `handle`, in the order of its partition.

    What `handle` has dealt with it passes to `done`, now or later, and in order. An exception it lets out ends the
    stage. Make it inside the event loop that runs it.
    """

    def __init__(self, group: str, member: str, bootstrap: str, state: Path, topics: list[str]) -> None:
        self.app = make_app(group, member, bootstrap, state)
        self._group, self._bootstrap, self._topics = group, bootstrap, topics
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._out: dict[str, TopicT] = {}

    async def run(self, handle: Handler, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Work until `stop` is set; `ready` is called once partitions are assigned and tables restored.

        Raises:
            Exception: whatever ended it early; nothing that was not done is committed then.
        """
        told = (self._bootstrap, self._group, self._topics)
        threading.Thread(target=say_what_is_lost, args=told, daemon=True).start()  # no one waits for it
        self._read_with(handle)
        stopped = asyncio.create_task(stop.wait())
        started = asyncio.create_task(self.app.start())
        ended = asyncio.create_task(self.app.wait_until_stopped())
        try:
            await asyncio.wait((started, stopped, ended, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if started.done() and not started.exception():
                ready()
                await asyncio.wait((stopped, ended, self._failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (started, stopped, ended):
                task.cancel()
            await asyncio.gather(started, stopped, ended, return_exceptions=True)
            await self._stop()
        self._check(started)

    def done(self, event: Event) -> None:
        """Let the offset of this record be committed."""
        event.ack()

    def fail(self, error: BaseException) -> None:
        """End the stage: `run` raises this."""
        if not self._failed.done():
            self._failed.set_exception(error)

    def schedule(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Do `work` every so often while the app runs; an exception ends the stage."""

        async def repeat() -> None:
            while not self.app.should_stop:
                await self.app.sleep(every_s)
                await self._guarded(work())

        self.app.task(repeat)

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = VERSION_HEADERS
    ) -> None:
        """Write a record and wait until it is acknowledged."""
        out = self._out.get(topic) or self._out.setdefault(topic, raw_topic(self.app, topic))
        pairs = [(name, text if isinstance(text, bytes) else (text or "").encode()) for name, text in headers]
        await (await out.send(key=key, value=value, headers=pairs))

    async def bury(self, event: Event, error: BadRecord) -> None:
        """Write a record to the dead letters as it came, with where it came from and what is wrong with it."""
        message = event.message
        stamp = int((message.timestamp or 0) * 1000)
        origin = (message.topic, message.partition, message.offset, stamp)
        log.warning("%s[%d]@%d is bad: %s", *origin[:3], error)
        headers = dead_letter_headers(*origin, self._group, error)
        # aiokafka refuses to write a record that has neither key nor value.
        key = b"" if message.key is None and message.value is None else message.key
        await self.send(DEAD_LETTERS, key, message.value, headers)

    def _read_with(self, handle: Handler) -> None:
        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._guarded(handle(event))

        self.app.agent(raw_topic(self.app, *self._topics), name=f"{self._group}-reader", concurrency=1)(agent)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Faust would log an exception, restart the agent and go on behind the record: so it never sees one."""
        try:
            await work
        except Exception as error:
            self.fail(error)
            await asyncio.Event().wait()  # until the stage is stopped: nothing after this record may be done

    async def _stop(self) -> None:
        """Commit what is done and leave. Where that fails or hangs, what is done comes again: no more than a delay."""
        try:
            async with asyncio.timeout(STOP_S):
                await self.app.stop()
        except Exception as error:
            log.warning("faust did not stop cleanly: %s", str(error) or type(error).__name__)

    def _check(self, started: "asyncio.Task[None]") -> None:
        if self._failed.done():
            self._failed.result()
        if not started.cancelled():
            started.result()
        if self.app.crash_reason is not None:
            raise RuntimeError("faust has given up") from self.app.crash_reason


def headers_of(event: Event) -> list[tuple[str, bytes]]:
    """A record's headers; faust has them as pairs, as a mapping, or not at all."""
    headers = event.message.headers or ()
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def make_app(group: str, member: str, bootstrap: str, state: Path) -> faust.App:
    """A faust app under our rules: no topic is created, no web server opened, nothing written to standard output.

    `state` is a directory that faust insists on; tables are in memory and restored from their changelogs. `member`
    makes the worker a static member: killed and restarted, it is back in 1.4 s instead of 5.
    """
    state.mkdir(parents=True, exist_ok=True)
    for chatty in ("faust", "mode"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return App(
        group,
        broker=[f"kafka://{host}" for host in bootstrap.split(",")],
        broker_client_id=member,
        consumer_group_instance_id=member,
        datadir=state,
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        # A piece of log that retention took is said at start (`say_what_is_lost`) and skipped: no promise rests here.
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=SESSION_MS / 1000,
        broker_heartbeat_interval=1.0,
        broker_commit_interval=COMMIT_INTERVAL_S,
        stream_wait_empty=False,
        consumer_max_fetch_size=MAX_RECORD_BYTES,
        producer_max_request_size=MAX_RECORD_BYTES,
        producer_linger=0.0,
    )


def raw_topic(app: faust.App, *names: str) -> TopicT:
    """Topics whose records come and go as bytes: decoding is our codec's work, and so are bad records."""
    return app.topic(
        *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )


class App(faust.App):
    """Faust's app, which stops its services also when the last flush fails; their threads would outlive it."""

    logger = FAUST_LOG

    async def on_stop(self) -> None:
        try:
            await super().on_stop()
        except Exception as error:
            log.warning("not all was flushed, it comes again: %s", error)


class Ledger(faust.Table[Any, bytes]):
    """A faust table whose keys say in which partition of its changelog they live: `(topic, partition, …)`.

    A plain one files a key under the partition of the event being handled, so that a key fed by several partitions
    has several last values, and which of them a restart restores is chance; and it does not tell when a change is safe.
    """

    logger = FAUST_LOG

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unconfirmed: list[FutureMessage] = []

    def partition_for_key(self, key: Any) -> int:
        return int(key[1])

    def send_changelog(self, *args: Any, **kwargs: Any) -> FutureMessage:
        sent = super().send_changelog(*args, **kwargs)
        self._unconfirmed.append(sent)
        return sent

    async def confirmed(self) -> None:
        """Return once every change so far is acknowledged by Kafka; raises what a failed one raised."""
        waiting, self._unconfirmed = self._unconfirmed, []
        await asyncio.gather(*waiting)


def say_what_is_lost(bootstrap: str, group: str, topics: list[str]) -> None:
    """Log how many records of each partition retention has taken before the group could read them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        for topic in topics:
            numbers = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            for found in consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=30):
                first, _ = consumer.get_watermark_offsets(found, timeout=30)
                if 0 <= found.offset < first:
                    lost = first - found.offset
                    log.error("%s[%d]: %d records are lost, retention took them unread", topic, found.partition, lost)
    except KafkaException as error:
        log.warning("cannot tell whether records of %s are lost: %s", ", ".join(topics), error)
    finally:
        consumer.close()
