"""Ties a process to its parent, so that a killed supervisor leaves no broker behind.

Run as `python tether.py PARENT_PID COMMAND ...` it becomes COMMAND, under the same pid. A wrapper and no `preexec_fn`:
Python code between fork and exec may deadlock in a process that has threads, and every Kafka client starts threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int) -> None:
    """Have the kernel SIGKILL this process when the *thread* that started it ends; Linux only, elsewhere nothing.

    The tie survives exec but not fork. `parent` is the pid that is expected to be the parent still.

    Raises:
        SystemExit: the parent is gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before the tie was made, so no signal will come
        sys.exit(f"parent {parent} is gone")


def main() -> None:
    """Tie, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    tie_to_parent(parent)
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argument list, and no shell is the point
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
