"""A double of admission, dispatch and guard: reads what the edge writes, and releases scripted tokens.

What is real here is the broker and the records; what is played is only who decides.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from processors.codec import VERSION_HEADERS, decode, encode
from processors.events import Cancel, Cost, End, EndError, EndStatus, Left, Opened, Tokens, ToolCall, Usage

USAGE = Usage(input=11, output=7, cached=3, reasoning=2, source="provider")
COST = Cost(micros=420, currency="RUB", prices="v")

Script = Callable[["Stream"], None]


class Stream:
    """One request's stream as the guard would write it."""

    def __init__(self, pipeline: "Pipeline", request_id: str, tenant: str, model: str = "", content: str = "") -> None:
        self._pipeline = pipeline
        self.id = request_id
        self.tenant = tenant
        self.model = model
        self.content = content
        self.seq = 0
        self.ended = False

    def opened(self, cached: bool = False) -> None:
        self._pipeline.write(Opened(self.id, self.tenant, self.model, cached))

    def text(self, *texts: str, kind: Any = "content", tool: ToolCall | None = None) -> None:
        for text in texts:
            self._pipeline.write(Tokens(self.id, self.tenant, self.seq, text, kind, tool=tool))
            self.seq += 1

    def end(
        self,
        status: EndStatus = "completed",
        reason: str = "stop",
        message: str | None = None,
        error: EndError | None = None,
    ) -> None:
        self.ended = True
        end = End(self.id, self.tenant, self.seq, status, reason, message, error, USAGE, COST, self.model)
        self._pipeline.write(end)
        self.seq += 1

    def again(self) -> None:
        """The guard after a crash: it will write everything once more."""
        self.seq = 0


def _echo(stream: Stream) -> None:
    stream.opened()
    stream.text(*stream.content.split("|"))
    stream.end()


def _begins(stream: Stream) -> None:
    stream.opened()
    stream.text("some")


def _cached(stream: Stream) -> None:
    stream.opened(cached=True)
    stream.text("from the cache")
    stream.end()


def _tools(stream: Stream) -> None:
    stream.opened()
    stream.text("think", kind="reasoning")
    stream.text('{"city"', kind="tool_call", tool=ToolCall(0, "call_1", "weather"))
    stream.text(': "Kazan"}', kind="tool_call", tool=ToolCall(0))
    stream.text("{}", kind="tool_call", tool=ToolCall(1, "call_2", "time"))
    stream.end(reason="tool_calls")


def _declines(stream: Stream) -> None:
    stream.opened()
    stream.text("I will not", kind="refusal")
    stream.end()


def _ending(status: EndStatus, reason: str, error: EndError | None, text: tuple[str, ...] = ()) -> Script:
    def script(stream: Stream) -> None:
        stream.opened()
        stream.text(*text)
        stream.end(status, reason, f"our words on {reason}", error)

    return script


SCRIPTS: dict[str, Script] = {
    "echo": _echo,
    "cached": _cached,
    "tools": _tools,
    "declines": _declines,
    "begins": _begins,
    "manual": lambda stream: None,
    "length": _ending("completed", "length", None, ("a lot",)),
    "stopped": _ending("stopped", "content_filter", None, ("so far",)),
    "limit": _ending("stopped", "token_limit", None, ("so far",)),
    "refused": _ending("refused", "weapons", EndError(400, "invalid_request_error", "content_filter", "messages")),
    "refused-bare": _ending("refused", "weapons", None),
    "limited": _ending("failed", "rate_limited", EndError(429, "rate_limit_error", "rate_limit_exceeded")),
    "fails-502": _ending("failed", "provider_error", EndError(502, "api_error", "provider_error")),
    "fails-504": _ending("failed", "deadline", EndError(504, "api_error", "timeout")),
    "fails-bare": _ending("failed", "internal_error", None),
    "breaks": _ending("failed", "interrupted", EndError(502, "api_error", "interrupted"), ("half", " an")),
    "cancelled": _ending("cancelled", "client", None),
    "cancelled-late": _ending("cancelled", "client", None, ("some",)),
}
"""By model: what becomes of a request."""


