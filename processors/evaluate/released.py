"""Which characters of a text its reader got: told by what was released, not by what verdicts say of it."""

import re
from collections.abc import Iterable

from processors.events import Verdict

Spans = list[tuple[int, int]]
_PLACEHOLDER = re.compile(r"\[\w+_\d+\]")


def released(given: str, verdicts: Iterable[Verdict]) -> Spans:
    """The parts of a provider's text of which the reader got `given`, in which placeholders stand for masks.

    A release is a beginning of the text with its masks cut out, so it is enough to lay the one beside the other.
    """
    spans: Spans = []
    at = read = 0
    for start, end in sorted(verdict.span for verdict in verdicts if verdict.action == "mask"):
        if start >= at:
            free = min(start - at, len(given) - read)
            spans.append((at, at + free))
            read += free
            if read == len(given):
                return spans
            mark = _PLACEHOLDER.match(given, read)  # a long mask that goes on has none of its own
            read = mark.end() if mark else read
        at = max(at, end)
    return [*spans, (at, at + len(given) - read)]


def within(spans: Spans, start: int, end: int) -> int:
    """How many of the characters `start` to `end` (exclusive) lie in these parts."""
    return sum(max(0, min(end, there) - max(start, here)) for here, there in spans)
