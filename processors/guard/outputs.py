"""What the guard's fold gives back: records to write, as data."""

from typing import NamedTuple

import msgspec

from processors.events import Event


class Out(msgspec.Struct, frozen=True, gc=False):
    """An event for a topic, under the request's id. Records of the journal are acknowledged before all others.

    A struct, because one is made for each piece of text, and a NamedTuple takes three times as long to make.
    """

    topic: str
    key: str
    event: Event


class Rejected(NamedTuple):
    """A record of the journal for the dead-letter topic: where it stood, and what is wrong with it.

    `raw` replaces the record's own bytes where something inside it is at fault (a reused id: the request).
    """

    offset: int
    code: str
    message: str
    raw: bytes | None = None
