"""What the simulated provider does for a request: read from the model's name, decided without I/O.

`name?key=value&key=value` names a behaviour and its options; every behaviour takes every option. The model `script`
takes both from the last user message: `{"simulate": {"deltas": [...], ...options}}`.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec

from connectors.simulated.texts import REFUSAL, STORY, STORY_RU, THOUGHTS, cut
from processors.errors import Invalid, convert

Fault = Literal[
    "close", "reset", "torn", "hang", "error", "malformed", "no-finish", "no-done", "garbage", "html", "redirect"
]
Delta = dict[str, Any]

NOW = object()
"""As a delta's text: the time at which it is written, in nanoseconds of `time.monotonic`."""
ENDLESS_WHOLE = 1000
"""Deltas of an endless answer that was not asked for as a stream."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the answer comes. Times in milliseconds."""

    n: int | None = None
    """How many deltas; for the `…-after` behaviours, how many before the fault."""
    text: str | None = None
    """What `say` says."""
    deltas: tuple[str | Delta, ...] | None = None
    """What `script` says: texts, or deltas as they go on the wire."""
    first_ms: float = 0
    """Until the first delta."""
    pace_ms: float = 0
    """Between two deltas."""
    fault: Fault | None = None
    after: int | None = None
    """Deltas before the fault; without it all of them. -1: before the head of the answer."""
    status: int = 200
    retry_after: float | None = None
    """Seconds, with an error status."""
    finish_reason: str | None = None
    usage: Literal["own", "last", "every", "none"] = "own"
    """Where usage stands: on a chunk of its own (as OpenAI has it, where asked for), on the last, on every one."""
    error: Literal["openai", "dashscope"] = "openai"
    """The shape of an error inside the stream."""
    whole: bool = False
    """Answer whole although a stream was asked for."""
    cut: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Bytes a write; 0: a delta is one write."""
    gap_ms: float = 0
    """Between two writes of a cut delta."""
    crlf: bool = False
    bom: bool = False
    gzip: bool = False
    comments: bool = False
    """A comment before each delta."""
    mb: float = 100
    """Of `garbage`."""
    char: Annotated[str, msgspec.Meta(pattern="^[!-~]$")] = "x"
    """What `garbage` repeats: a brace looks like the beginning of a whole answer."""


class Script(msgspec.Struct, frozen=True):
    """An answer to be played. `deltas` can be read once and may have no end; at `limit` of them it is cut short."""

    deltas: Iterable[Delta]
    finish_reason: str
    options: Options
    limit: int | None = None


class UnknownModel(Exception):
    """No behaviour has this name."""


def script(request: dict[str, Any]) -> Script:
    """What to do for a chat completion request.

    Raises:
        UnknownModel: the model's name is no behaviour.
        Invalid: an option is unknown or has a wrong value; the path names it.
    """
    name, options = _options(str(request.get("model")), request)
    behaviour = BEHAVIOURS.get(name) or (_fail if _is_failure(name) else None)
    if behaviour is None:
        raise UnknownModel(name)
    played = behaviour(name, options, request)
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    return msgspec.structs.replace(
        played,
        finish_reason=options.finish_reason or played.finish_reason,
        limit=limit if isinstance(limit, int) else None,
    )


def _options(model: str, request: dict[str, Any]) -> tuple[str, Options]:
    name, _, query = model.partition("?")
    given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if name == "script":
        try:
            given |= msgspec.json.decode(last_user_text(request))["simulate"]
        except (msgspec.DecodeError, TypeError, KeyError):
            raise Invalid("messages", 'model `script` wants {"simulate": {...}} as the last user message') from None
        return name, convert(given, Options, "simulate")
    try:
        return name, msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid("model", str(error)) from None


def last_user_text(request: dict[str, Any]) -> str:
    """The text of the last user message, the texts of its parts joined."""
    for message in reversed(request.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content") or ""
            if isinstance(content, str):
                return content
            return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return ""


def _say(text: str, options: Options) -> Script:
    return Script(({"content": piece} for piece in islice(cut(text), options.n)), "stop", options)


def _scripted(_: str, options: Options, __: dict[str, Any]) -> Script:
    deltas = options.deltas or ()
    return Script((d if isinstance(d, dict) else {"content": d} for d in deltas), "stop", options)


def _numbers(options: Options) -> Script:
    return Script(({"content": f"{number} "} for number in range(1, (options.n or 64) + 1)), "stop", options)


def _clock(_: str, options: Options, __: dict[str, Any]) -> Script:
    return Script(({"content": NOW} for _ in range(options.n or 64)), "stop", options)


def _endless(_: str, options: Options, __: dict[str, Any]) -> Script:
    return Script(({"content": f"{number} "} for number in count(1)), "stop", options)


def _tool_call(_: str, options: Options, request: dict[str, Any]) -> Script:
    """Calls the request's first tool, or one of its own, with the last user message as argument."""
    tools = request.get("tools") or [{"function": {"name": "look_up"}}]
    name = str((tools[0].get("function") or {}).get("name"))
    return Script(_call_deltas(name, last_user_text(request)), "tool_calls", options)


