"""Everything behind the edge's port, put together: endpoints, and what they share."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from connectors.edge.auth import Auth
from connectors.edge.catchup import CatchUp
from connectors.edge.chat import Chat
from connectors.edge.errors import unavailable
from connectors.edge.http import Endpoint, Guarded
from connectors.edge.hub import MEMORY, RECENT_S, Hub
from connectors.edge.idempotency import Idempotency
from connectors.edge.info import Healthz, Models, Readyz
from connectors.edge.metrics import Answers, EdgeCollector, Figure
from connectors.edge.peer import Watch
from connectors.edge.publish import ACK_S, Publisher
from connectors.edge.sse import StreamEvents
from connectors.edge.streams import Streams
from connectors.edge.submit import Submitter
from connectors.edge.ws import SocketEndpoint
from connectors.kafka.table import CompactedTable
from connectors.kafka.writer import AsyncWriter
from connectors.policies import Policies
from processors.edge.openai_chunks import error_object
from processors.events import EdgeRef

EMBEDDED_FETCH_MS, FETCH_MS = 5, 500
"""The embedded broker sleeps a fetch's whole wait even when data comes; a real one wakes it."""
PROBE_S = 1.0
METADATA_S = 10.0
POLICY_S = 2.0
DRAIN_S = 1.5
TICK_S = 0.05


@dataclass(frozen=True)
class EdgeConfig:
    """Which edge this is, of how many, and what it stands on."""

    member: str
    instance: int
    instances: int
    kafka: str
    redis: str
    embedded: bool = False
    memory: int = MEMORY
    ack_s: float = ACK_S
    recent_s: float = RECENT_S


