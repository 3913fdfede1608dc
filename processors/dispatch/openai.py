"""The wire format of kind `openai`: chat completions, as OpenAI-compatible endpoints really speak them.

A wire format is one module with three functions: `make_request`, `read_event` and `read_error`. What differs between
endpoints and is accepted here: usage on a chunk of its own, on the last one or on every one; `reasoning_content` or
`reasoning`; arguments as an object instead of a string; a whole `message` where a `delta` was asked for; errors as
`{"error": {…}}`, `{"error": "…"}`, `{"code", "message"}` or `{"status", "message"}`, in a body or inside a stream.
A field of ours that is null or missing is skipped; one of another type makes the event a `bad_response`.
Sources: OpenAI's API reference; DashScope, GigaChat and Yandex AI Studio as recorded in their SDKs' tests.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import msgspec
import orjson

from processors.events import PROVIDER_PARAMETERS, AnswerPart, ErrorClass, Kind, RunError, ToolCall, Usage
from processors.sse import Event

PATH = "/chat/completions"
MAX_PART_CHARS = 16_384
"""A longer piece of text is cut up, so that the record it becomes stays far below Kafka's limit of 1 MB."""
MAX_RAW_USAGE_BYTES = 4096
MAX_MESSAGE_CHARS = 300
MAX_RETRY_AFTER_S = 86_400.0

_MAX_TOKENS = 1 << 31  # no call counts more; above it a count is a mistake


class HttpRequest(msgspec.Struct, frozen=True):
    """A POST; `path` comes after the provider's base URL."""

    path: str
    headers: dict[str, str]
    body: bytes


class Progress(msgspec.Struct):
    """What the events of one call have said so far, beside text. `read_event` keeps it.

    `secrets` are never repeated in an error's message.
    """

    secrets: tuple[str, ...] = ()
    id: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    raw_usage: dict[str, Any] | None = None
    error: RunError | None = None
    done: bool = False
    """`[DONE]` was read: nothing that counts can follow."""
    tools: dict[tuple[int, int], ToolCall] = msgspec.field(default_factory=dict)
    """The id and name last given for a (choice, tool call index)."""


_Name = Annotated[str, msgspec.Meta(max_length=256)]


class _Function(msgspec.Struct):
    name: _Name | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"null")
    """A string; an object from GigaChat, whose text is handed on as it came."""


class _Tool(msgspec.Struct):
    index: Annotated[int, msgspec.Meta(ge=0, lt=1024)] | None = None
    id: _Name | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Tool] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: Annotated[int, msgspec.Meta(ge=0, lt=1024)] | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: _Name | None = None


class _Chunk(msgspec.Struct):
    id: Any = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_text = msgspec.json.Decoder(str | None).decode


def make_request(
    request: Mapping[str, Any], model: str, *, api_key: str | None = None, max_tokens: int | None = None
) -> HttpRequest:
    """The call for a request as it came, to `model`, streamed and with usage; at most `max_tokens` where given.

    A parameter that is null is left out, which means the same and is refused by nobody.

    Raises:
        ValueError: the request holds what JSON cannot carry.
    """
    body = {"model": model, "messages": request["messages"]}
    body |= {name: request[name] for name in PROVIDER_PARAMETERS if request.get(name) is not None}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    if max_tokens is not None:
        _cap(body, max_tokens)
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    try:
        return HttpRequest(PATH, headers, orjson.dumps(body))
    except TypeError as error:
        raise ValueError(str(error)) from None


def _cap(body: dict[str, Any], limit: int) -> None:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
    for name in names or ["max_tokens"]:
        body[name] = min(body.get(name, limit), limit)


