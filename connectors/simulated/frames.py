"""A script as bytes: OpenAI's chunks, whole answers and errors. All that repeats is written once for a call."""

import hashlib
import time
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import orjson

from connectors.simulated.script import ENDLESS_WHOLE, NOW, Delta, Script

FINGERPRINT = "simulated"
CREATED = 1767225600
"""2026-01-01: answers are a function of the request."""
DONE = b"data: [DONE]\n\n"
MALFORMED = b'data: {"id":"chatcmpl-sim","choices":[{"index":0,"delta":{"con\n\n'


class Frames:
    """The pieces of one streamed answer, each ready to be written."""

    def __init__(self, request: dict[str, Any], script: Script) -> None:
        self._options = script.options
        self._finish_reason = script.finish_reason
        self._prompt = prompt_tokens(request)
        self._asked = bool((request.get("stream_options") or {}).get("include_usage"))
        base = orjson.dumps(_base(request, "chat.completion.chunk"))[:-1]
        self._base = b"data: " + base
        self._delta = b'%s,"choices":[{"index":0,"delta":' % self._base
        own = self._asked and self._options.usage == "own"
        self._rest = b',"logprobs":null,"finish_reason":null}]%s}\n\n' % (b',"usage":null' if own else b"")
        self._gzip = zlib.compressobj(wbits=31) if self._options.gzip else None

    def first(self) -> bytes:
        """What stands before the first delta: the role."""
        bom = b"\xef\xbb\xbf" if self._options.bom else b""
        return self._encode(bom + self._delta + b'{"role":"assistant","content":""}' + self._rest)

    def delta(self, delta: Delta, number: int) -> bytes:
        """One delta, the `number`th from 1."""
        rest = self._rest
        if self._options.usage == "every":
            rest = rest.replace(b"}\n\n", b',"usage":%s}\n\n' % self._usage(number))
        if delta.get("content") is NOW:
            delta = {"content": f"{time.monotonic_ns()} "}
        comment = b": still here\n\n" if self._options.comments else b""
        return self._encode(comment + self._delta + orjson.dumps(delta) + rest)

    def last(self, number: int, cut_short: bool) -> bytes:
        """Finish reason, usage and `[DONE]`, after `number` deltas."""
        usage, options = self._usage(number), self._options
        reason = "length" if cut_short else self._finish_reason
        finish = b'{},"logprobs":null,"finish_reason":%s}]' % orjson.dumps(reason)
        own = options.usage == "own" and self._asked
        on_finish = usage if options.usage in ("last", "every") else b"null" if own else None
        pieces = [self._delta, finish, b"}\n\n" if on_finish is None else b',"usage":%s}\n\n' % on_finish]
        if own:
            pieces.append(b'%s,"choices":[],"usage":%s}\n\n' % (self._base, usage))
        if options.fault != "no-done":
            pieces.append(DONE)
        return self._encode(b"".join(pieces))

    def error(self) -> bytes:
        """An error inside the stream."""
        body: dict[str, Any] = error_body(500, "server_error", "the simulated provider failed as it was asked to")
        if self._options.error == "dashscope":
            body = {"code": "InternalError", "message": body["error"]["message"], "request_id": "sim-1"}
        return self._encode(b"data: %s\n\n" % orjson.dumps(body))

    def torn(self, number: int) -> bytes:
        """Half of a delta."""
        frame = self.delta({"content": "this is never read whole "}, number)
        return frame[: len(frame) // 2]

    def malformed(self) -> bytes:
        return self._encode(MALFORMED)

    def end(self) -> bytes:
        """What closes the encoding."""
        return self._gzip.flush() if self._gzip else b""

    def _encode(self, frame: bytes) -> bytes:
        if self._options.crlf:
            frame = frame.replace(b"\n", b"\r\n")
        if self._gzip:
            frame = self._gzip.compress(frame) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        return frame

    def _usage(self, deltas: int) -> bytes:
        return orjson.dumps(usage(self._prompt, deltas))


def pieces(frame: bytes, size: int) -> Iterator[bytes]:
    """`frame`, `size` bytes at a time."""
    return (frame[at : at + size] for at in range(0, len(frame), size))


def whole(request: dict[str, Any], script: Script) -> tuple[dict[str, Any], int]:
    """The answer as one object, and how many deltas it is made of."""
    limit = ENDLESS_WHOLE if script.limit is None else script.limit
    deltas = list(islice(script.deltas, limit + 1))
    reason = "length" if len(deltas) > limit else script.finish_reason
    deltas = deltas[:limit]
    finish = None if script.options.fault == "no-finish" else reason
    choice = {"index": 0, "message": _message(deltas), "logprobs": None, "finish_reason": finish}
    body = _base(request, "chat.completion") | {"choices": [choice]}
    if script.options.usage != "none":
        body["usage"] = usage(prompt_tokens(request), len(deltas))
    return body, len(deltas)


def _message(deltas: Iterable[Delta]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for delta in deltas:
        for name, value in delta.items():
            if isinstance(value, str):
                message[name] = (message.get(name) or "") + value
            elif name == "tool_calls":
                _merge_calls(message.setdefault("tool_calls", []), value)
    return message


def _merge_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        index = piece.get("index", 0)
        function = piece.get("function") or {}
        if index >= len(calls):
            calls.append(
                {name: value for name, value in piece.items() if name != "index"} | {"function": dict(function)}
            )
        else:
            known = calls[index]["function"]
            known["arguments"] = known.get("arguments", "") + function.get("arguments", "")


def _base(request: dict[str, Any], kind: str) -> dict[str, Any]:
    seed = orjson.dumps([request.get("model"), request.get("messages")])
    return {
        "id": f"chatcmpl-sim-{hashlib.sha256(seed).hexdigest()[:16]}",
        "object": kind,
        "created": CREATED,
        "model": request.get("model"),
        "system_fingerprint": FINGERPRINT,
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """A delta counts as a token."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def prompt_tokens(request: dict[str, Any]) -> int:
    """Four characters of the messages' JSON make a token."""
    return len(orjson.dumps(request.get("messages"))) // 4


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