class Pipeline:
    """Runs in a thread; everything it saw is kept for the tests to look at."""

    def __init__(self, bootstrap: str) -> None:
        self.requests: dict[str, dict[str, Any]] = {}
        self.request_headers: dict[str, dict[str, bytes]] = {}
        self.streams: dict[str, Stream] = {}
        self.journal: list[tuple[int, Any]] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 0, "partitioner": "murmur2_random", "acks": "all"}
        )
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "double", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
        )
        topics = self._consumer.list_topics(timeout=10).topics
        self._consumer.assign(
            [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for topic in ("requests", "journal")
                for number in topics[topic].partitions
            ]
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, event: Any) -> None:
        """A record of `tokens`."""
        self._producer.produce("tokens", encode(event), event.id, headers=VERSION_HEADERS)

    def flush(self) -> None:
        self._producer.flush(10)

    def stream(self, request_id: str, tenant: str = "demo") -> Stream:
        """A stream of a request that came from elsewhere."""
        stream = self.streams[request_id] = Stream(self, request_id, tenant)
        return stream

    def wait(self, condition: Callable[[], Any], within_s: float = 10.0) -> Any:
        """What `condition` gives once it is true; called whenever something was read."""
        with self._changed:
            assert self._changed.wait_for(condition, within_s), "the edge did not write what was expected"
            return condition()

    def submitted(self, marker: str, within_s: float = 10.0) -> Stream:
        """The stream of the request whose body contains `marker`."""
        found = self.wait(
            lambda: next((id_ for id_, body in self.requests.items() if marker in str(body)), None), within_s
        )
        return self.streams[found]

    def about(self, request_id: str, kind: type[Any]) -> list[Any]:
        """The journal's events of one kind about a request."""
        return [event for _, event in self.journal if isinstance(event, kind) and event.id == request_id]

    def wait_about(self, request_id: str, kind: type[Any], count: int = 1, within_s: float = 10.0) -> list[Any]:
        """The same, once there are so many."""
        self.wait(lambda: len(self.about(request_id, kind)) >= count, within_s)
        return self.about(request_id, kind)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            for message in self._consumer.consume(100, 0.02):
                assert message.error() is None, message.error()
                with self._changed:
                    self._take(message)
                    self._changed.notify_all()
            self._producer.poll(0)
        self._consumer.close()

    def _take(self, message: Any) -> None:
        if message.topic() == "journal":
            event = decode("journal", message.value(), message.headers())
            self.journal.append((message.partition(), event))
            self._obey(event)
            return
        body = orjson.loads(message.value())
        assert message.key().decode() == body["id"]
        self.request_headers[body["id"]] = dict(message.headers())
        content = body["messages"][-1].get("content")
        stream = Stream(self, body["id"], body["tenant"], body["model"], content if isinstance(content, str) else "")
        self.streams[stream.id] = stream
        self.requests[stream.id] = body
        SCRIPTS[stream.model](stream)
        for _, event in self.journal:  # a cancel may stand before its request is read
            if getattr(event, "id", "") == stream.id:
                self._obey(event)

    def _obey(self, event: Any) -> None:
        """The guard: a cancel ends the stream, and so does the leave of the last reader who asked for it."""
        stream = self.streams.get(getattr(event, "id", ""))
        if stream is None or stream.ended:
            return
        body = self.requests.get(stream.id, {})
        if isinstance(event, Cancel) or (isinstance(event, Left) and body.get("on_disconnect") == "cancel"):
            stream.end("cancelled", "client" if isinstance(event, Cancel) else "reader_gone")


def settle(until: Callable[[], Any], within_s: float = 5.0) -> None:
    """Wait for something no event tells of, looking often."""
    give_up = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < give_up, "it did not come to be"
        time.sleep(0.005)
