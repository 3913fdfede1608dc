"""Entry point of the `sluice` command."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def main() -> None:
    """A stage's process is started without all other commands, for which it would be up 0.3 s later."""
    match sys.argv[1:]:
        case ["run", stage] if not stage.startswith("-"):
            run(stage)
        case _:
            from streams.commands import app

            app()


def run(stage: str) -> None:
    """A stage until a signal; what a person can mend is told in one line, and the exit code is 1."""
    from processors.errors import Invalid
    from streams.stage import prepared

    try:
        work = prepared(stage)
    except Invalid as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    to_the_end(work)


def to_the_end(work: Callable[[], None]) -> NoReturn:
    """Do a process's work and end the process, however it went: 0, or 1 with what was raised on standard error.

    The interpreter's own end would wait for Kafka clients to let go, which may take for ever (librdkafka issues 4514
    and 5476); whoever waits for this process, to start its successor, would wait as long.
    """
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # whatever it was: nobody is left to raise it to
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
