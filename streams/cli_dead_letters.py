"""`sluice dead-letters`: what could not be accepted, and back to where it came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from connectors.kafka.letters import Letter, read_letters, redrive
from processors.errors import Invalid
from streams.cli_errors import answering_broker, explained

app = typer.Typer(no_args_is_help=True, help="Records that could not be accepted, with their raw bytes and origin.")
Offset = Annotated[int, typer.Argument(help="The letter's offset, as `list` shows it.")]


@app.command("list")
def list_(most: Annotated[int, typer.Option("--most", min=0, help="Show the newest N.")] = 50) -> None:
    """The newest letters: where each came from and why it was not accepted."""
    with _letters() as letters:
        rows = list(letters)
    table = Table("offset", "topic", "partition", "at", "stage", "error", "message", "bytes")
    for letter in rows[max(0, len(rows) - most) :]:
        origin = letter.origin
        table.add_row(
            str(letter.offset),
            *(origin.get(name, "") for name in ("topic", "partition", "timestamp", "stage", "error", "message")),
            str(len(letter.value or b"")),
        )
    Console().print(table)


@app.command()
def show(offset: Offset) -> None:
    """One letter: its origin on standard error, its raw bytes on standard output."""
    letter = _find(offset)
    for name, value in letter.origin.items():
        typer.echo(f"{name}: {value}", err=True)
    typer.get_binary_stream("stdout").write(letter.value or b"")


@app.command(name="redrive")
def redrive_(offset: Offset) -> None:
    """Write a letter from `requests` there again, once its fault is mended: a tenant unknown to the policy, say.

    A request older than 10 minutes will be refused as expired. One whose id was taken, and what only stages write,
    cannot be sent again: publish the request under a new id.
    """
    letter = _find(offset)
    with explained():
        redrive(answering_broker(), letter)
    typer.echo("sent to requests")


def _find(offset: int) -> Letter:
    with _letters() as letters:
        found = next((letter for letter in letters if letter.offset == offset), None)
        if found is None:
            raise Invalid("OFFSET", f"no dead letter stands at {offset}; see `sluice dead-letters list`")
        return found


@contextmanager
def _letters() -> Iterator[Iterator[Letter]]:
    from streams.settings import connected

    with explained():
        yield read_letters(connected("kafka").kafka)
