"""What must hold of a history once it is over, whatever the scheduler did."""

import re
from collections import Counter, defaultdict

import msgspec

from processors.events import Decision, End, Envelope, Event, RunStarted, Stop, Tokens
from tests.simulation.dispatch import Call
from tests.simulation.edge import Client
from tests.simulation.guard import new_fold, record_of
from tests.simulation.log import PARTITIONS, event_of, place_of
from tests.simulation.policy import LIMIT_CHARS, PHRASE
from tests.simulation.sink import READS, TOPICS
from tests.simulation.world import World

BLOCKED = re.compile(rf"\b{PHRASE}\b")
ATTEMPTS = 2
"""As many as the route has steps."""


class Violation(AssertionError):
    """A promise is broken. `promise` names which, so that shrinking does not wander off to another."""

    def __init__(self, promise: str, told: object = "") -> None:
        super().__init__(f"{promise}: {told}")
        self.promise = promise


def demand(holds: bool, promise: str, told: object = "") -> None:
    if not holds:
        raise Violation(promise, told)


def check(world: World) -> Counter[str]:
    """All promises; returns how the requests ended.

    Raises:
        Violation: the first that does not hold.
    """
    journal = {n: [record_of(entry) for entry in world.log.read(("journal", n), 0)] for n in range(PARTITIONS)}
    decided = {record.event.id for n in journal for record in journal[n] if isinstance(record.event, Decision)}
    streams = {request: stream_of(world, request) for request in sorted(decided)}
    closed_at, expected = straight(world)
    for request, stream in streams.items():
        demand(stream == expected[request], "readers get what a guard that never died would have written", request)
    check_accepted(world, decided)
    waiting = sum(fold.open_streams for fold in world.workers["guard"].folds)  # type: ignore[union-attr]
    demand(waiting == 0, "every run's end is told, or waited for no longer", waiting)
    check_stops(world)
    check_text(world, streams)
    check_calls(world, closed_at)
    check_clients(world, streams)
    check_sink(world)
    ends = [stream[-1] for stream in streams.values()]
    seen = Counter(f"{end.status}: {end.reason}" for end in ends)  # type: ignore[attr-defined]
    seen["an answer from the cache"] = sum(end.cached for end in ends)  # type: ignore[attr-defined]
    seen["a second attempt"] = sum(end.attempts == ATTEMPTS for end in ends)  # type: ignore[attr-defined]
    return seen


def stream_of(world: World, request: str) -> list[Event]:
    """What a reader of the whole log has, each number once."""
    seen: dict[int, Event] = {}
    for entry in world.log.read(("tokens", place_of(request)), 0):
        event = event_of("tokens", entry.value)
        if isinstance(event, Tokens | End) and event.id == request:
            demand(seen.setdefault(event.seq, event) == event, "a number that comes again is the same record", event)
    stream = [seen[seq] for seq in sorted(seen)]
    ends = [event for event in stream if isinstance(event, End)]
    demand(len(ends) == 1, "one terminal event", f"{request} has {len(ends)}")
    demand(sorted(seen) == list(range(len(stream))), "numbers without a gap", sorted(seen))
    demand(stream[-1] is ends[0], "nothing follows the end", request)
    return stream


def straight(world: World) -> tuple[dict[str, int], dict[str, list[Event]]]:
    """Where each request ends, and what is released of it, by a fold that reads the journal once through."""
    closed_at: dict[str, int] = {}
    released: defaultdict[str, list[Event]] = defaultdict(list)
    for number in range(PARTITIONS):
        fold = new_fold(number)
        for entry in world.log.read(("journal", number), 0):
            for out in fold.fold([record_of(entry)])[0]:
                if isinstance(out.event, End):
                    closed_at[out.key] = entry.offset
                if isinstance(out.event, Tokens | End):
                    released[out.key].append(out.event)
    return closed_at, released


def check_accepted(world: World, decided: set[str]) -> None:
    """Whatever was published has its decision, and so its end."""
    for number in range(PARTITIONS):
        for entry in world.log.read(("requests", number), 0):
            asked = msgspec.json.decode(entry.value, type=Envelope)
            demand(asked.cancel or asked.id in decided, "what was accepted ends", asked)