def read_event(progress: Progress, event: Event) -> list[AnswerPart]:
    """The text in one event (or in a whole answer's body, given as an event); all else goes into `progress`.

    Never raises: what cannot be read becomes `progress.error`, after which the call is over.
    """
    parts: list[AnswerPart] = []
    data = event.data
    if progress.done or progress.error or not data or data.isspace():
        return parts
    if data.strip() == b"[DONE]":
        progress.done = True
        return parts
    try:
        chunk = _decode_chunk(data)
        _read_chunk(progress, chunk, parts)
        if chunk.error or not chunk.choices or event.name == "error":
            progress.error = _error_inside(data, event.name, progress.secrets)
    except msgspec.ValidationError as error:
        progress.error = RunError("bad_response", f"the provider sent an event of another shape: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        progress.error = RunError("bad_response", "the provider sent an event that is not JSON")
    return parts


def _read_chunk(progress: Progress, chunk: _Chunk, parts: list[AnswerPart]) -> None:
    if progress.id is None and isinstance(chunk.id, str) and chunk.id:
        progress.id = chunk.id[:200]
    for choice in chunk.choices or ():
        delta = choice.delta or choice.message
        if delta is not None:
            _read_delta(progress, choice.index or 0, delta, parts)
        if choice.finish_reason and choice.finish_reason != "null":  # DashScope's own format spells it out
            progress.finish_reason = choice.finish_reason
    if len(chunk.usage) > len("null"):
        _read_usage(progress, bytes(chunk.usage))


def _read_delta(progress: Progress, choice: int, delta: _Delta, parts: list[AnswerPart]) -> None:
    reasoning = delta.reasoning_content or delta.reasoning
    if reasoning:
        _add(parts, "reasoning", reasoning, choice)
    if delta.content:
        _add(parts, "content", delta.content, choice)
    if delta.refusal:
        _add(parts, "refusal", delta.refusal, choice)
    if delta.tool_calls or delta.function_call:
        tools = delta.tool_calls or [_Tool(function=delta.function_call)]
        for position, tool in enumerate(tools):
            _read_tool(progress, choice, position if tool.index is None else tool.index, tool, parts)


def _read_tool(progress: Progress, choice: int, index: int, tool: _Tool, parts: list[AnswerPart]) -> None:
    """Id and name go out when they are new: some endpoints repeat them, or an empty one, on every piece."""
    function = tool.function or _Function()
    known = progress.tools.get((choice, index), ToolCall(index))
    new_id = tool.id if tool.id and tool.id != known.id else None
    new_name = function.name if function.name and function.name != known.name else None
    raw = bytes(function.arguments)
    text = raw.decode() if raw.startswith(b"{") else _decode_text(raw) or ""
    if new_id or new_name:
        progress.tools[choice, index] = ToolCall(index, new_id or known.id, new_name or known.name)
    if text or new_id or new_name:
        _add(parts, "tool_call", text, choice, ToolCall(index, new_id, new_name))


def _add(parts: list[AnswerPart], kind: Kind, text: str, choice: int, tool: ToolCall | None = None) -> None:
    while len(text) > MAX_PART_CHARS:
        parts.append(AnswerPart(kind, text[:MAX_PART_CHARS], choice, tool))
        text = text[MAX_PART_CHARS:]
        tool = tool and ToolCall(tool.index)
    parts.append(AnswerPart(kind, text, choice, tool))


def _read_usage(progress: Progress, data: bytes) -> None:
    """Counts are believed only where both input and output are sound; else the guard's estimate is better."""
    raw = msgspec.json.decode(data)
    if not isinstance(raw, dict):
        return
    if raw and len(data) <= MAX_RAW_USAGE_BYTES and _storable(raw):
        progress.raw_usage = raw
    input_, output = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    if input_ is None or output is None:
        return
    cached = _count(_inside(raw, "prompt_tokens_details", "cached_tokens"))
    cached = cached or _count(raw.get("precached_prompt_tokens"))
    reasoning = _count(_inside(raw, "completion_tokens_details", "reasoning_tokens"))
    # `cached` is part of `input`: no provider's mistake may make what is paid for in full negative.
    progress.usage = Usage(input_, output, min(cached or 0, input_), reasoning or 0, "provider")


def _storable(raw: dict[str, Any]) -> bool:
    """Whether events can carry it: JSON knows integers that no column holds."""
    try:
        orjson.dumps(raw)
    except TypeError:
        return False
    return True


def _inside(raw: dict[str, Any], outer: str, inner: str) -> Any:
    details = raw.get(outer)
    return details.get(inner) if isinstance(details, dict) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MAX_TOKENS else None


def read_error(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, secrets: Sequence[str] = ()
) -> RunError:
    """What an answer other than 200 means. `headers` are found by lower-case name; `now` dates a Retry-After date."""
    try:
        error = _failure(msgspec.json.decode(body), status, secrets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "an HTML page" if body.lstrip()[:1] == b"<" else "text that is not JSON" if body.strip() else "no body"
        error = RunError(_by_status(status), f"the provider answered HTTP {status} with {what}", status)
    return msgspec.structs.replace(error, retry_after_s=_retry_after(headers, now))


def _error_inside(data: bytes, name: str, secrets: Sequence[str]) -> RunError | None:
    """The error that an event of a 200 answer carries; None where it only lacks choices."""
    body = msgspec.json.decode(data)
    stated = body.get("error") or name == "error" or body.get("object") == "error"
    bare = not body.get("choices") and isinstance(body.get("message"), str) and ("code" in body or "status" in body)
    return _failure(body, None, secrets) if stated or bare else None


def _failure(body: Any, status: int | None, secrets: Sequence[str]) -> RunError:
    fields = body.get("error") or body if isinstance(body, dict) else {}
    if not isinstance(fields, dict):
        fields = {"message": fields}
    words = [fields.get(name) for name in ("code", "type")]
    inner = next((n for n in (fields.get("httpCode"), fields.get("status"), *words) if _is_status(n)), None)
    status = status or inner
    code, type_ = (_BY_CODE.get(_plain(word)) for word in words)
    # A code says more than a status, a status more than a type: OpenAI types a missing model `invalid_request_error`.
    kind = code or (_by_status(status) if status else type_) or "provider_error"
    text = next((t for t in (fields.get("message"), fields.get("detail"), *words) if isinstance(t, str) and t), "")
    default = f"the provider answered HTTP {status}" if status else "the provider reported an error"
    return RunError(kind, _short(text, secrets) or default, status)


def _is_status(value: Any) -> bool:
    return type(value) is int and 400 <= value <= 599


def _plain(word: Any) -> str:
    """`Throttling.RateQuota`, `rate_limit_exceeded` and `RateLimitExceeded`, made comparable."""
    return word.partition(".")[0].replace("_", "").lower() if isinstance(word, str) else ""


_CODES: dict[ErrorClass, str] = {
    "rate_limited": "rate_limit_exceeded rate_limit_error limit_requests insufficient_quota throttling",
    "unauthorized": "invalid_api_key access_denied authentication_error permission_denied permission_error arrearage",
    "not_found": "model_not_found not_found_error",
    "content_filter": "content_filter data_inspection_failed content_policy_violation",
    "invalid_request": "invalid_request_error invalid_parameter context_length_exceeded bad_request_error",
}
_BY_CODE = {_plain(word): kind for kind, words in _CODES.items() for word in words.split()}

_STATUS: dict[int, ErrorClass] = {
    401: "unauthorized",
    402: "unauthorized",  # nobody has paid: like a bad key it stays so until an operator acts
    403: "unauthorized",
    404: "not_found",
    408: "provider_error",
    409: "provider_error",
    410: "not_found",
    425: "provider_error",
    429: "rate_limited",
}


def _by_status(status: int) -> ErrorClass:
    if status in _STATUS:
        return _STATUS[status]
    if 400 <= status < 500:
        return "invalid_request"
    return "provider_error" if status >= 500 else "bad_response"


_SECRET = re.compile(r"(?i)\b(?:bearer|basic|api-key)\s+\S{6,}|\bsk-[\w*.-]{4,}|\beyJ[\w.-]{10,}")


def _short(text: str, secrets: Sequence[str]) -> str:
    """One line without the secrets we sent, or what looks like one, cut to a length that fits a record."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(_SECRET.sub("***", text[: 10 * MAX_MESSAGE_CHARS]).split())
    text = "".join(char for char in text if char.isprintable())
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait: `retry-after-ms`, else `retry-after` as seconds or as an HTTP date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
