"""How every command fails: what was wrong goes to standard error in one line, and the exit code is 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from connectors.kafka.admin import AdminFailed
from connectors.kafka.writer import DeliveryFailed
from processors.errors import Invalid


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors a person can mend into their message; anything else is a bug and keeps its traceback."""
    try:
        yield
    except (Invalid, AdminFailed, DeliveryFailed) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
