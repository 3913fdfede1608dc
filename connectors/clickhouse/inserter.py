"""Inserts in a thread of their own, repeated until ClickHouse takes them."""

import logging
import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from connectors.clickhouse.client import ClickHouse, ClickHouseFailed

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Insert(NamedTuple):
    """Columns for one table."""

    table: str
    names: Sequence[str]
    types: Sequence[str]
    columns: Sequence[Sequence[object]]


class Insertion:
    """Inserts under way under one token."""

    def __init__(self, inserts: Iterable[Insert], token: str) -> None:
        self.inserts, self.token = inserts, token
        self.abandoned = threading.Event()
        """Set when nobody wants them any more. What is on its way to ClickHouse may still arrive."""
        self._ended = threading.Event()
        self._error: Exception | None = None

    def wait(self, timeout_s: float = 0.0) -> bool:
        """Whether all of it is in ClickHouse, after `timeout_s` at most.

        Raises:
            Exception: what a fault of ours raised in the thread.
        """
        ended = self._ended.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return ended and not self.abandoned.is_set()

    def run(self, house: ClickHouse) -> None:
        """In the thread: insert everything, however long it takes."""
        try:
            for insert in self.inserts:
                self._insert(house, insert)
        except Exception as error:  # to be raised where it is awaited
            self._error = error
        self._ended.set()

    def _insert(self, house: ClickHouse, insert: Insert) -> None:
        pause_s = FIRST_PAUSE_S
        while not self.abandoned.is_set():
            try:
                house.insert(*insert, self.token)
                return
            except ClickHouseFailed as error:
                log.warning("%s: %s; again in %s s", insert.table, error, pause_s)
                self.abandoned.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Inserter:
    """One insertion after the other. The thread does not keep a process from ending."""

    def __init__(self, house: ClickHouse) -> None:
        self._house = house
        self._queue: SimpleQueue[Insertion | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inserter", daemon=True)
        self._thread.start()

    def begin(self, inserts: Iterable[Insert], token: str) -> Insertion:
        """Insert these, in order, each under `token`; `inserts` is drawn from in the thread."""
        insertion = Insertion(inserts, token)
        self._queue.put(insertion)
        return insertion

    def close(self, timeout_s: float = 0.5) -> None:
        """End the thread; one that waits for an answer is left behind after `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (insertion := self._queue.get()) is not None:
            insertion.run(self._house)
        self._house.close()
