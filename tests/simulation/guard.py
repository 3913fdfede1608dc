"""The guard in a simulated history: what streams/guard.py does around the fold, in the same order."""

import contextlib
from functools import lru_cache

from processors.guard.fold import PartitionFold
from processors.guard.keep import Kept
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from processors.record import Record
from tests.simulation.log import PARTITIONS, Entry, Fenced, event_of
from tests.simulation.policy import POLICY
from tests.simulation.worker import Worker


@lru_cache(maxsize=8)
def effective(version: str, tenant: str) -> tuple[Effective, CompiledRules]:
    """What a tenant lives under; compiled once for all histories."""
    found = POLICY.effective(tenant)
    assert version == POLICY.version
    assert found is not None
    return found, CompiledRules(found)


def new_fold(number: int) -> PartitionFold:
    """A fold that knows nothing yet."""
    return PartitionFold(number, PARTITIONS, effective)


class Guard(Worker):
    """A process of the stage: GuardStage."""

    group = "guard"

    def assigned(self) -> None:
        """GuardStage._assigned: restore what was kept, go on from the committed offset."""
        self.folds = [new_fold(number) for number in range(PARTITIONS)]
        self.committed, self.position, self.caught_up_at = [0] * PARTITIONS, [0] * PARTITIONS, [0] * PARTITIONS
        self.keep_before = [0] * PARTITIONS
        for number, fold in enumerate(self.folds):
            for key, value in self.log.snapshots[number].items():
                fold.restore(key, value)
            self.committed[number] = self.position[number] = self.log.offset("guard", ("journal", number))
            self.caught_up_at[number] = self.log.end(("journal", number))

    def take(self, number: int, most: int) -> None:
        """GuardStage._take and _fold."""
        entries = self.log.read(("journal", number), self.position[number], most)
        if not entries:
            return
        self.position[number] = entries[-1].offset + 1
        outputs, rejected = self.folds[number].fold(map(record_of, entries))
        for item in rejected:
            self.producer.send("dead-letters", None, item.code.encode(), 0)
        self.write(outputs)

    def write(self, outputs: list[Out]) -> None:
        """GuardStage._write: what causes other records is acknowledged before they are sent."""
        causes = [item for item in outputs if item.topic == "journal"]
        for item in causes:
            self.producer.event(item.topic, item.key, item.event)
        if causes:
            self.flush("guard has sent a cause")
        for item in outputs:
            if item.topic != "journal":
                self.producer.event(item.topic, item.key, item.event)

    def tick(self) -> None:
        """GuardStage._tick: only who has read all that stood in the log at its start asks anything."""
        for number, fold in enumerate(self.folds):
            if self.position[number] >= self.caught_up_at[number]:
                self.write(fold.tick(self.log.now_ms))

    def commit(self, keep_open: bool) -> None:
        """GuardStage._commit."""
        kept: list[list[Kept]] = []
        for number, fold in enumerate(self.folds):
            kept.append(fold.to_keep(self.keep_before[number] if keep_open else 0))
        if any(kept):
            for number, offset in enumerate(self.committed):
                self.commit_offset(("journal", number), offset)
        self.flush("guard has written")
        for number, items in enumerate(kept):
            for item in items:
                self.producer.send("snapshots", item.key, item.value, number)
        if any(kept):
            self.flush("guard keeps")
        self.may_crash("guard is about to commit")
        for number, fold in enumerate(self.folds):
            fold.kept(kept[number])
            offset = fold.floor(self.position[number])
            if offset > self.committed[number]:
                self.commit_offset(("journal", number), offset)
                self.committed[number] = offset
        if keep_open:
            self.keep_before = self.position[:]

    def lost(self) -> None:
        """Its partitions were given to another while it was frozen: it learns so at its next commit."""
        self.ended = True
        with contextlib.suppress(Fenced):
            self.commit(keep_open=False)


def record_of(entry: Entry) -> Record:
    """An entry of the journal, decoded."""
    return Record(entry.offset, entry.time_ms, event_of("journal", entry.value))
