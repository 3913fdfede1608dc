"""The mark that outlives its process: a mapped file that says which records are being taken.

What is stored into mapped memory is the kernel's, whatever becomes of the process; a mark costs about a microsecond.
"""

import logging
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from processors.poison import Fate, Span, Suspects, cut, died, survived, touches

log = logging.getLogger(__name__)

SIZE = 4096
STANDS = 0
"""The byte that says whether the mark stands; behind it the length (2 bytes) and the span."""

T = TypeVar("T")
Place = Callable[[T], tuple[int, int]]
"""Offset and append time (milliseconds of Unix time) of a record."""


class Marks:
    """The mark of one process, and what its predecessors' marks have told. For one thread, and one batch at a time."""

    def __init__(self, file: Path) -> None:
        """`file` is this worker's own; what is suspected stands beside it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._beside = file.with_suffix(".suspects")
        self._memory = _mapped(file)
        self._encode = msgspec.msgpack.Encoder().encode
        self._suspects = self._remembered()
        left = self._left()
        if left is not None:
            self.clear()  # before it is counted: rather a death too few than one counted twice
            log.warning("the process before died in %s[%d], offsets %d to %d", *_where(left))
            self._suspect(died(self._suspects, left))

    def pieces(
        self, topic: str, partition: int, batch: Sequence[T], place: "Place[T]"
    ) -> Iterator[tuple[Fate, Sequence[T]]]:
        """A batch of one partition in the pieces in which it is to be taken, each marked until the next is asked for.

        An exception that ends the process leaves the mark, as a death does; `clear` it where no record is to blame.
        """
        first, at_ms = place(batch[0])
        whole = Span(topic, partition, first, place(batch[-1])[0] + 1, at_ms)
        if not touches(self._suspects, whole):
            self._stand(whole)
            yield Fate.TAKE, batch
            self.clear()
            return
        places = [place(item) for item in batch]
        for start, stop, fate in cut(self._suspects, whole, places):
            piece = Span(topic, partition, places[start][0], places[stop - 1][0] + 1, places[start][1])
            if fate is not Fate.TAKE:
                log.error("%s[%d]@%d is passed over: it kills the process", topic, partition, piece.first)
            self._stand(piece)
            yield fate, batch[start:stop]
            self.clear()
        self._suspect(survived(self._suspects, whole))

    def clear(self) -> None:
        """Nothing is being taken."""
        self._memory[STANDS] = 0

    def _stand(self, span: Span) -> None:
        written = self._encode(span)
        self._memory[1 : 3 + len(written)] = len(written).to_bytes(2, "big") + written
        self._memory[STANDS] = 1

    def _left(self) -> Span | None:
        if not self._memory[STANDS]:
            return None
        length = int.from_bytes(self._memory[1:3], "big")
        try:
            return msgspec.msgpack.decode(self._memory[3 : 3 + length], type=Span)
        except msgspec.MsgspecError:  # another version's
            return None

    def _remembered(self) -> Suspects:
        try:
            return msgspec.json.decode(self._beside.read_bytes(), type=Suspects)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Suspects()

    def _suspect(self, suspects: Suspects) -> None:
        if suspects == self._suspects:
            return
        self._suspects = suspects
        draft = self._beside.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(suspects))
        draft.replace(self._beside)


def _mapped(file: Path) -> mmap.mmap:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, SIZE)  # else a full disk would kill whoever stores into it
        return mmap.mmap(handle, SIZE)
    finally:
        os.close(handle)


def _where(span: Span) -> tuple[str, int, int, int]:
    return span.topic, span.partition, span.first, span.end - 1
