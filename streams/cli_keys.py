"""`sluice keys`: the API keys of tenants."""

from datetime import datetime
from typing import Annotated

import typer

from processors.identity import KEY_LENGTH
from streams.cli_errors import answering_broker, explained

app = typer.Typer(no_args_is_help=True, help="API keys: made, listed, revoked. Every edge knows within a second.")
keys = app


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="A tenant of the policy.")],
    name: Annotated[str, typer.Option(help="What the key is called in `list` and `revoke`.")] = "default",
) -> None:
    """Make a key and print it: the one time it can be seen, only its hash is kept."""
    from connectors.kafka.keys import create_key

    with explained():
        broker = answering_broker()
        _check_declared(broker, tenant)
        key = create_key(broker, tenant, name)
    typer.echo(key)


@app.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
) -> None:
    """Print every key's hash, tenant, name, and since when it is or is no longer in force."""
    from connectors.kafka.keys import list_keys

    with explained():
        found = list_keys(answering_broker())
    for hashed, record in sorted(found.items(), key=lambda item: (item[1].tenant, item[1].created)):
        if tenant in (None, record.tenant):
            state = f"revoked {_when(record.revoked)}" if record.revoked else f"created {_when(record.created)}"
            typer.echo(f"{hashed[:KEY_LENGTH]}  {record.tenant}  {record.name}  {state}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name, or at least 6 characters its hash begins with.")],
    tenant: Annotated[str | None, typer.Option(help="Only among this tenant's keys.")] = None,
) -> None:
    """Take a key out of force, with the sockets and event streams it has opened."""
    from connectors.kafka.keys import revoke_key

    with explained():
        hashed, record = revoke_key(answering_broker(), name, tenant)
    typer.echo(f"revoked {hashed[:KEY_LENGTH]}  {record.tenant}  {record.name}")


def _check_declared(broker: str, tenant: str) -> None:
    """A key of a tenant that the policy in force does not declare would open nothing."""
    from connectors.policies import Policies
    from processors.errors import Invalid

    policies = Policies(broker)
    try:
        policy = policies.wait_current(2.0)
    except TimeoutError:
        return  # nothing is in force yet
    finally:
        policies.close()
    if policy.effective(tenant) is None:
        known = ", ".join(sorted(policy.policy.tenants)) or "none"
        raise Invalid("tenant", f"{tenant!r} is not declared in the policy in force ({known})")


def _when(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
