"""`POST /v1/chat/completions`: OpenAI's chat completions, streamed and whole."""

import time
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from connectors.edge.auth import Auth, Caller
from connectors.edge.errors import ApiError, ClientGone, NotSent, rejected, unavailable
from connectors.edge.http import (
    EVENT_STREAM,
    JSON,
    LAST,
    Header,
    header,
    part,
    peer_of,
    read_body,
    respond,
    respond_error,
    start,
)
from connectors.edge.idempotency import Claim, Idempotency
from connectors.edge.peer import Peer, Watch
from connectors.edge.streams import LONGEST_WAIT_S, Place, Streams
from connectors.edge.submit import Submitter
from connectors.edge.subscription import Awaited, StreamOver, Subscription, records
from processors.admission.validate import RequestRejected
from processors.edge.ends import end_error, end_message, finish_reason
from processors.edge.openai_chunks import ChunkWriter, WholeAnswer
from processors.edge.reader import Released
from processors.edge.submission import Submission, body_hash, parse_body
from processors.events import End, Request
from processors.identity import uuid7_time

UNDERWAY_S = 60.0
"""How long a request may be on its way into the log before one that is not there counts as never published."""


class Chat:
    """The endpoint."""

    def __init__(
        self, auth: Auth, streams: Streams, submitter: Submitter, idempotency: Idempotency, watch: Watch
    ) -> None:
        self._auth = auth
        self._streams = streams
        self._submitter = submitter
        self._idempotency = idempotency
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = self._auth.by_header(scope)
        body = await read_body(scope, receive)
        peer = peer_of(scope)
        submission, subscription = await self._begin(scope, caller, body)
        connection = Connection(peer, subscription)
        self._watch.add(connection, peer)
        try:
            await Answer(submission.request, subscription, connection, send).deliver()
        finally:
            self._watch.remove(connection)
            peer.release(connection)
            self._streams.leave(subscription)

    async def _begin(self, scope: Scope, caller: Caller, body: bytes) -> tuple[Submission, Subscription]:
        """The request, published or found, and the reader of its stream."""
        try:
            data = parse_body(body)
        except RequestRejected as error:
            raise rejected(error) from None
        submission = self._submitter.prepare(
            caller, data, "cancel", header(scope, b"x-client-request-id"), header(scope, b"cache-control") or ""
        )
        key = header(scope, b"idempotency-key")
        if key is None:
            return submission, await self._submitter.send(submission)
        claim = await self._idempotency.claim(caller.tenant, key, submission.request.id, body_hash(data))
        return submission, await self._once(submission, claim)

    async def _once(self, submission: Submission, claim: Claim) -> Subscription:
        """Publish under a fresh claim; follow what an older one stands for, unless that never came to be."""
        if not claim.fresh:
            age = time.time() - uuid7_time(claim.request_id).timestamp()
            try:
                place, wait_s = Place(), min(LONGEST_WAIT_S, max(0.0, UNDERWAY_S - age))
                return await self._streams.follow(claim.request_id, submission.request.tenant, place, wait_s)
            except ApiError as error:
                if error.status != 404:
                    raise
            taken = await self._idempotency.replace(claim, submission.request.id) if age > UNDERWAY_S else None
            if taken is None:
                raise unavailable("idempotency_underway", "a request with this Idempotency-Key is still on its way")
            claim = taken
        try:
            return await self._submitter.send(submission)
        except NotSent:
            await self._idempotency.release(claim)
            raise


class Connection:
    """One client waiting for one answer. When it goes, or is too slow, the stream has lost a reader."""

    def __init__(self, peer: Peer, subscription: Subscription) -> None:
        self._subscription = subscription
        self.peer = peer
        self.awaited = Awaited(subscription)
        peer.when_gone(self, self._gone)

    def behind(self) -> int:
        return self._subscription.behind()

    def cut(self) -> None:
        self.peer.abort()

    async def next(self) -> list[Released]:
        """The next records.

        Raises:
            ClientGone: nobody is there to be told.
            ApiError: a piece of the stream is lost, or this server stops.
        """
        items = await self.awaited.next()
        found = records(items)
        if found is None:
            raise ApiError(502, "log_lost", "a part of the answer is no longer in the log")
        return found

    def _gone(self) -> None:
        self._subscription.fail(ClientGone())


class Answer:
    """One answer being delivered."""

    def __init__(self, request: Request, subscription: Subscription, connection: Connection, send: Send) -> None:
        self._request = request
        self._subscription = subscription
        self._connection = connection
        self._send = send

    async def deliver(self) -> None:
        """Deliver it whole or streamed, as was asked."""
        deliver: Callable[[list[Released]], Awaitable[None]] = self._stream if self._request.stream else self._whole
        try:
            first = await self._connection.next()
        except ApiError as error:
            await respond_error(self._send, error, self._request_id())
            return
        except StreamOver:
            raise ClientGone from None
        await deliver(first)

    async def _stream(self, events: list[Released]) -> None:
        if isinstance(events[0], End) and await self._failed(events[0]):
            return
        options = self._request.stream_options or {}
        writer = ChunkWriter(self._subscription.id, self._request.model, bool(options.get("include_usage")))
        await self._send(start(200, *EVENT_STREAM, *self._headers()))
        connection, send, peer = self._connection, self._send, self._connection.peer
        while True:
            last = events[-1]
            if isinstance(last, End) and last.status == "cancelled":
                await self._part(writer.write(events[:-1]))
                await self._close()
                return
            body = writer.write(events)
            await send(part(body))
            peer.sent += len(body)
            if isinstance(last, End):
                break
            try:
                events = await connection.next()
            except ApiError as error:
                await send(part(writer.error(error.message, error.kind, error.code, error.param)))
                break
        await send(LAST)

    async def _whole(self, events: list[Released]) -> None:
        answer = WholeAnswer(self._subscription.id, self._request.model)
        while True:
            for event in events:
                if isinstance(event, End):
                    if not await self._failed(event):
                        await respond(self._send, 200, answer.result(event), JSON, *self._headers())
                    return
                answer.take(event)
            try:
                events = await self._connection.next()
            except ApiError as error:
                await respond_error(self._send, error, self._request_id())
                return

    async def _failed(self, end: End) -> bool:
        """Whether the end is no answer; then it is told, which needs that no byte was sent before."""
        if finish_reason(end) is not None:
            return False
        if end.status == "cancelled":
            await self._close()
            return True
        error = end_error(end)
        told = ApiError(error.status, error.code, end_message(end), error.param, error.type, error.retry_after_s or 1)
        await respond_error(self._send, told, *self._headers())
        return True

    async def _close(self) -> None:
        """A cancelled request's connection is closed without an answer."""
        self._connection.peer.close()
        await self._connection.peer.closed()

    async def _part(self, body: bytes) -> None:
        if body:
            await self._send(part(body))

    def _headers(self) -> list[Header]:
        headers = [self._request_id()]
        if self._subscription.cached:
            headers.append((b"x-sluice-cache", b"hit"))
        return headers

    def _request_id(self) -> Header:
        return (b"x-request-id", self._subscription.id.encode())
