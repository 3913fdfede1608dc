"""Which ends of growing texts a classifier is to look at, and when."""

from typing import NamedTuple

import msgspec

from processors.events import Kind

_MOST_PIECES = 16


class Window(NamedTuple):
    """The end of a text, `at` characters into it, to be scored. When it was asked for, the first `after` characters had
    been looked at: who leaves out older windows must leave out nothing behind them."""

    id: str
    tenant: str
    run: str
    kind: Kind
    choice: int
    at: int
    text: str
    after: int = 0

    @property
    def begin(self) -> int:
        """How many characters into the text it begins."""
        return self.at - len(self.text)


class TailState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tail's state as part of a snapshot."""

    text: str = ""
    seen: int = 0
    asked: int = 0
    scored: int = 0


class Tail:
    """The end of one text, to be scored after every `stride` of its characters, however it is cut into pieces. `wider`
    is how much of it others want to see."""

    __slots__ = ("_due", "_kept", "_pieces", "_stride", "asked", "scored", "seen", "window")

    def __init__(self, window: int, stride: int, state: TailState | None = None, wider: int = 0) -> None:
        self.window, self._stride = window, stride
        self._kept = max(window, wider)
        self._pieces: list[str] = [state.text] if state else []
        self.seen = state.seen if state else 0
        """Characters so far."""
        self.asked = state.asked if state else 0
        """Up to where it was to be scored."""
        self.scored = state.scored if state else 0
        """Up to where scores have come."""
        self._due = self.asked + stride

    def feed(self, piece: str) -> str | None:
        """Add a piece, as far as the text is to be scored next. Returns what is left of it if it goes so far: `ask`
        first, then feed that."""
        left = None
        if len(piece) >= self._due - self.seen:
            piece, left = piece[: self._due - self.seen], piece[self._due - self.seen :]
        self._pieces.append(piece)
        self.seen += len(piece)
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [self.whole]
        return left

    def ask(self) -> None:
        """It is to be scored now, due or not."""
        self.asked = self.seen
        self._due = self.seen + self._stride

    @property
    def text(self) -> str:
        """The text's end, a window long."""
        return self.whole[-self.window :]

    @property
    def whole(self) -> str:
        """All of it that is kept."""
        return "".join(self._pieces)[-self._kept :]

    def snapshot(self) -> TailState:
        """The state, for a new tail to begin with."""
        return TailState(self.whole, self.seen, self.asked, self.scored)
