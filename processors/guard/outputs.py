"""What the guard's fold gives back: records to write, as data."""

from typing import NamedTuple

from processors.events import Event


class Out(NamedTuple):
    """An event for a topic, under the request's id. Records of the journal are acknowledged before all others."""

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
