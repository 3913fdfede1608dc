"""`sluice topics`: topics.yaml against a broker, and as documents."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from connectors.kafka import admin
from streams import asyncapi, describe, reference, settings, topology
from streams.cli_errors import explained

app = typer.Typer(
    no_args_is_help=True,
    help="Topics and stages as topics.yaml declares them: create them, compare them with a broker, draw them.",
)

File = Annotated[
    Path | None, typer.Option("--file", help="A topology other than the checkout's or package's topics.yaml.")
]


class Format(StrEnum):
    """How `describe` shows the topology."""

    TABLE = "table"
    MERMAID = "mermaid"
    ASYNCAPI = "asyncapi"


@app.command()
def apply(file: File = None) -> None:
    """Create missing topics, set what differs, and give every consumer group a place to begin.

    Safe to repeat. The number of partitions counts when a topic is created and is never changed: keys would move away
    from their history. A group that has never committed begins at the earliest record; without this a stage refuses to
    start, so that lost log is noticed.

    The broker is SLUICE_KAFKA's, or that of the running `sluice up`; SLUICE_PARTITIONS replaces topics.yaml's number.
    """
    with explained():
        wanted, services = _wanted(file)
        done = admin.apply(services.kafka, wanted.specs(), wanted.groups(), embedded=services.embedded)
    for line in done or ["nothing to do"]:
        typer.echo(line)


@app.command()
def check(file: File = None) -> None:
    """Compare the broker's topics with topics.yaml, changing nothing; exit code 1 where they differ.

    The embedded broker tells no settings, so only names and partition counts are compared there.
    """
    with explained():
        wanted, services = _wanted(file)
        found = admin.check(services.kafka, wanted.specs(), embedded=services.embedded)
    for difference in found.differences:
        typer.echo(str(difference))
    if not found.complete:
        typer.echo("embedded broker: only names and partition counts were compared", err=True)
    if found.differences:
        typer.echo(f"{len(found.differences)} differences; `sluice topics apply` mends all but partitions", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(wanted.topics)} topics are as they should be")


def _wanted(file: Path | None) -> tuple[topology.Topology, settings.Services]:
    """The topology with the number of partitions that the broker has, and where the broker is."""
    services, asked = settings.connected("kafka"), settings.load_settings().partitions
    return topology.load(file).sized(admin.partitions(services.kafka), asked), services


@app.command("describe")
def describe_(
    file: File = None,
    format: Annotated[Format, typer.Option(help="Tables, a Mermaid flowchart, or AsyncAPI 3.0.")] = Format.TABLE,
    write: Annotated[
        Path | None, typer.Option(help="Write asyncapi.yaml and events.md into this folder instead.")
    ] = None,
) -> None:
    """Show what flows where; needs no broker.

    `sluice topics describe --write docs` renews the generated documents, which the tests compare with the sources.
    """
    with explained():
        wanted = topology.load(file)
    if write is not None:
        write_docs(wanted, write)
    elif format is Format.TABLE:
        console = Console()
        for table in describe.tables(wanted):
            console.print(table)
    else:
        typer.echo(describe.mermaid(wanted) if format is Format.MERMAID else asyncapi.render(wanted), nl=False)


def write_docs(wanted: topology.Topology, folder: Path) -> None:
    """Write the generated documents and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("asyncapi.yaml", asyncapi.render(wanted)), ("events.md", reference.render(wanted))):
        (folder / name).write_text(text, encoding="utf-8")
        typer.echo(f"wrote {folder / name}")
