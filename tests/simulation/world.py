"""A whole history: the stages over one log, a scheduler that breaks them, and the quiet in which all must end."""

from collections import Counter
from collections.abc import Callable

from tests.samples import START_MS
from tests.simulation.admission import Admission, Fill
from tests.simulation.choices import Choices
from tests.simulation.dispatch import Dispatch, Provider, Run
from tests.simulation.edge import Client, Edge
from tests.simulation.guard import Guard
from tests.simulation.log import PARTITIONS, Fenced, Log
from tests.simulation.sink import House, Sink
from tests.simulation.worker import Crashed, Worker

STAGES: dict[str, type[Worker]] = {
    "edge": Edge, "admission": Admission, "dispatch": Dispatch, "guard": Guard, "fill": Fill, "sink": Sink,
}  # fmt: skip
TOO_MANY_ROUNDS = 70
"""Of 1.5 s each: past every time-out there is."""


class World:
    """Everything there is in a history."""

    def __init__(self, choices: Choices, tell: Callable[[str], None] | None = None) -> None:
        self.log = Log(START_MS)
        self.provider, self.house = Provider(), House()
        self.cache: dict[str, bytes] = {}
        self.fired: Counter[str] = Counter()
        """What the scheduler did, by kind."""
        self.hits: Counter[str] = Counter()
        """Crashes and losses of partitions, by stage."""
        self.clients: list[Client] = []
        self.bodies: list[bytes] = []
        self.settling = False
        self._choices = choices
        self._tell = tell
        self.workers: dict[str, Worker | None] = dict.fromkeys(STAGES)
        self.zombies: list[Worker] = []
        for stage in STAGES:
            self.start(stage)

    # choices

    def pick(self, count: int) -> int:
        """The scheduler's word; nothing is chosen in the quiet."""
        return 0 if self.settling else self._choices.pick(count)

    def chance(self, one_in: int) -> bool:
        """Whether the scheduler lets a rare thing happen."""
        return not self.settling and self._choices.chance(one_in)

    def did(self, what: str) -> None:
        self.fired[what] += 1
        if self._tell is not None:
            self._tell(f"{self.log.now_ms - START_MS:6} ms  {what}")

    # processes

    def start(self, stage: str) -> None:
        """A new process, if there is none."""
        if self.workers[stage] is None:
            if stage == "edge":
                self.retire_guards()
            self.workers[stage] = STAGES[stage](self)

    def retire_guards(self) -> None:
        """A known limit is left out: an edge takes what a replaced guard writes late for news, and an edge that began
        after the stream's end then has nothing that follows.
        """
        for worker in [worker for worker in self.zombies if isinstance(worker, Guard)]:
            self.do(worker, worker.lost)

    def crash(self, worker: Worker, moment: str) -> None:
        """Of what it had sent some part reaches the log."""
        self.did(f"crash of {worker.group}: {moment}")
        self.fired[f"crash: {worker.group}"] += 1
        self.fired[f"crash at: {moment}"] += 1
        self.hits[worker.group] += 1
        worker.producer.die(self.pick)
        worker.ended = True
        if isinstance(worker, Edge):
            worker.died()
        if self.workers[worker.group] is worker:
            self.workers[worker.group] = None

    def replace(self, stage: str) -> None:
        """Another worker has its partitions; the old one does not know."""
        worker = self.workers[stage]
        if worker is not None:
            self.hits[stage] += 1
            self.fired[f"zombie: {stage}"] += 1
            worker.zombie = True
            self.zombies.append(worker)
            self.workers[stage] = None
            self.start(stage)

    def do(self, worker: Worker | None, work: Callable[[], object]) -> None:
        """A process works, and may die of it."""
        if worker is None or worker.ended:
            return
        try:
            work()
        except Crashed as crashed:
            self.crash(worker, str(crashed))
        except Fenced:
            worker.producer.die(self.pick)
            worker.ended = True
        if worker.ended and worker in self.zombies:
            self.zombies.remove(worker)

    def any_of(self, stage: str) -> Worker | None:
        """The stage's worker, or one that has lost its place."""
        found = [worker for worker in [self.workers[stage], *self.zombies] if worker and worker.group == stage]
        return found[self.pick(len(found))] if found else None

    def unread(self, positions: list[int]) -> int:
        """A partition of the journal that has more than was read of it, if there is one."""
        found = [n for n in range(PARTITIONS) if self.log.end(("journal", n)) > positions[n]]
        return found[self.pick(len(found))] if found else 0

    # the quiet

    def settle(self) -> None:
        """No more faults: every process runs until nothing moves, and time passes until everything is over."""
        self.settling = True
        self.quiesce(calls_go_on=False)
        over = self.ended_requests()
        self.still_open = [
            run.call for run in self.open_runs() if run.start.id in over and run.call and not self.late(run)
        ]
        """Provider calls that go on although everyone has read that their request is over."""
        for client in self.clients:
            if client.edge is None and not client.leaves_for_good:
                self.workers["edge"].follow(client)  # type: ignore[union-attr]
        for _ in range(TOO_MANY_ROUNDS):
            self.quiesce(calls_go_on=True)
            if not self.open_runs() and not any(fold.open_streams for fold in self.workers["guard"].folds):  # type: ignore[union-attr]
                return
            self.log.now_ms += 1500

    def ended_requests(self) -> set[str]:
        """The requests whose end stands in the log."""
        entries = [entry for number in range(PARTITIONS) for entry in self.log.read(("tokens", number), 0)]
        return {entry.key or "" for entry in entries if entry.value.startswith(b'{"type":"end"')}

    def late(self, run: Run) -> bool:
        """Whether its deadline ends the run in any case, as soon as it moves."""
        return self.log.now_ms >= run.start.order.deadline.timestamp() * 1000

    def open_runs(self) -> list[Run]:
        """The provider calls under way."""
        return [
            run
            for worker in [self.workers["dispatch"], *self.zombies]
            if isinstance(worker, Dispatch)
            for run in worker.runs.values()
        ]

    def quiesce(self, calls_go_on: bool) -> None:
        """Everything moves on at this moment of time, until nothing does."""
        before = -1
        while before != self.log.moves:
            before = self.log.moves
            for stage in STAGES:
                self.start(stage)
            for worker in [*self.workers.values(), *self.zombies]:
                self.do(worker, lambda worker=worker: self.work(worker, calls_go_on))  # type: ignore[misc]
        for client in self.clients:
            client.take()

    def work(self, worker: Worker, calls_go_on: bool) -> None:
        """A whole cycle of a process."""
        everything = 1 << 30
        worker.producer.flush()
        for number in range(PARTITIONS):
            if isinstance(worker, (Guard, Dispatch, Edge)):
                worker.take(number, everything)
        match worker:
            case Admission() | Sink():
                worker.take(everything)
            case Fill():
                worker.take()
        match worker:
            case Admission():
                worker.settle()
            case Guard():
                worker.tick()
                worker.commit(keep_open=True)
            case Dispatch():
                worker.say_alive()
                worker.end_orphans()
                worker.commit()
                for run in list(worker.runs.values()) if calls_go_on else ():
                    worker.advance(run)
            case Sink():
                worker.land()
                worker.launch()
                worker.insert(100)
                worker.land()
        worker.producer.flush()
        if worker.zombie:
            worker.lost()
