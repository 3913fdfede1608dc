"""Entry point of the `sluice` command."""

import sys


def main() -> None:
    """A stage's process is started without all other commands, for which it would be up 0.3 s later."""
    match sys.argv[1:]:
        case ["run", stage] if not stage.startswith("-"):
            _run(stage)
        case _:
            from streams.commands import app

            app()


def _run(stage: str) -> None:
    from processors.errors import Invalid
    from streams.stage import prepared

    try:
        work = prepared(stage)
    except Invalid as error:
        sys.exit(f"error: {error}")
    work()


if __name__ == "__main__":
    main()
