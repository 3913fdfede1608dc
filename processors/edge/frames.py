"""The frames of the WebSocket and of SSE: what the server says of a stream, as JSON objects.

Both carry the same objects; SSE wraps them in an event whose `id` is the cursor.
"""

from typing import Any

import msgspec
import orjson

from processors.edge.cursor import cursor_tag, write_cursor
from processors.edge.reader import Gap, Released
from processors.events import End, Tokens

CLIENT_FIELDS = {
    "submit": ("type", "ref", "request", "on_disconnect"),
    "follow": ("type", "ref", "id", "cursor", "from_seq", "wait_s"),
    "unfollow": ("type", "ref", "id"),
    "cancel": ("type", "ref", "id"),
    "auth": ("type", "ref", "key"),
}
"""What a client's frame may hold, by its type."""


class FrameWriter:
    """Writes the frames of one stream for one reader."""

    __slots__ = ("_id", "_tag", "_tokens")

    def __init__(self, request_id: str, tenant: str) -> None:
        self._id = request_id
        self._tag = cursor_tag(request_id, tenant)
        self._tokens = f'{{"type":"tokens","id":"{request_id}","seq":'.encode()

    def frame(self, event: Released, offset: int) -> bytes:
        """A `tokens` or `end` object."""
        cursor = write_cursor(event.seq, offset, self._tag)
        return self._end(event, cursor) if isinstance(event, End) else self._text(event, cursor)

    def event(self, event: Released, offset: int) -> bytes:
        """The same as an SSE event."""
        cursor = write_cursor(event.seq, offset, self._tag)
        if isinstance(event, End):
            return b"id: %b\nevent: end\ndata: %b\n\n" % (cursor.encode(), self._end(event, cursor))
        return b"id: %b\nevent: tokens\ndata: %b\n\n" % (cursor.encode(), self._text(event, cursor))

    def gap(self, gap: Gap) -> bytes:
        """A `gap` object: records before `oldest_seq` are no longer there; what follows begins with it."""
        return orjson.dumps({"type": "gap", "id": self._id, "oldest_seq": gap.oldest_seq})

    def gap_event(self, gap: Gap) -> bytes:
        """The same as an SSE event; it has no `id`, the next one has."""
        return b"event: gap\ndata: %b\n\n" % self.gap(gap)

    def _text(self, event: Tokens, cursor: str) -> bytes:
        tool = b"" if event.tool is None else b',"tool":' + orjson.dumps(msgspec.to_builtins(event.tool))
        return b'%b%d,"cursor":"%b","kind":"%b","text":%b,"choice":%d%b}' % (
            self._tokens,
            event.seq,
            cursor.encode(),
            event.kind.encode(),
            orjson.dumps(event.text),
            event.choice,
            tool,
        )

    def _end(self, end: End, cursor: str) -> bytes:
        usage, cost = end.usage, end.cost
        frame: dict[str, Any] = {
            "type": "end",
            "id": self._id,
            "seq": end.seq,
            "cursor": cursor,
            "status": end.status,
            "reason": end.reason,
        }
        if end.message is not None:
            frame["message"] = end.message
        if end.error is not None:
            frame["error"] = {"code": end.error.code, "param": end.error.param, "status": end.error.status}
        frame["usage"] = {name: getattr(usage, name) for name in usage.__struct_fields__}
        frame["cost"] = {name: getattr(cost, name) for name in cost.__struct_fields__}
        return orjson.dumps(frame)


def unknown_field(frame: dict[str, Any]) -> str | None:
    """The first field of a client's frame that its type does not have, if any; the type must be a known one."""
    known = CLIENT_FIELDS[frame["type"]]
    return next((name for name in frame if name not in known), None)


def accepted_frame(ref: Any, request_id: str) -> bytes:
    """The answer to a `submit` whose request stands in the log."""
    return orjson.dumps({"type": "accepted", "ref": ref, "id": request_id})


def error_frame(
    code: str, message: str, *, ref: Any = None, request_id: str | None = None, param: str | None = None
) -> bytes:
    """What went wrong with a frame or a stream; `ref` and `id` as far as they are known."""
    known = {"ref": ref, "id": request_id, "code": code, "message": message, "param": param}
    return orjson.dumps({"type": "error"} | {name: value for name, value in known.items() if value is not None})


def error_event(code: str, message: str, request_id: str) -> bytes:
    """The same as an SSE event."""
    return b"event: error\ndata: %b\n\n" % error_frame(code, message, request_id=request_id)