def _call_deltas(name: str, argument: str) -> Iterator[Delta]:
    first = {"index": 0, "id": "call_sim_1", "type": "function", "function": {"name": name, "arguments": ""}}
    yield {"tool_calls": [first]}
    arguments = msgspec.json.encode({"query": argument}).decode()
    for start in range(0, len(arguments), 6):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[start : start + 6]}}]}


def _reasoning(_: str, options: Options, __: dict[str, Any]) -> Script:
    thoughts = [{"reasoning_content": piece} for piece in cut(THOUGHTS)]
    return Script(thoughts + [{"content": piece} for piece in cut(STORY)], "stop", options)


def _refusal(_: str, options: Options, __: dict[str, Any]) -> Script:
    return Script([{"refusal": piece} for piece in cut(REFUSAL)], "stop", options)


def _is_failure(name: str) -> bool:
    return name.startswith("fail-") and name[5:].isdigit() and 400 <= int(name[5:]) <= 599


def _fail(name: str, options: Options, _: dict[str, Any]) -> Script:
    return Script((), "stop", msgspec.structs.replace(options, status=int(name[5:])))


Behaviour = Callable[[str, Options, dict[str, Any]], Script]


def _before(fault: Fault) -> Behaviour:
    """The fault comes instead of an answer."""
    return lambda _, options, __: Script((), "stop", msgspec.structs.replace(options, fault=fault, after=-1))


def _after(fault: Fault) -> Behaviour:
    """The fault comes after `n` deltas (3)."""

    def play(_: str, options: Options, __: dict[str, Any]) -> Script:
        n = 3 if options.n is None else options.n
        options = msgspec.structs.replace(options, fault=fault, after=n, n=max(n, 1))
        return _numbers(options)

    return play


def _story(text: str, **defaults: Any) -> Behaviour:
    """A text; an option at its default takes the behaviour's own default."""

    def play(_: str, options: Options, __: dict[str, Any]) -> Script:
        own = {name: value for name, value in defaults.items() if not getattr(options, name)}
        return _say(text, msgspec.structs.replace(options, **own))

    return play


BEHAVIOURS: dict[str, Behaviour] = {
    "echo": lambda _, options, request: _say(last_user_text(request), options),
    "say": lambda _, options, __: _say(options.text or "", options),
    "script": _scripted,
    "story": _story(STORY),
    "story-ru": _story(STORY_RU),
    "numbers": lambda _, options, __: _numbers(options),
    "endless": _endless,
    "clock": _clock,
    "reasoning": _reasoning,
    "refusal": _refusal,
    "tool-call": _tool_call,
    "slow": _story(STORY, first_ms=2000),
    "trickle": _story(STORY, cut=1, gap_ms=1),
    "no-done": _story(STORY, fault="no-done"),
    "hang": _before("hang"),
    "die-before": _before("close"),
    "reset": _before("reset"),
    "html": _before("html"),
    "redirect": _before("redirect"),
    "garbage": _before("garbage"),
    "hang-after": _after("hang"),
    "die-after": _after("close"),
    "reset-after": _after("reset"),
    "torn-after": _after("torn"),
    "error-after": _after("error"),
    "malformed-after": _after("malformed"),
    "no-finish": _after("no-finish"),
}
"""By name; besides these `fail-NNN` answers with that HTTP status."""
