"""A row of labelled data: one JSON object a line, with `id`, `text`, `label`, `lang`, `source` and `meta`."""

from typing import Any, Final, Literal, NamedTuple

import msgspec
import orjson

from processors.errors import Invalid, convert
from processors.guard.messages import Language, language_of

Task = Literal["moderation", "pii", "loops", "early-stop"]

_HARM = ("toxic", "harmful", "harmful_request", "attack", "violating", "unsafe", "positive")
_LOOPS = ("degenerate", "loop")
_CLEAN = ("clean", "safe", "benign", "compliant", "none", "negative", "request", "gsm8k", "mmlu")
"""The last three are ordinary requests: a bank's customers, sums, questions of exams."""

LABELS: Final[dict[Task, dict[str, bool]]] = {
    "moderation": dict.fromkeys(_HARM, True) | dict.fromkeys(_CLEAN, False),
    "early-stop": dict.fromkeys(_HARM, True) | dict.fromkeys(_CLEAN, False),
    "loops": dict.fromkeys(_LOOPS, True) | dict.fromkeys(_CLEAN, False),
}
"""Whether a row of this label is what the task looks for. Personal data is told by spans, not by labels."""


class TrueSpan(NamedTuple):
    """Personal data in a text: its characters `start` to `end` (exclusive) and the file's name of its type."""

    start: int
    end: int
    type: str


class Row(NamedTuple):
    """A checked row. `positive` is what its label says; for personal data, whether it has any span."""

    id: str
    text: str
    label: str
    positive: bool
    lang: str
    source: str
    spans: tuple[TrueSpan, ...]

    @property
    def language(self) -> Language:
        """As the guard would tell it by the letters, of the request to which this is the answer."""
        cyrillic = sum("\u0400" <= character <= "\u04ff" for character in self.text)
        return language_of(cyrillic, len(self.text) - cyrillic)


class _Span(msgspec.Struct):
    start: int
    end: int
    type: str
    value: str | None = None


class _Line(msgspec.Struct):
    id: str | int
    text: str
    label: str | int | None = None
    lang: str | None = None
    source: str | None = None
    meta: Any = None


def read_row(line: bytes, task: Task) -> Row:
    """A row from its line.

    Raises:
        Invalid: with the field at fault: it is no JSON, lacks something, has a label that the task does not know, or
            spans that do not fit the text.
    """
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Invalid("", f"is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise Invalid("", "must be a JSON object with id, text and label")
    parsed = convert(data, _Line)
    if not parsed.text:
        raise Invalid("text", "is empty; a row without a text has nothing to judge")
    spans = _spans(parsed) if task == "pii" else ()
    return Row(
        id=str(parsed.id),
        text=parsed.text,
        label="" if parsed.label is None else str(parsed.label),
        positive=bool(spans) if task == "pii" else _positive(parsed.label, task),
        lang=parsed.lang or "unknown",
        source=parsed.source or "unknown",
        spans=spans,
    )


def _positive(label: str | int | None, task: Task) -> bool:
    if label is None:
        raise Invalid("label", "is missing")
    known = LABELS[task]
    found = known.get(str(label).strip().casefold())
    if found is None:
        raise Invalid("label", f"{label!r} is not known to {task}; known are {', '.join(known)}")
    return found


def _spans(line: _Line) -> tuple[TrueSpan, ...]:
    given = line.meta.get("spans") if isinstance(line.meta, dict) else None
    if given is None:
        raise Invalid("meta.spans", "is missing; a text without personal data has an empty list")
    spans = convert(given, list[_Span], "meta.spans")
    for index, span in enumerate(spans):
        at = f"meta.spans[{index}]"
        if not 0 <= span.start < span.end <= len(line.text):
            raise Invalid(at, f"{span.start} to {span.end} is no part of a text of {len(line.text)} characters")
        there = line.text[span.start : span.end]
        if span.value is not None and span.value != there:
            raise Invalid(at, f"its value is {span.value[:40]!r}, but {there[:40]!r} stands there; count characters")
    return tuple(TrueSpan(span.start, span.end, span.type) for span in spans)
