"""What the scheduler does to a history. An action that makes no sense just now does nothing."""

from collections.abc import Callable
from functools import lru_cache

import orjson

from processors.codec import encode
from processors.events import EdgeRef, Envelope
from processors.identity import uuid7
from tests.samples import START_MS
from tests.simulation.admission import Admission, Fill
from tests.simulation.choices import Choices
from tests.simulation.dispatch import Dispatch
from tests.simulation.edge import TENANT, Client, Edge
from tests.simulation.guard import Guard
from tests.simulation.log import PARTITIONS, place_of
from tests.simulation.sink import Sink
from tests.simulation.world import STAGES, World

STEPS = 75
"""The scheduler's part of a history; the quiet that follows comes on top."""
REPLACEABLE = ("admission", "dispatch", "guard", "sink")
"""Stages of a group, in which a worker may go on after another has its partitions."""
JUMPS_MS = (20, 200, 600, 2500, 7000)


def disturb(world: World, choices: Choices, steps: int = STEPS) -> None:
    """The scheduler's part of a history."""
    while choices.next_step(steps):
        kind, action = ACTIONS[choices.pick(len(ACTIONS))]
        world.did(kind)
        action(world)


@lru_cache(maxsize=1)
def request_ids() -> tuple[str, ...]:
    """Three ids of one partition and one of another."""
    wanted, found = [0, 0, 0, 1], []
    for seed in range(1000):
        if not wanted:
            break
        candidate = uuid7(START_MS, seed.to_bytes(10, "big"))
        if place_of(candidate) == wanted[0]:
            found.append(candidate)
            wanted.pop(0)
    return tuple(found)


def submit(world: World) -> None:
    """A client submits by an edge, or a producer by Kafka."""
    edge, ids = world.workers["edge"], request_ids()
    if edge is None or len(world.bodies) == len(ids):
        return
    request_id = ids[len(world.bodies)]
    way = world.pick(4)
    prompt = ("Tell me", "Tell me", "Tell me", "Tell me", "Tell me more", "never ask me")[world.pick(6)]
    by_edge = way < 3
    body = body_of(request_id, prompt, edge.ref if by_edge else None, way == 2, world.pick(2) == 1)  # type: ignore[attr-defined]
    world.bodies.append(body)
    client = Client(request_id, leaves_for_good=way == 2)
    world.clients.append(client)
    if by_edge:
        edge.submit(client, body)  # type: ignore[attr-defined]
    else:
        edge.producer.send("requests", request_id, body)


def body_of(request_id: str, prompt: str, edge: EdgeRef | None, by_http: bool, cached: bool) -> bytes:
    """A request as its producer writes it."""
    body = {
        "id": request_id,
        "tenant": TENANT,
        "model": "assistant",
        "messages": [{"role": "user", "content": prompt}],
    }
    if cached:
        body["temperature"] = 0
    if edge is not None:
        body["edge"] = {"instance": edge.instance, "incarnation": edge.incarnation}
        body["on_disconnect"] = "cancel" if by_http else "continue"
    return orjson.dumps(body)


def again(world: World) -> None:
    """A request is published a second time, or another one under its id."""
    if not world.bodies:
        return
    at = world.pick(len(world.bodies))
    body = world.bodies[at]
    if world.pick(3) == 2:
        world.fired["an id used twice"] += 1
        body = body.replace(b"Tell me", b"Another")
    world.log.append(("requests", place_of(request_ids()[at])), None, body)


def admit(world: World) -> None:
    worker = world.any_of("admission")
    if isinstance(worker, Admission):
        if not worker.sent:
            world.do(worker, lambda: worker.take(world.pick(3) + 1))
        if worker.sent and world.pick(2) == 0:
            world.do(worker, worker.lost if worker.zombie else worker.settle)


def a_stage_works(world: World) -> None:
    """One process does all it has to do."""
    worker = world.workers[("guard", "dispatch", "admission", "edge", "sink", "fill")[world.pick(6)]]
    if worker is not None:
        world.do(worker, lambda: world.work(worker, calls_go_on=False))


def all_stages_work(world: World) -> None:
    """Each process does all it has to do, and the provider goes on: so that a history gets somewhere."""
    calls_go_on = world.pick(4) != 3
    for worker in list(world.workers.values()):
        if worker is not None:
            world.do(worker, lambda worker=worker: world.work(worker, calls_go_on))  # type: ignore[misc]


def guard_takes(world: World) -> None:
    worker = world.any_of("guard")
    if isinstance(worker, Guard):
        number = world.unread([worker.position[n] for n in range(PARTITIONS)])
        most = (50, 1, 2, 4)[world.pick(4)]
        world.do(worker, lambda: worker.take(number, most))


def guard_ticks(world: World) -> None:
    worker = world.any_of("guard")
    if isinstance(worker, Guard):
        world.do(worker, worker.tick)


def guard_commits(world: World) -> None:
    worker = world.any_of("guard")
    keep_open = world.pick(2) == 1
    if isinstance(worker, Guard):
        world.do(worker, lambda: worker.commit(keep_open))


