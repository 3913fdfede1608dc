"""A record of the journal, as its folds take it."""

import msgspec

from processors.events import Event


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event as it stands in a partition of the journal; `time_ms` is its append time in ms of Unix time."""

    offset: int
    time_ms: int
    event: Event
