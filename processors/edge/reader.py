"""One reader's place in one stream: every record once, in order, and a hole never in silence."""

from dataclasses import dataclass
from enum import Enum, auto

from processors.events import End, Opened, Tokens

Released = Tokens | End


class Step(Enum):
    """What a record is to a reader."""

    DELIVER = auto()
    """The next one. The reader has moved past it."""
    SKIP = auto()
    """Seen before, not delivered at all (`opened`), after the end, or of another request."""
    HOLE = auto()
    """Later than the next one. The reader has not moved: tell a gap, `reopen` there, and take it again."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a reader is told in place of records that are no longer there."""

    oldest_seq: int


class Reader:
    """Follows one stream from `next_seq` on. `known` once any record of it was seen, `ended` once its end was."""

    __slots__ = ("ended", "id", "known", "next_seq", "tenant")

    def __init__(self, request_id: str, tenant: str, next_seq: int = 0) -> None:
        self.id = request_id
        self.tenant = tenant
        self.next_seq = next_seq
        self.known = False
        self.ended = False

    def take(self, event: Opened | Released) -> Step:
        """Judge the next record of the log, which may repeat earlier ones (the guard writes anew after a crash)."""
        if event.id != self.id or event.tenant != self.tenant:
            return Step.SKIP
        self.known = True
        if isinstance(event, Opened) or self.ended:
            return Step.SKIP
        if event.seq > self.next_seq:
            return Step.HOLE
        # An end before the reader's place: it asked for what will never come.
        self.ended = isinstance(event, End)
        if event.seq < self.next_seq:
            return Step.SKIP
        self.next_seq += 1
        return Step.DELIVER

    def reopen(self, seq: int) -> Gap:
        """Go on from `seq` although records before it are missing; the gap must be told.

        Raises:
            ValueError: nothing is missing before `seq`.
        """
        if seq <= self.next_seq:
            raise ValueError(f"no gap between {self.next_seq} and {seq}")
        self.next_seq = seq
        return Gap(seq)
