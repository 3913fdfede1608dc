"""Which ends of growing texts a classifier is to look at, and when."""

from typing import NamedTuple

import msgspec

from processors.events import Kind

_MOST_PIECES = 64


class Window(NamedTuple):
    """The end of a text, `at` characters into it, to be scored."""

    id: str
    tenant: str
    run: str
    kind: Kind
    choice: int
    at: int
    text: str


class TailState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tail's state as part of a snapshot."""

    text: str = ""
    seen: int = 0
    due: int = 0


class Tail:
    """The end of one text: due whenever another `stride` of characters has come."""

    __slots__ = ("_due", "_pieces", "_stride", "_window", "seen")

    def __init__(self, window: int, stride: int, state: TailState | None = None) -> None:
        self._window, self._stride = window, stride
        self._pieces: list[str] = [state.text] if state else []
        self.seen = state.seen if state else 0
        """Characters so far."""
        self._due = state.due if state else stride

    def feed(self, piece: str) -> bool:
        """Add a piece; whether the text is to be scored now."""
        self._pieces.append(piece)
        self.seen += len(piece)
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [self.text]
        if self.seen < self._due:
            return False
        self._due = self.seen + self._stride
        return True

    @property
    def text(self) -> str:
        """The text's end, a window long."""
        return "".join(self._pieces)[-self._window :]

    def snapshot(self) -> TailState:
        """The state, for a new tail to begin with."""
        return TailState(self.text, self.seen, self._due)
