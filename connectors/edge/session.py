"""One authenticated WebSocket: frames in, many streams out."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from starlette.types import Receive

from connectors.edge.auth import Caller
from connectors.edge.errors import ApiError, ClientGone, rejected, unknown_name
from connectors.edge.places import bad_cursor, place_of, wait_of
from connectors.edge.publish import Publisher
from connectors.edge.server import SocketPeer
from connectors.edge.streams import Streams
from connectors.edge.submit import Submitter
from connectors.edge.subscription import StreamOver, Subscription
from processors.admission.validate import RequestRejected
from processors.edge.buffer import Item
from processors.edge.cursor import BadCursor
from processors.edge.frames import CLIENT_FIELDS, FrameWriter, accepted_frame, error_frame, unknown_field
from processors.edge.reader import Gap
from processors.edge.submission import check_object

log = logging.getLogger(__name__)

MOST_STREAMS = 1024
"""Streams open on one socket."""
MOST_PENDING = 256
"""Frames of one socket that wait for the log at the same time."""

ENOUGH = 64 * 1024
"""Bytes of records handed to the socket at once."""

TRY_AGAIN_LATER = 1013
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011

Frame = dict[str, Any]
Work = Callable[[], Coroutine[Any, Any, None]]


class Following:
    """A stream open on the socket."""

    __slots__ = ("subscription", "writer")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.writer = FrameWriter(subscription.id, subscription.tenant)

    def frame(self, item: Item | Gap) -> bytes:
        """One record or gap as a frame."""
        return self.writer.gap(item) if isinstance(item, Gap) else self.writer.frame(item.event, item.offset)


class Session:
    """Reads the client's frames in order and answers each; sends whatever its streams have."""

    def __init__(
        self, caller: Caller, peer: SocketPeer, streams: Streams, submitter: Submitter, publisher: Publisher
    ) -> None:
        self.caller = caller
        self.peer = peer
        self._streams = streams
        self._submitter = submitter
        self._publisher = publisher
        self._following: dict[str, Following] = {}
        self._pending: dict[asyncio.Task[None], str | None] = {}
        self._ready: dict[str, None] = {}
        self._outbox: list[bytes] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._handlers: dict[str, Callable[[Frame], None]] = {
            "submit": self._on_submit,
            "follow": self._on_follow,
            "unfollow": self._on_unfollow,
            "cancel": self._on_cancel,
        }

    async def run(self, receive: Receive) -> None:
        """Serve until the client leaves or is cut."""
        sender = asyncio.create_task(self._send_all())
        sender.add_done_callback(self._sender_ended)
        try:
            while not self._closed:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                self._receive(message.get("text"))
        finally:
            self._close()
            sender.cancel()

    def behind(self) -> int:
        waiting = sum(following.subscription.behind() for following in self._following.values())
        return waiting + sum(map(len, self._outbox))

    def cut(self) -> None:
        self._close()
        self.peer.cut(TRY_AGAIN_LATER, "too slow; resume by cursor")

    def revoked(self) -> None:
        """The key that opened the socket is no longer one."""
        self._close()
        self.peer.cut(POLICY_VIOLATION, "the API key was revoked")

    # frames in

    def _receive(self, text: str | None) -> None:
        """Answer a frame. Whatever is wrong with it, the socket stays open."""
        try:
            frame = orjson.loads(text) if text is not None else None
        except orjson.JSONDecodeError as error:
            self._error("invalid_json", f"the frame is not valid JSON: {error}")
            return
        if text is None:
            self._error("invalid_frame", "frames are JSON text; this one was binary")
        elif not isinstance(frame, dict):
            self._error("invalid_frame", "a frame is a JSON object with a `type`", param="type")
        else:
            self._dispatch(frame)

    def _dispatch(self, frame: Frame) -> None:
        kind = frame.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            message = f"`type` must be one of {', '.join(self._handlers)}"
            self._error("unknown_type", message, ref=_ref(frame), request_id=_id(frame), param="type")
            return
        try:
            _check_fields(frame)
            handler(frame)
        except ApiError as error:
            self._tell(error, frame)

    def _on_submit(self, frame: Frame) -> None:
        on_disconnect = frame.get("on_disconnect", "continue")
        if on_disconnect not in ("continue", "cancel"):
            raise ApiError(400, "invalid_value", "`on_disconnect` must be continue or cancel", "on_disconnect")
        self._need_room()
        self._spawn(lambda: self._submit(frame, on_disconnect), frame)

    def _on_follow(self, frame: Frame) -> None:
        request_id = _need_id(frame)
        if request_id in self._following or request_id in self._pending.values():
            raise ApiError(400, "already_followed", "the stream is followed on this socket already", "id")
        self._need_room()
        self._spawn(lambda: self._follow(frame, request_id), frame, request_id)

    def _on_unfollow(self, frame: Frame) -> None:
        request_id = _need_id(frame)
        for task, pending in self._pending.items():
            if pending == request_id:
                task.cancel()
                return
        if request_id not in self._following:
            raise ApiError(400, "not_followed", "the stream is not followed on this socket", "id")
        self._drop(request_id)

    def _on_cancel(self, frame: Frame) -> None:
        request_id = _need_id(frame)
        self._spawn(lambda: self._cancel(request_id), frame)

    # what takes time

    def _need_room(self) -> None:
        """For one more stream; a cancel needs none."""
        if len(self._following) >= MOST_STREAMS:
            raise ApiError(429, "too_many_streams", "too many streams on this socket; open another or wait")

    def _spawn(self, work: Work, frame: Frame, request_id: str | None = None) -> None:
        if len(self._pending) >= MOST_PENDING:
            raise ApiError(429, "too_many_frames", "too many frames of this socket are being served; send it again")
        task = asyncio.create_task(self._attempt(work, frame))
        self._pending[task] = request_id
        task.add_done_callback(self._pending.pop)

    async def _attempt(self, work: Work, frame: Frame) -> None:
        try:
            await work()
        except ApiError as error:
            self._tell(error, frame)
        except BadCursor as error:
            self._tell(bad_cursor(error), frame)
        except StreamOver:
            self._tell(_over(), frame)
        except Exception:
            log.exception("a frame of type %s failed", frame.get("type"))
            self._tell(ApiError(500, "internal_error", "the frame could not be served"), frame)

    async def _submit(self, frame: Frame, on_disconnect: Any) -> None:
        try:
            data = check_object(frame.get("request"))
        except RequestRejected as error:
            raise rejected(error) from None
        submission = self._submitter.prepare(self.caller, data, on_disconnect)
        subscription = await self._submitter.send(submission)
        self._put(accepted_frame(_ref(frame), subscription.id))
        self._open(subscription)

    async def _follow(self, frame: Frame, request_id: str) -> None:
        place = place_of(request_id, self.caller.tenant, frame.get("cursor"), frame.get("from_seq"))
        self._open(await self._streams.follow(request_id, self.caller.tenant, place, wait_of(frame.get("wait_s"))))

    async def _cancel(self, request_id: str) -> None:
        if request_id not in self._following:
            await self._streams.check_owner(request_id, self.caller.tenant)
        await self._publisher.cancel(request_id, self.caller.tenant)

    # streams

    def _open(self, subscription: Subscription) -> None:
        if self._closed:
            self._streams.leave(subscription)
            return
        self._following[subscription.id] = Following(subscription)
        subscription.notify = lambda: self._has_more(subscription.id)
        self._has_more(subscription.id)

    def _has_more(self, request_id: str) -> None:
        self._ready[request_id] = None
        self._wake.set()

    def _drop(self, request_id: str) -> None:
        following = self._following.pop(request_id)
        self._ready.pop(request_id, None)
        following.subscription.notify = _nothing
        self._streams.leave(following.subscription)

    def _close(self) -> None:
        """Leave every stream."""
        self._closed = True
        for task in list(self._pending):
            task.cancel()
        for request_id in list(self._following):
            self._drop(request_id)

    # frames out

    def _put(self, frame: bytes) -> None:
        self._outbox.append(frame)
        self._wake.set()

    def _error(self, code: str, message: str, **known: Any) -> None:
        self._put(error_frame(code, message, **known))

    def _tell(self, error: ApiError, frame: Frame) -> None:
        self._error(error.code, error.message, ref=_ref(frame), request_id=_id(frame), param=error.param)

    async def _send_all(self) -> None:
        while True:
            frames = self._collect()
            if frames:
                await self.peer.send(frames)
            else:
                self._wake.clear()
                await self._wake.wait()

    def _collect(self) -> list[bytes]:
        """What is there now, up to ENOUGH bytes or so, each stream in its turn."""
        frames, self._outbox = self._outbox, []
        size = 0
        for request_id in list(self._ready):
            if size > ENOUGH:
                break
            del self._ready[request_id]
            following = self._following.get(request_id)
            if following is not None:
                size += self._take(following, frames)
        return frames

    def _take(self, following: Following, frames: list[bytes]) -> int:
        subscription = following.subscription
        try:
            items = subscription.take()
        except (ApiError, StreamOver) as error:
            told = error if isinstance(error, ApiError) else _over()
            frames.append(error_frame(told.code, told.message, request_id=subscription.id))
            self._drop(subscription.id)
            return 0
        frames += map(following.frame, items)
        if subscription.ended:
            self._drop(subscription.id)
        elif subscription.has_more():
            self._ready[subscription.id] = None
        return sum(item.size for item in items if isinstance(item, Item))

    def _sender_ended(self, sender: "asyncio.Task[None]") -> None:
        error = None if sender.cancelled() else sender.exception()
        if error is not None and not isinstance(error, ClientGone):
            log.error("sending to a socket failed", exc_info=error)
            self._close()
            self.peer.cut(INTERNAL_ERROR, "internal error")


def _check_fields(frame: Frame) -> None:
    name = unknown_field(frame)
    if name is not None:
        kind = frame["type"]
        raise unknown_name(name, f"a {kind} frame", CLIENT_FIELDS[kind])


def _ref(frame: Frame) -> Any:
    return frame.get("ref")


def _id(frame: Frame) -> str | None:
    request_id = frame.get("id")
    return request_id if isinstance(request_id, str) else None


def _need_id(frame: Frame) -> str:
    request_id = _id(frame)
    if request_id is None:
        raise ApiError(400, "invalid_value", "`id` must name a stream", "id")
    return request_id


def _over() -> ApiError:
    return ApiError(400, "stream_over", "the stream ended before this place; there is nothing more")


def _nothing() -> None:
    pass
