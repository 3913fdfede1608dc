"""Server-Sent Events, from bytes as they arrive: the WHATWG event-stream format (html.spec.whatwg.org, 9.2.6).

The parser is incremental and its result does not depend on how the bytes were cut. It holds at most one event, up to
a bound. Data stays bytes, for a JSON decoder to read; `retry` has no meaning here and is skipped as unknown fields are.
"""

import msgspec

MAX_EVENT_BYTES = 1 << 20

_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event: its data lines joined by LF, its name, and the last `id` the stream has given."""

    data: bytes
    name: str = "message"
    id: str = ""


class EventTooLarge(Exception):
    """An event outgrew the parser's bound. `events` are those complete before it; the stream cannot be read on."""

    def __init__(self, limit: int, events: list[Event]) -> None:
        super().__init__(f"a server-sent event is larger than {limit} bytes")
        self.events = events


class SseParser:
    """Fed with reads of any size, gives the events they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._head: bytes | None = b""  # what may yet be a byte order mark; None once that is settled
        self._after_cr = False  # an LF that comes next belongs to the CR before it
        self._partial = bytearray()  # a line whose end has not come
        self._data: list[bytes] = []
        self._size = 0  # of `_data`
        self._name = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that end within `data`.

        Raises:
            EventTooLarge: a line, or the data of one event, passes the bound. The parser is of no use afterwards.
        """
        events: list[Event] = []
        for line in self._lines(data):
            if self._size + len(line) > self._max:
                raise EventTooLarge(self._max, events)
            if line:
                self._field(line)
            elif self._data:
                events.append(self._dispatch())
            else:
                self._name = ""
        if self._size + len(self._partial) > self._max:
            raise EventTooLarge(self._max, events)
        return events

    def finish(self) -> Event | None:
        """The event that the end of the stream left unfinished, as if a blank line had followed; None if there is none.

        The standard drops it. It is given so that a caller can be lenient to servers that leave out the blank line.
        """
        if self._partial:
            self._field(bytes(self._partial))
            self._partial.clear()
        return self._dispatch() if self._data else None

    def _lines(self, data: bytes) -> list[bytes]:
        """The lines that end within `data`; what remains is kept. `splitlines` ends bytes at CR, LF and CRLF only."""
        if self._head is not None:
            data = self._without_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        lines = data.splitlines()
        self._after_cr = data.endswith(b"\r")
        rest = b"" if self._after_cr or data.endswith(b"\n") else lines.pop()
        if self._partial and lines:
            lines[0] = bytes(self._partial) + lines[0]
            self._partial.clear()
        self._partial += rest
        return lines

    def _without_bom(self, data: bytes) -> bytes:
        head = (self._head or b"") + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _dispatch(self) -> Event:
        event = Event(b"\n".join(self._data), self._name or "message", self._id)
        self._data.clear()
        self._size = 0
        self._name = ""
        return event
