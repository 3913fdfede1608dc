"""Edges and their clients in a simulated history: what connectors/edge does around the buffer."""

from dataclasses import dataclass, field

from processors.codec import encode
from processors.edge.buffer import Buffers, StreamBuffer
from processors.edge.reader import Reader, Step
from processors.events import Cancel, EdgeRef, EdgeStarted, End, Event, Joined, Left, TokenEvent
from tests.simulation.log import PARTITIONS, event_of, place_of
from tests.simulation.worker import Worker

MEMORY = 2500
"""Bytes an edge keeps: so few that records are dropped and read from the log again."""
TENANT = "demo"


@dataclass
class Client:
    """A reader: takes from an edge's memory, or from the log where that begins later."""

    request: str
    leaves_for_good: bool
    next_seq: int = 0
    edge: "Edge | None" = None
    buffer: StreamBuffer | None = None
    received: list[Event] = field(default_factory=list)
    gaps: int = 0

    def notify(self) -> None:
        """There is more: it is taken when the scheduler says so."""

    @property
    def ended(self) -> bool:
        return bool(self.received) and isinstance(self.received[-1], End)

    def take(self) -> None:
        """Subscription.take, and CatchUp where memory does not reach so far back."""
        if self.edge is None or self.ended:
            return
        if self.buffer is None:
            self.catch_up(self.edge)
        if self.buffer is not None:
            if self.buffer.base_seq > self.next_seq:
                self.gaps += 1
                self.next_seq = self.buffer.base_seq
            items = self.buffer.since(self.next_seq, 256, 1 << 16)
            self.received += [item.event for item in items]
            self.next_seq += len(items)

    def catch_up(self, edge: "Edge") -> None:
        """Read the log up to where the edge is, then go on from its memory if that has all the rest."""
        number = place_of(self.request)
        reader = Reader(self.request, TENANT, self.next_seq)
        for item in edge.log.read(("tokens", number), 0, edge.position[number]):
            event = event_of("tokens", item.value)
            if event.id != self.request:  # type: ignore[attr-defined]
                continue
            step = reader.take(event)  # type: ignore[arg-type]
            if step is Step.DELIVER:
                self.received.append(event)
                self.next_seq = reader.next_seq
            self.gaps += step is Step.HOLE
        buffer = edge.buffers.get(self.request)
        if buffer is None and edge.buffers.trace(self.request) is None:
            buffer = edge.buffers.expect(self.request, TENANT, self.next_seq)
        if buffer is not None and buffer.covers(self.next_seq):
            self.buffer = buffer
            buffer.takers.append(self)


class Edge(Worker):
    """A process of an edge, one incarnation."""

    group = "edge"

    def assigned(self) -> None:
        """Edge.start: read from the end on, and tell every partition that older readers have gone."""
        self.ref = EdgeRef("edge-0", f"i{self.log.moves}")
        self.buffers = Buffers(MEMORY)
        self.known = {entry.key for number in range(PARTITIONS) for entry in self.log.read(("tokens", number), 0)}
        """Streams that the log has: others are a 404."""
        self.position = [self.log.end(("tokens", number)) for number in range(PARTITIONS)]
        for number in range(PARTITIONS):
            self.producer.send("journal", None, encode(EdgeStarted(self.ref)), number)
        self.producer.flush()
        self.readers: list[Client] = []

    def take(self, number: int, most: int) -> None:
        """Hub.run."""
        for item in self.log.read(("tokens", number), self.position[number], most):
            event: TokenEvent = event_of("tokens", item.value)  # type: ignore[assignment]
            self.known.add(event.id)
            self.buffers.take(event, item.offset, len(item.value))
            self.position[number] = item.offset + 1

    def submit(self, client: Client, body: bytes) -> None:
        """Submitter.send: the reader waits before the request is published."""
        client.edge = self
        client.buffer = self.buffers.expect(client.request, TENANT)
        client.buffer.takers.append(client)
        self.readers.append(client)
        self.producer.send("requests", client.request, body)

    def follow(self, client: Client) -> None:
        """Streams.follow."""
        client.edge = self
        buffer = self.buffers.get(client.request)
        if buffer is not None and buffer.covers(client.next_seq):
            client.buffer = buffer
            buffer.takers.append(client)
        self.readers.append(client)
        if [reader.request for reader in self.readers].count(client.request) == 1:
            self.producer.event("journal", client.request, Joined(client.request, TENANT, self.ref))

    def leave(self, client: Client) -> None:
        """Streams.leave."""
        over = client.ended or (client.buffer is not None and client.buffer.reader.ended)
        self.release(client)
        self.readers.remove(client)
        if not over and all(reader.request != client.request for reader in self.readers):
            self.producer.event("journal", client.request, Left(client.request, TENANT, self.ref))

    def release(self, client: Client) -> None:
        if client.buffer is not None:
            client.buffer.takers.remove(client)
        client.edge = client.buffer = None

    def cancel(self, request_id: str) -> None:
        """Publisher.cancel."""
        self.producer.event("journal", request_id, Cancel(request_id, TENANT))

    def died(self) -> None:
        """Its connections break."""
        for client in self.readers:
            client.edge = client.buffer = None