def check_stops(world: World) -> None:
    """Cause before effect: the guard's stop stands in the journal before the end that follows from it."""
    for number in range(PARTITIONS):
        stopped = {
            entry.key: entry.moment
            for entry in reversed(world.log.read(("journal", number), 0))
            if isinstance(event_of("journal", entry.value), Stop)
        }
        for entry in world.log.read(("tokens", number), 0):
            event = event_of("tokens", entry.value)
            if isinstance(event, End) and event.tokens_saved and not event.cached:
                demand(stopped.get(entry.key, entry.moment) < entry.moment, "the stop stands before its end", event)


def may_be_read(text: str) -> str:
    """What of an answer's whole text a reader may see, told without the guard's own means."""
    found = BLOCKED.search(text)
    return (text[: found.start()] if found else text)[:LIMIT_CHARS]


def check_text(world: World, streams: dict[str, list[Event]]) -> None:
    """A stream's text is the moderated text of one run, or a prefix of it and a declared failure."""
    by_request: defaultdict[str, list[Call]] = defaultdict(list)
    for call in world.provider.calls:
        by_request[call.request].append(call)
    for request, stream in streams.items():
        text = "".join(event.text for event in stream if isinstance(event, Tokens))
        end = stream[-1]
        assert isinstance(end, End)
        demand(BLOCKED.search(text) is None, "no character of a blocked phrase", text)
        calls = [call for name in by_request for call in by_request[name]] if end.cached else by_request[request]
        demand(
            not text or any(may_be_read(call.text).startswith(text) for call in calls),
            "the text is that of one run, moderated",
            text,
        )
        if end.status == "completed":
            whole = any(call.completed and call.text == text for call in calls)
            demand(whole, "a completed answer is a whole one", text)
        if end.reason == "token_limit":
            demand(len(text) == LIMIT_CHARS, "the limit cuts at one character", text)


def check_calls(world: World, closed_at: dict[str, int]) -> None:
    """No call for what the caller knew to be over, or called by another; no more calls than attempts, but for one a
    crash."""
    runs: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for number in range(PARTITIONS):
        for entry in world.log.read(("journal", number), 0):
            event = event_of("journal", entry.value)
            if isinstance(event, RunStarted):
                runs[event.id, event.attempt].append((event.run, entry.offset))
    for call in world.provider.calls:
        begun = runs[call.request, call.attempt]
        demand(call.run in dict(begun), "a run is announced before it is called", call)
        demand(begun[0][0] == call.run or call.read_to <= begun[0][1], "nobody calls what he knows to be called", call)
        demand(call.read_to <= closed_at[call.request], "nobody calls for a request that he knows to be over", call)
    counts = Counter((call.request, call.attempt) for call in world.provider.calls)
    for (request, attempt), count in counts.items():
        demand(attempt <= ATTEMPTS, "no more attempts than the route has steps", request)
        demand(count <= 1 + world.hits["dispatch"], "one more call a crash at most", (request, attempt, count))
    demand(not world.still_open, "no run goes on after its request is closed", world.still_open)
    demand(not world.open_runs(), "every run ends", world.open_runs())


def check_clients(world: World, streams: dict[str, list[Event]]) -> None:
    """A client has its stream from the beginning on, all of it if it stayed."""
    for client in world.clients:
        check_client(client, streams.get(client.request, []))


def check_client(client: Client, stream: list[Event]) -> None:
    demand(client.gaps == 0, "no hole for a client while the log has everything", client.request)
    demand(client.received == stream[: len(client.received)], "a client has a prefix of its stream", client.request)
    if client.edge is not None:
        demand(client.received == stream, "who stays has everything", client.request)


def check_sink(world: World) -> None:
    """Each record of the log is inserted once, and each event counted once."""
    for topic in TOPICS:
        for number in range(PARTITIONS):
            end = world.log.end((topic, number))
            committed = world.log.offset("sink", (topic, number))
            demand(committed == end, "the sink catches up", (topic, number, committed, end))
    total = sum(world.log.end(place) for place in READS)
    rows = [row for table in world.house.rows.values() for row in table]
    demand(len(rows) == total, "a record is one row", (len(rows), total))
    events = {event_of("tokens", entry.value) for n in range(PARTITIONS) for entry in world.log.read(("tokens", n), 0)}
    shown = sum(len(world.house.view(table)) for table in ("releases", "ends"))
    opened = sum(row["kind"] == "opened" for row in world.house.view("control").values())
    demand(shown + opened == len(events), "an event is counted once", (shown, opened, len(events)))
