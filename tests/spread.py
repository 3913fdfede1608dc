"""Which worker runs which file: two wait for pipelines, the others do what wants cores meanwhile."""

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

WAITING = ("tests/faults/", "tests/e2e/")
"""What starts pipelines, breaks them and waits: two thirds of the suite's time, and little of its CPU."""
PIPELINES = 2
"""At once: more of them would be in each other's way, and what is promised in seconds would be late."""


class Spread(LoadFileScheduling):
    """Whole files, as `--dist loadfile` does it; a worker takes from the other kind when its own is used up."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        waits = self.nodes.index(node) < PIPELINES
        own = (scope for scope in self.workqueue if scope.startswith(WAITING) == waits)
        first = next(own, None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)