def dispatch_takes(world: World) -> None:
    worker = world.any_of("dispatch")
    if isinstance(worker, Dispatch):
        number = world.unread([worker.lanes[n].position for n in range(PARTITIONS)])
        most = (50, 1, 2, 4)[world.pick(4)]
        world.do(worker, lambda: worker.take(number, most))


def dispatch_commits(world: World) -> None:
    worker = world.any_of("dispatch")
    if isinstance(worker, Dispatch):
        world.do(worker, worker.commit)


def dispatch_looks_for_orphans(world: World) -> None:
    worker = world.any_of("dispatch")
    if isinstance(worker, Dispatch):
        world.do(worker, worker.end_orphans)


def provider_goes_on(world: World) -> None:
    """One of the provider calls under way goes a step on, or a few."""
    found = world.open_runs()
    if found:
        run = found[world.pick(len(found))]
        for _ in range((3, 1, 10)[world.pick(3)]):
            run.owner.advance(run)


def records_arrive(world: World) -> None:
    """All that a process has sent reaches the log, or some of it in one partition."""
    found = [worker for worker in [*world.workers.values(), *world.zombies] if worker and worker.producer.queues]
    if not found:
        return
    producer = found[world.pick(len(found))].producer
    count = world.pick(4)
    if count == 0:
        producer.flush()
    else:
        places = list(producer.queues)
        producer.deliver(places[world.pick(len(places))], count)


def time_passes(world: World) -> None:
    world.log.now_ms += JUMPS_MS[world.pick(len(JUMPS_MS))]
    for worker in [world.workers["dispatch"], *world.zombies]:
        if isinstance(worker, Dispatch) and not worker.ended and not (worker.zombie and world.chance(2)):
            worker.say_alive()


def edge_takes(world: World) -> None:
    edge = world.workers["edge"]
    number = world.pick(PARTITIONS)
    if isinstance(edge, Edge):
        world.do(edge, lambda: edge.take(number, 50))
        for client in edge.readers:
            client.take()


def client_moves(world: World) -> None:
    """One that reads leaves; one that had left comes back."""
    if not world.clients or world.workers["edge"] is None:
        return
    client, edge = world.clients[world.pick(len(world.clients))], world.workers["edge"]
    if client.edge is not None:
        world.fired["client leaves"] += 1
        client.edge.leave(client)
    elif not client.leaves_for_good and client.request in edge.known:  # type: ignore[attr-defined]
        world.fired["client comes back"] += 1
        edge.follow(client)  # type: ignore[attr-defined]


def client_cancels(world: World) -> None:
    edge = world.workers["edge"]
    if not world.clients or not isinstance(edge, Edge):
        return
    request_id = world.clients[world.pick(len(world.clients))].request
    if world.pick(2):
        edge.cancel(request_id)
    else:
        edge.producer.send("requests", request_id, encode(Envelope(request_id, TENANT, cancel=True)))


def cache_fills(world: World) -> None:
    worker = world.workers["fill"]
    if isinstance(worker, Fill):
        world.do(worker, worker.take)


def sink_moves(world: World) -> None:
    worker = world.any_of("sink")
    if isinstance(worker, Sink):
        moves: tuple[Callable[[], object], ...] = (
            lambda: worker.take(50), worker.launch, lambda: worker.insert(world.pick(4) + 1), worker.land,
        )  # fmt: skip
        move = moves[world.pick(len(moves))]
        world.do(worker, move)


def record_comes_twice(world: World) -> None:
    """A producer's retry: one of the newest records of a partition stands in it a second time."""
    topic = ("journal", "journal", "requests", "outcomes", "answers")[world.pick(5)]
    place = (topic, world.pick(PARTITIONS))
    entries = world.log.read(place, max(0, world.log.end(place) - 3))
    if entries:
        world.fired[f"repeat: {topic}"] += 1
        entry = entries[-1 - world.pick(len(entries))]
        world.log.append(place, entry.key, entry.value)


def process_dies(world: World) -> None:
    worker = world.workers[list(STAGES)[world.pick(len(STAGES))]]
    if worker is not None:
        world.crash(worker, "at any moment")


def process_starts(world: World) -> None:
    for stage in STAGES:
        world.start(stage)


def partitions_move(world: World) -> None:
    world.replace(REPLACEABLE[world.pick(len(REPLACEABLE))])


def zombie_learns(world: World) -> None:
    if world.zombies:
        worker = world.zombies[world.pick(len(world.zombies))]
        world.do(worker, worker.lost)  # type: ignore[attr-defined]


_WEIGHTS: dict[Callable[[World], None], int] = {
    a_stage_works: 10, all_stages_work: 6, guard_takes: 6, dispatch_takes: 6, provider_goes_on: 10, records_arrive: 8,
    admit: 3, submit: 3, guard_commits: 4, guard_ticks: 2, dispatch_commits: 2, edge_takes: 3, time_passes: 3,
    sink_moves: 3, process_starts: 6, dispatch_looks_for_orphans: 1, cache_fills: 1, client_moves: 3,
    client_cancels: 1, again: 1, record_comes_twice: 2, process_dies: 2, partitions_move: 1, zombie_learns: 1,
}  # fmt: skip
ACTIONS = [(action.__name__.replace("_", " "), action) for action, weight in _WEIGHTS.items() for _ in range(weight)]
