"""Entry point of the `sluice` command."""

import sys


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
    work()


if __name__ == "__main__":
    main()
