"""The commands of `sluice`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from connectors.local.process import is_free
from processors.errors import Invalid
from streams import cli, cli_dead_letters, cli_keys, cli_policy, cli_topics
from streams.cli_errors import explained
from streams.cli_evaluate import evaluate
from streams.cli_query import query
from streams.settings import check_port, load_settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Event-driven LLM streams: requests and tokens as Kafka events, moderated, routed, cached and accounted.",
)
app.add_typer(cli_topics.app, name="topics")
app.add_typer(cli_policy.app, name="policy")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_dead_letters.app, name="dead-letters")
app.command()(query)
app.command()(evaluate)


@app.command()
def up(
    policy: Annotated[Path | None, typer.Option(help="Policy file; default SLUICE_POLICY, else policy.yaml.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the edge; 0 picks a free one. Default SLUICE_PORT.")] = None,
) -> None:
    """Run the whole pipeline on this machine until Ctrl-C: services, then one process a stage.

    SLUICE_KAFKA=local|embedded|HOST:PORT, SLUICE_REDIS=redis://… and SLUICE_CLICKHOUSE=http://… choose the services;
    what is not named is started here. State and logs stand under SLUICE_HOME (default .sluice).
    """
    from streams.up import serve

    with explained():
        settings = load_settings()
        if port is not None:
            check_port("--port", port)
            settings = replace(settings, port=port)
        if settings.port and settings.host == "127.0.0.1" and not is_free(settings.port):
            raise Invalid("", f"port {settings.port} is taken; choose another with --port, or 0 for any")
        if policy is not None:
            settings = replace(settings, policy=policy)
        serve(settings, Console())


@app.command()
def demo() -> None:
    """Show the pipeline at work: a handful of requests with a simulated provider, and their figures from ClickHouse.

    Runs in a home of its own (SLUICE_HOME/demo), which is made anew each time, and leaves nothing running.
    """
    from streams.demo import demo as show

    with explained():
        settings = load_settings()
        if not show(replace(settings, home=settings.home.absolute()), Console()):
            raise typer.Exit(1)


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="A stage of topics.yaml: edge, admission, dispatch, guard, …")],
) -> None:
    """Run one stage's process; every address comes from the environment (SLUICE_KAFKA=HOST:PORT and so on)."""
    cli.run(stage)
