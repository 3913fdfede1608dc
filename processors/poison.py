"""Records that kill the process: who is suspected, and who is passed over.

A stage marks the records that it is about to take, and takes the mark away when it has taken them. The mark that a
process leaves behind when it dies names those in which it died: the next one takes them one by one, each with a mark
of its own. Who dies from outside leaves marks, too. So a record is passed over only when two processes have died while
the mark stood on that record alone.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from processors.codec import BadRecord

TWICE = 2
REMEMBERED = 100
"""How many records that were passed over are known; a stage that starts again may read the newest once more."""


class Fate(Enum):
    """What is to be done with records."""

    TAKE = "take"
    END = "pass over, and end the request"
    BURY = "pass over unread: it kills even the one who ends its request"


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Records of a partition: from offset `first` up to before `end`. `at_ms` is when the first was appended."""

    topic: str
    partition: int
    first: int
    end: int
    at_ms: int

    @property
    def alone(self) -> bool:
        """Whether this is one record."""
        return self.end == self.first + 1

    def meets(self, other: "Span") -> bool:
        """Whether they have records in common."""
        same = (self.topic, self.partition) == (other.topic, other.partition)
        return same and self.first < other.end and other.first < self.end


class Suspects(msgspec.Struct, frozen=True):
    """What earlier processes died in: spans to be taken one by one, and records with how many died at each alone."""

    spans: tuple[Span, ...] = ()
    strikes: tuple[tuple[Span, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.spans or self.strikes)


class Piece(NamedTuple):
    """Records `start` to before `stop` of a batch, to be taken under one mark."""

    start: int
    stop: int
    fate: Fate


def died(suspects: Suspects, mark: Span) -> Suspects:
    """A process has died with this mark standing."""
    if not mark.alone:
        return msgspec.structs.replace(suspects, spans=(*suspects.spans, mark))
    strikes = dict(suspects.strikes)
    strikes[mark] = strikes.pop(mark, 0) + 1
    return msgspec.structs.replace(suspects, strikes=tuple(strikes.items())[-REMEMBERED:])


def survived(suspects: Suspects, taken: Span) -> Suspects:
    """All up to the end of `taken` is dealt with: nothing there is suspected any longer. Who was passed over stays."""
    return Suspects(
        tuple(span for span in suspects.spans if not _behind(span, taken)),
        tuple((item, count) for item, count in suspects.strikes if count >= TWICE or not _behind(item, taken)),
    )


def touches(suspects: Suspects, batch: Span) -> bool:
    """Whether a batch must be cut, or tells that some are no longer suspected."""
    return any(span.meets(batch) or _behind(span, batch) for span in suspects.spans) or any(
        item.meets(batch) or (count < TWICE and _behind(item, batch)) for item, count in suspects.strikes
    )


def cut(suspects: Suspects, batch: Span, places: Sequence[tuple[int, int]]) -> list[Piece]:
    """How to take a batch whose records have these (offset, append time): suspects alone, all others together."""
    spans = [span for span in suspects.spans if span.meets(batch)]
    strikes = {(item.first, item.at_ms): count for item, count in suspects.strikes if item.meets(batch)}
    pieces: list[Piece] = []
    together = 0
    for at, (offset, at_ms) in enumerate(places):
        count = strikes.get((offset, at_ms), 0)
        if count or any(span.first <= offset < span.end for span in spans):
            if together < at:
                pieces.append(Piece(together, at, Fate.TAKE))
            pieces.append(Piece(at, at + 1, _fate(count)))
            together = at + 1
    if together < len(places):
        pieces.append(Piece(together, len(places), Fate.TAKE))
    return pieces


def _behind(span: Span, batch: Span) -> bool:
    return (span.topic, span.partition) == (batch.topic, batch.partition) and span.end <= batch.end


def _fate(strikes: int) -> Fate:
    if strikes < TWICE:
        return Fate.TAKE
    return Fate.END if strikes == TWICE else Fate.BURY


def verdict() -> BadRecord:
    """What its dead letter says."""
    return BadRecord("kills_the_process", "two processes died while they took this record alone")
