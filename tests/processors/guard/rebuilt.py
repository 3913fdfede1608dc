"""A guard of one partition that can be killed and rebuilt, under rules of every kind."""

from functools import cache

from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective, VersionedPolicy
from processors.record import Record
from tests.processors.guard.disguises import CATEGORIES, RULES
from tests.samples import PARTITIONS, policy


@cache
def a_policy(hold: str) -> VersionedPolicy:
    limits = {"max_output_tokens": 100_000, "chars_per_token": {"en": 4, "ru": 3}}
    return policy(rules=RULES, categories=CATEGORIES, moderation={"hold": hold}, limits=limits)


@cache
def compiled(hold: str) -> tuple[Effective, CompiledRules]:
    found = a_policy(hold).effective("demo")
    assert found is not None
    return found, CompiledRules(found)


class Snapshots:
    """The topic, and a guard that can be killed."""

    def __init__(self, hold: str, all_records: list[Record]) -> None:
        self._hold, self._records = hold, all_records
        self._kept: dict[str, bytes] = {}
        self._position = self._committed = 0
        self._fold = self._new()
        self.written: list[Out] = []

    def step(self, count: int, before: int, killed: bool) -> None:
        """Fold some records; then commit, with what was open since `before` kept, or be killed and rebuilt."""
        self.written += self._fold.fold(self._records[self._position : self._position + count])[0]
        self._position = min(self._position + count, len(self._records))
        if killed:
            self._position, self._fold = self._committed, self._new()
            for key, value in self._kept.items():
                self._fold.restore(key, value)
            return
        items = self._fold.to_keep(before)
        for item in items:
            if item.value is None:
                self._kept.pop(item.key, None)
            else:
                self._kept[item.key] = item.value
        self._fold.kept(items)
        self._committed = self._fold.floor(self._position)

    def finish(self) -> list[Out]:
        """All that was written, repeats included."""
        self.written += self._fold.fold(self._records[self._position :])[0]
        return self.written

    def _new(self) -> PartitionFold:
        return PartitionFold(0, PARTITIONS, lambda *_: compiled(self._hold))
