"""Who reads a stream, as the journal tells it, and since when nobody has."""

from processors.events import EdgeRef
from processors.events.request import OnDisconnect


class Readers:
    """The edges that have readers of one stream. A request from Kafka has no edge, and needs none."""

    def __init__(self, submitter: EdgeRef | None, now_ms: int) -> None:
        self._wanted = submitter is not None
        self.edges: set[EdgeRef] = {submitter} if submitter else set()
        self.alone_since_ms = now_ms

    def joined(self, edge: EdgeRef) -> None:
        """An edge has its first reader."""
        self.edges.add(edge)

    def left(self, edge: EdgeRef, now_ms: int) -> None:
        """An edge has lost its last."""
        self._lose({edge}, now_ms)

    def edge_started(self, edge: EdgeRef, now_ms: int) -> None:
        """Readers of older incarnations of this edge are gone."""
        older = {one for one in self.edges if one.instance == edge.instance and one.incarnation != edge.incarnation}
        self._lose(older, now_ms)

    def gone(self, now_ms: float, on_disconnect: OnDisconnect, grace_ms: float) -> bool:
        """Whether the stream is to be cancelled because nobody reads it."""
        if self.edges or not self._wanted:
            return False
        return on_disconnect == "cancel" or now_ms - self.alone_since_ms >= grace_ms

    def _lose(self, edges: set[EdgeRef], now_ms: int) -> None:
        if self.edges & edges:
            self.edges -= edges
            self.alone_since_ms = now_ms
