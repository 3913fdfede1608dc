"""Admission and fill in a simulated history: what streams/admission.py and streams/fill.py do around the processors."""

from processors.admission.decide import decide, next_attempt
from processors.admission.examine import Examined, examine
from processors.cache import decode_answer
from processors.codec import BadRecord
from processors.events import Cancel, Decision, Target
from processors.fill import entry
from processors.times import from_ms
from tests.simulation.guard import effective
from tests.simulation.log import PARTITIONS, Entry, Fenced, Place, event_of
from tests.simulation.policy import POLICY
from tests.simulation.worker import Worker

READS: tuple[Place, ...] = tuple((topic, number) for topic in ("requests", "outcomes") for number in range(PARTITIONS))


class Admission(Worker):
    """A process of the stage: AdmissionStage."""

    group = "admission"

    def assigned(self) -> None:
        """Begin at the committed offsets."""
        self.position = {place: self.log.offset("admission", place) for place in READS}
        self.sent = False

    def take(self, most: int) -> None:
        """AdmissionStage._cycle up to its sends."""
        waiting: list[Examined] = []
        for place in READS:
            entries = self.log.read(place, self.position[place], most)
            for item in entries:
                self.judge(place, item, waiting)
            self.position[place] += len(entries)
            self.sent = self.sent or bool(entries)
        for item in waiting:
            stored = self.world.cache.get(item.read_key or "")
            answer = decode_answer(item.read_key, stored) if item.read_key and stored else None
            self.send(decide(item, answer, self.is_bad, lambda _: None))

    def settle(self) -> None:
        """The rest of the cycle: all is acknowledged, then the offsets are committed; a refused commit is no error."""
        self.flush("admission has decided")
        for place, offset in self.position.items():
            if offset > self.log.offset("admission", place):
                try:
                    self.commit_offset(place, offset)
                except Fenced:
                    self.ended = True
                    return
        self.sent = False

    def judge(self, place: Place, item: Entry, waiting: list[Examined]) -> None:
        """AdmissionStage._take and _read."""
        now = from_ms(self.log.now_ms)
        if place[0] == "outcomes":
            decision = next_attempt(event_of("outcomes", item.value), now, self.is_bad, lambda _: None, lambda *_: True)  # type: ignore[arg-type]
            if decision is not None:
                self.send(decision)
            return
        try:
            found = examine(item.value, None, from_ms(item.time_ms), now, self.view)
        except BadRecord as error:
            self.producer.send("dead-letters", None, error.code.encode(), 0)
            return
        if isinstance(found, Examined):
            waiting.append(found)
        else:
            self.send(found)

    def send(self, event: Decision | Cancel) -> None:
        self.producer.event("journal", event.id, event)

    def lost(self) -> None:
        """It learns so when it commits what it has in hand."""
        self.settle()
        self.ended = True

    def is_bad(self, target: Target) -> bool:
        """Health is whatever the scheduler says."""
        return self.world.chance(6)

    def view(self, tenant: str):  # type: ignore[no-untyped-def]
        return effective(POLICY.version, tenant) if tenant == "demo" else None


class Fill(Worker):
    """A process of the stage: answers into the cache. Best effort, so it begins anywhere."""

    group = "fill"

    def assigned(self) -> None:
        self.position = [self.log.end(("answers", number)) for number in range(PARTITIONS)]

    def take(self) -> None:
        for number in range(PARTITIONS):
            for item in self.log.read(("answers", number), self.position[number]):
                kept = entry(event_of("answers", item.value))  # type: ignore[arg-type]
                self.position[number] = item.offset + 1
                if kept is not None:
                    self.world.cache[kept.key] = kept.value
