"""Whether a request can be served at all: the checks beyond types, in the same words for HTTP and for Kafka.

The edge answers a `RequestRejected` at once; admission turns it into a decision, so a Kafka client finds the same
status, code, field and message in its stream's end.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from processors.errors import path_and_fix
from processors.events import Message, Request

MAX_AHEAD = timedelta(minutes=10)
MAX_STOP = 4
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512
MAX_LABEL = 512
"""Characters of `user`, `session`, `client_request_id` and `key`."""
MAX_PART_TYPE = 64
MAX_DEADLINE_S = 86_400.0
INT32, INT64 = 1 << 31, 1 << 63

UNSUPPORTED = frozenset(
    (
        "audio", "function_call", "functions", "logit_bias", "logprobs", "modalities", "prediction",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "top_logprobs",
        "verbosity", "web_search_options",
    )
)  # fmt: skip
"""Parameters of OpenAI's that are not built here. Refused by name, never dropped."""

_decoder = msgspec.json.Decoder(Request)


class RequestRejected(Exception):
    """A request that cannot be served: HTTP status, OpenAI error code, the field at fault, and how to mend it."""

    def __init__(self, status: int, code: str, param: str | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.param = param
        self.message = message


def read_request(value: bytes, now: datetime) -> Request:
    """The request in `value`, checked; `now` (with a time zone) is when it was submitted or appended.

    Raises:
        RequestRejected: whatever is wrong with it; nothing else, whatever the bytes are.
    """
    request = _decode(value)
    for check in _CHECKS:
        check(request)
    _check_expiry(request.expires_at, now)
    return request


def text_parts(request: Request) -> tuple[list[str], tuple[str, ...]]:
    """The text of each message to screen, in order, and the sorted types of message parts that no rule can read.

    Screened are contents, text and refusal parts, and the arguments of earlier tool calls: whatever the model reads
    as the conversation's text.
    """
    texts: list[str] = []
    unscreened: set[str] = set()
    for message in request.messages:
        parts = list(_parts(message))
        unscreened.update(kind for kind, text in parts if text is None)
        # Together, because a provider joins them: a phrase may begin in one part and end in the next.
        readable = [text for _, text in parts if text is not None]
        if readable:
            texts.append("\n".join(readable))
    return texts, tuple(sorted(unscreened))


def _parts(message: Message) -> Iterator[tuple[str, str | None]]:
    if isinstance(message.content, str):
        yield "text", message.content
    else:
        for part in message.content or ():
            kind = part["type"]
            yield kind, part[kind] if kind in ("text", "refusal") else None
    for call in message.tool_calls or ():
        function = call.get("function")
        arguments = function.get("arguments") if isinstance(function, dict) else None
        yield "tool_call", arguments if isinstance(arguments, str) else None


def _decode(value: bytes) -> Request:
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise _type_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRejected(400, "invalid_json", None, f"the request is not valid JSON: {error}") from None
    except RecursionError:
        raise RequestRejected(400, "invalid_json", None, "the request is nested too deeply") from None


def _type_error(message: str) -> RequestRejected:
    path, fix = path_and_fix(message)
    if fix == "is not known here":
        return _unknown(path)
    if fix == "is missing":
        return RequestRejected(400, "missing_required_parameter", path, f"`{path}` is missing; it is required")
    if not path:
        return RequestRejected(400, "invalid_type", None, f"the request must be a JSON object: {fix}")
    return RequestRejected(400, "invalid_type", path, f"`{path}` has the wrong type or value: {fix}")


def _unknown(path: str) -> RequestRejected:
    if path in UNSUPPORTED:
        return RequestRejected(400, "unsupported_parameter", path, f"`{path}` is not supported here; leave it out")
    return RequestRejected(400, "unknown_parameter", path, f"`{path}` is not a parameter known here; leave it out")


def _invalid(param: str, fix: str) -> RequestRejected:
    return RequestRejected(400, "invalid_value", param, f"`{param}` {fix}")


def _check_model(request: Request) -> None:
    if not request.model.strip():
        raise _invalid("model", "is empty; name a model that GET /v1/models lists")


def _check_messages(request: Request) -> None:
    if not request.messages:
        raise _invalid("messages", "is empty; give at least one message")
    for index, message in enumerate(request.messages):
        _check_message(message, f"messages[{index}]")


def _check_message(message: Message, path: str) -> None:
    if message.content is None and not message.tool_calls:
        raise _invalid(f"{path}.content", "is missing; a message has content or tool_calls")
    if isinstance(message.content, list):
        if not message.content and not message.tool_calls:
            raise _invalid(f"{path}.content", "is empty; give a string or at least one part")
        for index, part in enumerate(message.content):
            _check_part(part, f"{path}.content[{index}]")


def _check_part(part: dict[str, Any], path: str) -> None:
    kind = part.get("type")
    if not isinstance(kind, str) or not kind:
        raise _invalid(f"{path}.type", 'is missing; a content part names its type, as in {"type": "text"}')
    if len(kind) > MAX_PART_TYPE:
        raise _invalid(f"{path}.type", f"is longer than {MAX_PART_TYPE} characters")
    if kind in ("text", "refusal") and not isinstance(part.get(kind), str):
        raise _invalid(f"{path}.{kind}", f"must be a string in a part of type {kind}")


def _check_sampling(request: Request) -> None:
    _between(request.temperature, 0, 2, "temperature")
    _between(request.top_p, 0, 1, "top_p")
    _between(request.presence_penalty, -2, 2, "presence_penalty")
    _between(request.frequency_penalty, -2, 2, "frequency_penalty")
    if request.seed is not None and not -INT64 <= request.seed < INT64:
        raise _invalid("seed", "must fit 64 bits")


def _between(value: float | None, low: float, high: float, param: str) -> None:
    if value is not None and not low <= value <= high:
        raise _invalid(param, f"must lie between {low} and {high}")


def _check_amounts(request: Request) -> None:
    for param in ("max_tokens", "max_completion_tokens"):
        value = getattr(request, param)
        if value is not None and not 0 < value < INT32:
            raise _invalid(param, f"must lie between 1 and {INT32 - 1}")
    if request.n not in (None, 1):
        raise RequestRejected(400, "unsupported_value", "n", "`n` must be 1: one answer a request is supported")
    if isinstance(request.stop, list) and len(request.stop) > MAX_STOP:
        raise _invalid("stop", f"has {len(request.stop)} sequences; give at most {MAX_STOP}")
    if request.deadline_s is not None and not 0 < request.deadline_s <= MAX_DEADLINE_S:
        raise _invalid("deadline_s", f"must be more than 0 and at most {MAX_DEADLINE_S:.0f} seconds")


def _check_labels(request: Request) -> None:
    for param in ("user", "session", "client_request_id", "key"):
        if len(getattr(request, param) or "") > MAX_LABEL:
            raise _invalid(param, f"is longer than {MAX_LABEL} characters")
    metadata = request.metadata or {}
    if len(metadata) > MAX_METADATA:
        raise _invalid("metadata", f"has {len(metadata)} pairs; give at most {MAX_METADATA}")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY:
            raise _invalid("metadata", f"has a key longer than {MAX_METADATA_KEY} characters: {key[:20]!r}…")
        if len(value) > MAX_METADATA_VALUE:
            raise _invalid(f"metadata.{key}", f"is longer than {MAX_METADATA_VALUE} characters")


def _check_stream_options(request: Request) -> None:
    for name, value in (request.stream_options or {}).items():
        if name != "include_usage":
            raise _unsupported_option(name)
        if value is not None and not isinstance(value, bool):
            raise _invalid("stream_options.include_usage", "must be true or false")


def _unsupported_option(name: str) -> RequestRejected:
    param = f"stream_options.{name}"
    return RequestRejected(
        400, "unsupported_parameter", param, f"`{param}` is not supported here; only include_usage is"
    )


def _check_expiry(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise _invalid("expires_at", "has no time zone; write it as 2026-01-31T12:00:00Z")
    if expires_at - now > MAX_AHEAD:
        raise _invalid("expires_at", "lies more than 10 minutes ahead")


_CHECKS: tuple[Callable[[Request], None], ...] = (
    _check_model,
    _check_messages,
    _check_sampling,
    _check_amounts,
    _check_labels,
    _check_stream_options,
)
