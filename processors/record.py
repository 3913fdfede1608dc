"""A record of the journal, as its folds take it."""

from typing import NamedTuple

from processors.events import Event


class Record(NamedTuple):
    """An event as it stands in a partition of the journal; `time_ms` is its append time in ms of Unix time."""

    offset: int
    time_ms: int
    event: Event
