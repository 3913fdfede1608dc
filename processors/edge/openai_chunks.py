"""Released records as OpenAI's wire format: chunks of a stream, a whole answer, an error object.

A chunk is put together from pieces made once a request; only the text itself goes through a JSON encoder.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from processors.edge.ends import end_error, end_message, finish_reason
from processors.edge.reader import Released
from processors.events import End, Tokens, ToolCall, Usage
from processors.identity import uuid7_time

DONE = b"data: [DONE]\n\n"

_FIELDS = {"content": b'"content":', "reasoning": b'"reasoning_content":', "refusal": b'"refusal":'}


class ChunkWriter:
    """Writes the chunks of one streamed answer."""

    def __init__(self, request_id: str, model: str, include_usage: bool) -> None:
        head = orjson.dumps(_head(request_id, model, "chat.completion.chunk"))
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._include_usage = include_usage
        self._tail = b',"logprobs":null,"finish_reason":null}]' + self._close(None)
        self._begun: dict[int, bytes] = {}

    def write(self, events: Iterable[Released]) -> bytes:
        """Chunks for records in order. An end that is told as an answer closes with `[DONE]`, another with an error."""
        return b"".join(self._end(event) if isinstance(event, End) else self._tokens(event) for event in events)

    def error(self, message: str, kind: str, code: str, param: str | None = None) -> bytes:
        """The error that stands in place of the rest."""
        return b"data: " + error_object(message, kind, code, param) + b"\n\n"

    def _tokens(self, event: Tokens) -> bytes:
        start = self._begun.get(event.choice)
        if start is None:
            start = self._begin(event.choice)
        field = _FIELDS.get(event.kind)
        if field is None:
            return start + _tool_call(event) + b"}" + self._tail
        return start + field + orjson.dumps(event.text) + b"}" + self._tail

    def _begin(self, choice: int) -> bytes:
        """The first chunk of a choice names the role, the others do not."""
        start = b'%b{"index":%d,"delta":{' % (self._head, choice)
        self._begun[choice] = start
        return start + b'"role":"assistant",'

    def _end(self, end: End) -> bytes:
        reason = finish_reason(end)
        if reason is None:
            error = end_error(end)
            return self.error(end_message(end), error.type, error.code, error.param)
        closing = b',"logprobs":null,"finish_reason":%b}]' % orjson.dumps(reason)
        chunks = [
            b'%b{"index":%d,"delta":{}%b%b' % (self._head, choice, closing, self._close(None))
            for choice in self._begun or (0,)
        ]
        if self._include_usage:
            chunks.append(self._head + b"]" + self._close(end.usage))
        return b"".join(chunks) + DONE

    def _close(self, usage: Usage | None) -> bytes:
        if not self._include_usage:
            return b"}\n\n"
        return b',"usage":' + orjson.dumps(usage and openai_usage(usage)) + b"}\n\n"


class WholeAnswer:
    """Gathers the records of one answer that is delivered as a whole."""

    def __init__(self, request_id: str, model: str) -> None:
        self._head = _head(request_id, model, "chat.completion")
        self._texts: dict[int, dict[str, list[str]]] = {}
        self._calls: dict[int, dict[int, dict[str, Any]]] = {}

    def take(self, event: Tokens) -> None:
        """Add one record."""
        if event.kind == "tool_call":
            self._take_call(event, event.tool or ToolCall())
        else:
            kinds = self._texts.setdefault(event.choice, {})
            kinds.setdefault(event.kind, []).append(event.text)

    def result(self, end: End) -> bytes:
        """The answer's body, for an end that has a finish reason."""
        reason = finish_reason(end)
        indexes = sorted({*self._texts, *self._calls}) or [0]
        choices = [
            {"index": index, "message": self._message(index), "logprobs": None, "finish_reason": reason}
            for index in indexes
        ]
        return orjson.dumps(self._head | {"choices": choices, "usage": openai_usage(end.usage)})

    def _take_call(self, event: Tokens, tool: ToolCall) -> None:
        calls = self._calls.setdefault(event.choice, {})
        call = calls.setdefault(tool.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = tool.id or call["id"]
        call["function"]["name"] = tool.name or call["function"]["name"]
        call["function"]["arguments"] += event.text

    def _message(self, index: int) -> dict[str, Any]:
        texts = {kind: "".join(parts) for kind, parts in self._texts.get(index, {}).items()}
        calls = self._calls.get(index)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": texts.get("content"),
            "refusal": texts.get("refusal"),
        }
        if "reasoning" in texts:
            message["reasoning_content"] = texts["reasoning"]
        if calls:
            message["tool_calls"] = [calls[at] for at in sorted(calls)]
        elif message["content"] is None and message["refusal"] is None:
            message["content"] = ""
        return message


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Usage under OpenAI's names."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def error_object(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """OpenAI's error object."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _head(request_id: str, model: str, kind: str) -> dict[str, Any]:
    created = int(uuid7_time(request_id).timestamp())
    return {"id": request_id, "object": kind, "created": created, "model": model}


def _tool_call(event: Tokens) -> bytes:
    tool = event.tool or ToolCall()
    function: dict[str, Any] = {"arguments": event.text}
    call: dict[str, Any] = {"index": tool.index}
    if tool.id is not None:
        call |= {"id": tool.id, "type": "function"}
    if tool.name is not None:
        function = {"name": tool.name} | function
    return b'"tool_calls":[' + orjson.dumps(call | {"function": function}) + b"]"
