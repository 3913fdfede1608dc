"""`sluice policy`: a policy file checked, described by a schema, and put in force."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from connectors.policy_file import load_policy
from processors.policy import VersionedPolicy
from streams.cli_errors import answering_broker, explained
from streams.schemas import policy_schema
from streams.scoring import labels_of_model
from streams.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    help="What operators tune: providers, routes, tenants, rules, limits, prices. Checked here, then put in force.",
)

File = Annotated[Path, typer.Argument(help="The policy, such as policy.yaml.")]


@app.command()
def check(file: File) -> None:
    """Read a policy with its phrase files and say what is wrong with it, by file and line; needs no broker.

    Labels of a classifier are those of SLUICE_CLASSIFIER's model, or of the one that comes with us.
    """
    with explained():
        policy = _load(file)
    typer.echo(f"{file}: {summary(policy)}")


@app.command()
def apply(file: File) -> None:
    """Check a policy and put it in force: stages switch as they read it, open streams keep the one they began under.

    The policy goes to the compacted topic `policies`, phrases and all, under its version and as `current`.
    The broker is SLUICE_KAFKA's, or that of the running `sluice up`.
    """
    from connectors.kafka.policies import publish_policy

    with explained():
        policy = _load(file)
        publish_policy(answering_broker(), policy)
    typer.echo(f"in force: {summary(policy)}")


@app.command()
def schema(
    write: Annotated[Path | None, typer.Option(help="Write policy.schema.json into this folder instead.")] = None,
) -> None:
    """Print the JSON Schema of a policy, by which an editor completes and checks the file.

    With the YAML extension of an editor, begin the policy with
    `# yaml-language-server: $schema=docs/policy.schema.json`.
    """
    text = render_schema()
    if write is None:
        typer.echo(text, nl=False)
        return
    write.mkdir(parents=True, exist_ok=True)
    (write / "policy.schema.json").write_text(text, encoding="utf-8")
    typer.echo(f"wrote {write / 'policy.schema.json'}")


def _load(file: Path) -> VersionedPolicy:
    return load_policy(file, lambda: labels_of_model(load_settings().classifier))


def render_schema() -> str:
    """docs/policy.schema.json."""
    return msgspec.json.format(msgspec.json.encode(policy_schema()), indent=2).decode() + "\n"


def summary(policy: VersionedPolicy) -> str:
    """A policy in one line."""
    content = policy.policy
    rules = len(content.rules) + sum(len(tenant.rules or ()) for tenant in content.tenants.values())
    counts = {
        "provider": len(content.providers),
        "route": len(content.routes),
        "tenant": len(content.tenants),
        "rule": rules,
    }
    said = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    return f"version {policy.version}, {said}"
