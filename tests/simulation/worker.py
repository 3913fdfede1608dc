"""What every simulated process has: its producer, its place in the group, and moments at which it may die."""

from typing import TYPE_CHECKING

from tests.simulation.log import Fenced, Place, Producer

if TYPE_CHECKING:
    from tests.simulation.world import World

CRASH_ONE_IN = 25
"""How often a moment at which a process may die is one at which it does."""


class Crashed(Exception):
    """The process died here."""


class Worker:
    """A process of a stage. A `zombie` has lost its partitions to a successor, and does not know it yet."""

    group = ""

    def __init__(self, world: "World") -> None:
        self.world, self.log = world, world.log
        self.producer = Producer(world.log)
        self.zombie = False
        self.ended = False
        self.assigned()

    def assigned(self) -> None:
        """Begin where the group is."""

    def may_crash(self, moment: str) -> None:
        """Die here, if the scheduler says so."""
        if self.world.chance(CRASH_ONE_IN):
            raise Crashed(moment)

    def flush(self, moment: str) -> None:
        """Wait until all that was sent is acknowledged; the process may die before, or after."""
        self.may_crash(moment)
        self.producer.flush()
        self.may_crash(f"{moment}, acknowledged")

    def commit_offset(self, place: Place, offset: int, metadata: str = "") -> None:
        """Commit.

        Raises:
            Fenced: the partitions are another worker's.
        """
        if self.zombie:
            raise Fenced
        if self.log.committed.get((self.group, place)) != (offset, metadata):
            self.log.moves += 1
            self.log.committed[self.group, place] = (offset, metadata)
