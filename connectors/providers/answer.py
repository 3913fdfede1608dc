"""A 200 answer's body, from bytes as they arrive: a stream of events, or a whole answer though a stream was asked for.

Which one it is the first bytes say, because content types are not to be relied on.
"""

from connectors.providers.wire import Wire
from processors.dispatch.openai import Progress
from processors.events import AnswerPart, RunError
from processors.sse import Event, EventTooLarge, SseParser

MAX_WHOLE_BYTES = 8 << 20
MAX_BLANK_BYTES = 1024
"""Of white space before anything else."""

_BOM = b"\xef\xbb\xbf"


class AnswerReader:
    """Bytes in, parts out; what else the answer says stands in `progress`."""

    def __init__(self, wire: Wire, progress: Progress) -> None:
        self.progress = progress
        self._wire = wire
        self._parser: SseParser | None = None
        self._body = bytearray()  # until the kind of answer is known; all of a whole answer

    @property
    def over(self) -> bool:
        """Nothing that counts can follow."""
        return self.progress.done or self.progress.error is not None

    def feed(self, data: bytes) -> list[AnswerPart]:
        """The text that `data` completes."""
        if self._parser is not None:
            return self._events(self._parser, data)
        self._body += data
        start = self._body[:MAX_BLANK_BYTES].lstrip(_BOM + b" \t\r\n")[:1]
        if start == b"<":
            self.bad("the provider answered with an HTML page")
        elif start == b"{":
            if len(self._body) > MAX_WHOLE_BYTES:
                self.bad(f"the provider's answer is larger than {MAX_WHOLE_BYTES} bytes")
        elif start or len(self._body) >= MAX_BLANK_BYTES:
            self._parser = SseParser()
            return self._events(self._parser, bytes(self._body))
        return []

    def finish(self) -> list[AnswerPart]:
        """The body has ended: what stood unfinished counts if it can be read, and else was cut off."""
        if self._parser is None:
            return self._wire.read_event(self.progress, Event(bytes(self._body).removeprefix(_BOM)))
        left = self._parser.finish()
        if left is None:
            return []
        parts = self._wire.read_event(self.progress, left)
        if self.progress.error is not None and self.progress.error.kind == "bad_response":
            self.progress.error = None
        return parts

    def bad(self, message: str) -> None:
        """The answer cannot be read. An error that it stated itself counts more."""
        if self.progress.error is None:
            self.progress.error = RunError("bad_response", message)

    def _events(self, parser: SseParser, data: bytes) -> list[AnswerPart]:
        """What the completed events say; those before one that is too large still count."""
        too_large = None
        try:
            events = parser.feed(data)
        except EventTooLarge as error:
            events, too_large = error.events, str(error)
        parts: list[AnswerPart] = []
        for event in events:
            parts += self._wire.read_event(self.progress, event)
        if too_large and not self.progress.done:
            self.bad(too_large)
        return parts