class Edge:
    """One incarnation of an edge. `start` it, serve `app`, run `work` beside, `drain` and `stop` it."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self.answers = Answers()
        self.watch = Watch()
        self.policies = Policies(config.kafka)
        self.health = CompactedTable(config.kafka, "health")
        self.keys = CompactedTable(config.kafka, "keys", self._key_changed)
        self.auth = Auth(self.keys.get, self.policies)
        self.idempotency = Idempotency(config.redis)
        self.writer = AsyncWriter(config.kafka, config.member)
        self.draining = False

    async def start(self) -> None:
        """Return when requests can be served.

        Raises:
            RuntimeError: the topics do not fit each other, or this edge has no partition.
            Exception: the broker cannot be reached.
        """
        config = self._config
        partitions = await asyncio.to_thread(_partitions, config.kafka)
        owned = frozenset(number for number in range(partitions) if number % config.instances == config.instance)
        if not owned:
            raise RuntimeError(f"instance {config.instance} of {config.instances} has none of {partitions} partitions")
        fetch_ms = EMBEDDED_FETCH_MS if config.embedded else FETCH_MS
        ref = EdgeRef(config.member, uuid.uuid4().hex)
        self.hub = Hub(partitions, owned, config.memory)
        self.publisher = Publisher(self.writer, ref, partitions, owned, config.ack_s)
        self.catchup = CatchUp(config.kafka, config.member, self.hub, fetch_ms, not config.embedded)
        self.streams = Streams(self.hub, self.catchup, self.publisher)
        self.submitter = Submitter(self.auth, self.streams, self.publisher)
        self.sockets = SocketEndpoint(self.auth, self.streams, self.submitter, self.publisher, self.watch)
        recent_s = 0 if config.embedded else config.recent_s  # the embedded broker has no look-up by time
        await self.hub.start(config.kafka, config.member, fetch_ms, recent_s)
        for table in (self.keys, self.health):
            await asyncio.to_thread(table.wait_current)
        with contextlib.suppress(TimeoutError):  # it may come later; /readyz says that it is missing
            await asyncio.to_thread(self.policies.wait_current, POLICY_S)
        await self.publisher.started()
        self.app = self._routes()

    async def work(self) -> None:
        """What runs beside the requests; returns never.

        Raises:
            Exception: what makes this process useless: the log lost a record, or cannot be read on.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run())
            tasks.create_task(self.watch.run())
            tasks.create_task(self.writer.failure())

    @property
    def open(self) -> int:
        """Readers of streams, and sockets."""
        return self.streams.open + self.sockets.open

    def take_nothing_new(self) -> None:
        """Refuse further requests; streams are still served, also to who comes for them now."""
        self.draining = self.submitter.draining = True

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Take nothing new, and wait for the ends of what is open; what outlasts it is told so and closed."""
        self.take_nothing_new()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.streams.idle()
        self.streams.fail_all(unavailable("shutting_down", "this server is shutting down; resume by cursor or retry"))
        await asyncio.sleep(TICK_S)  # for the words to be written
        self.sockets.close_all()
        await asyncio.sleep(TICK_S)  # for the leaving to be noted
        self.watch.abort_all()

    async def stop(self) -> None:
        """Let go of everything."""
        await self.catchup.stop()
        tables = (self.keys, self.health, self.policies)
        await asyncio.gather(
            self.hub.stop(), self.idempotency.aclose(), *(asyncio.to_thread(table.close) for table in tables)
        )
        await self.writer.aclose()

    def collector(self) -> EdgeCollector:
        """The figures of this edge."""
        buffers = self.hub.buffers
        figures = [
            Figure("submitted", "Requests published.", lambda: self.submitter.submitted, counter=True),
            Figure("records", "Records of `tokens` read.", lambda: self.hub.records, counter=True),
            Figure("bad_records", "Records of `tokens` not readable.", lambda: self.hub.bad_records, counter=True),
            Figure("holes", "Holes found in live streams.", lambda: buffers.holes, counter=True),
            Figure("catchups", "Streams read from the log.", lambda: self.catchup.begun, counter=True),
            Figure("slow_readers", "Connections cut as too slow.", lambda: self.watch.cut, counter=True),
            Figure("open_streams", "Readers of streams now.", lambda: self.streams.open),
            Figure("open_sockets", "WebSockets now.", lambda: self.sockets.open),
            Figure("memory_bytes", "Bytes of streams in memory.", lambda: buffers.kept),
            Figure("tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks(self._loop))),
            Figure("log_reachable", "Whether the log takes records.", lambda: float(self.publisher.reachable)),
        ]
        return EdgeCollector(figures, self.answers, lambda: self.health.values)

    def _routes(self) -> Starlette:
        chat = Chat(self.auth, self.streams, self.submitter, self.idempotency, self.watch)
        events = StreamEvents(self.auth, self.streams, self.publisher, self.watch)
        models = Models(self.auth)
        readyz = Readyz(
            {"log": self._log_ready, "policy": self._policy_ready, "running": self._running}, self._wanted()
        )
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._guarded(chat, "chat"), methods=["POST"]),
                Route("/v1/models", self._guarded(models, "models"), methods=["GET"]),
                Route("/v1/models/{model:path}", self._guarded(models, "models"), methods=["GET"]),
                Route("/v1/streams/{id}", self._guarded(events, "streams"), methods=["GET", "DELETE"]),
                WebSocketRoute("/v1/ws", self.sockets),
                Route("/healthz", self._guarded(Healthz(), "healthz"), methods=["GET"]),
                Route("/readyz", self._guarded(readyz, "readyz"), methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    def _guarded(self, endpoint: Endpoint, name: str) -> Any:
        return Guarded(endpoint, self.answers.count, name)

    def _wanted(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        return {"redis": self.idempotency.reachable}

    async def _log_ready(self) -> bool:
        return self.publisher.reachable and await asyncio.to_thread(self.writer.answers, PROBE_S)

    async def _policy_ready(self) -> bool:
        return self.policies.current() is not None

    async def _running(self) -> bool:
        return not self.draining

    def _key_changed(self, hashed: str, _: Any) -> None:
        """Called in the table's thread."""
        self._loop.call_soon_threadsafe(self.auth.changed, hashed)


def _partitions(bootstrap: str) -> int:
    """How many partitions the topics keyed by id have."""
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=METADATA_S).topics
    counts = {name: len(topics[name].partitions) if name in topics else 0 for name in ("journal", "tokens")}
    if len(set(counts.values())) != 1 or not counts["journal"]:
        raise RuntimeError(f"journal and tokens must have the same number of partitions, not {counts}")
    return counts["journal"]


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    body = error_object(str(error.detail), "invalid_request_error", code)
    return Response(body, error.status_code, error.headers, "application/json")
