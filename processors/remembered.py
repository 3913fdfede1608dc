"""What is known of closed requests, for as long as a repeat of them may still come."""

from typing import Generic, TypeVar

from processors.identity import uuid7_time

REMEMBER_MS = 15 * 60 * 1000
"""How long after an id's own time its request is remembered. No decision for it counts after that."""

T = TypeVar("T")


class Remembered(Generic[T]):
    """Facts by request id, forgotten 15 minutes of journal time after the id's own time."""

    def __init__(self) -> None:
        self._facts: dict[str, T] = {}

    def get(self, request_id: str) -> T | None:
        """The fact, if it is remembered."""
        return self._facts.get(request_id)

    def pop(self, request_id: str) -> T | None:
        """Take the fact out."""
        return self._facts.pop(request_id, None)

    def keep(self, request_id: str, fact: T) -> T:
        """Remember `fact` unless one is known already; returns the one that counts."""
        return self._facts.setdefault(request_id, fact)

    def replace(self, request_id: str, fact: T) -> None:
        """Remember `fact` in the place of any other."""
        self._facts[request_id] = fact

    def values(self) -> list[T]:
        """All that is remembered."""
        return list(self._facts.values())

    def forget(self, now_ms: float) -> None:
        """Drop what is too old. Ids come roughly in the order of their time, so the oldest stand first."""
        while self._facts:
            oldest = next(iter(self._facts))
            if not too_old(oldest, now_ms):
                return
            del self._facts[oldest]


def too_old(request_id: str, now_ms: float) -> bool:
    """Whether a decision for this id no longer counts."""
    return now_ms > uuid7_time(request_id).timestamp() * 1000 + REMEMBER_MS
