"""`/v1/streams/{id}`: a stream as server-sent events, and its cancel."""

import asyncio

import orjson
from starlette.types import Receive, Scope, Send

from connectors.edge.auth import Auth, Caller
from connectors.edge.errors import ApiError, ClientGone, unauthorized
from connectors.edge.http import EVENT_STREAM, JSON, LAST, header, part, peer_of, query, respond, start
from connectors.edge.peer import Peer, Watch
from connectors.edge.places import bad_cursor, place_of, wait_of
from connectors.edge.publish import Publisher
from connectors.edge.streams import Streams
from connectors.edge.subscription import Awaited, StreamOver, Subscription
from processors.edge.buffer import Item
from processors.edge.cursor import BadCursor
from processors.edge.frames import FrameWriter, error_event
from processors.edge.reader import Gap

HEARTBEAT_S = 15.0
HEARTBEAT = b": hb\n\n"


class StreamEvents:
    """`GET` follows a stream, `DELETE` cancels it."""

    def __init__(self, auth: Auth, streams: Streams, publisher: Publisher, watch: Watch) -> None:
        self._auth = auth
        self._streams = streams
        self._publisher = publisher
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = self._auth.by_header(scope)
        request_id: str = scope["path_params"]["id"]
        if scope["method"] == "DELETE":
            await self._cancel(scope, send, caller, request_id)
        elif scope["method"] == "GET":
            await self._follow(scope, send, caller, request_id)
        else:  # Starlette lets HEAD through where GET is served
            raise ApiError(405, "method_not_allowed", "Method Not Allowed")

    async def _cancel(self, scope: Scope, send: Send, caller: Caller, request_id: str) -> None:
        await self._streams.check_owner(request_id, caller.tenant, wait_of(query(scope, "wait_s").get("wait_s")))
        await self._publisher.cancel(request_id, caller.tenant)
        await respond(send, 202, orjson.dumps({"id": request_id, "status": "cancelling"}), JSON)

    async def _follow(self, scope: Scope, send: Send, caller: Caller, request_id: str) -> None:
        asked = query(scope, "from_seq", "wait_s")
        last_seen = header(scope, b"last-event-id")
        place = place_of(request_id, caller.tenant, last_seen, asked.get("from_seq"))
        wait_s = wait_of(asked.get("wait_s"))
        peer = peer_of(scope)
        try:
            subscription = await self._streams.follow(request_id, caller.tenant, place, wait_s)
        except BadCursor as error:
            raise bad_cursor(error) from None
        except StreamOver:
            await send({"type": "http.response.start", "status": 204, "headers": []})  # a browser stops here
            await send(LAST)
            return
        feed = Feed(peer, subscription)
        self._watch.add(feed, peer)
        self._auth.hold(caller, feed, feed.revoked)
        try:
            await feed.deliver(send)
        finally:
            feed.close()
            self._auth.release(caller, feed)
            self._watch.remove(feed)
            self._streams.leave(subscription)


class Feed:
    """One client reading one stream."""

    def __init__(self, peer: Peer, subscription: Subscription) -> None:
        self._peer = peer
        self._subscription = subscription
        self._awaited = Awaited(subscription)
        self._frames = FrameWriter(subscription.id, subscription.tenant)
        self._heartbeat_due = False
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._tick)
        peer.when_gone(self, lambda: subscription.fail(ClientGone()))

    def behind(self) -> int:
        return self._subscription.behind()

    def cut(self) -> None:
        self._peer.abort()

    def revoked(self) -> None:
        """A revoked key ends what it opened."""
        self._subscription.fail(unauthorized("the API key was revoked"))

    def close(self) -> None:
        """Let go of timer and connection."""
        self._timer.cancel()
        self._peer.release(self)

    async def deliver(self, send: Send) -> None:
        """Send events until the end, a failure, or the client's leave."""
        await send(start(200, *EVENT_STREAM, (b"x-request-id", self._subscription.id.encode())))
        try:
            while not self._subscription.ended:
                body = self._take()
                if body:
                    await send(part(body))
                    self._peer.sent += len(body)
                else:
                    await self._awaited.pause()
        except StreamOver:
            pass
        except ApiError as error:
            await send(part(error_event(error.code, error.message, self._subscription.id)))
        await send(LAST)

    def _take(self) -> bytes:
        body = b"".join(self._event(item) for item in self._subscription.take())
        if self._heartbeat_due:
            self._heartbeat_due = False
            body += HEARTBEAT
        return body

    def _event(self, item: Item | Gap) -> bytes:
        return self._frames.gap_event(item) if isinstance(item, Gap) else self._frames.event(item.event, item.offset)

    def _tick(self) -> None:
        self._heartbeat_due = True
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._tick)
        self._awaited.wake()
