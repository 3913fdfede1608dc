"""What `sluice up` shows and does around the supervisor."""

import signal
import threading
from pathlib import Path

from rich.console import Console

from connectors.local.process import ServiceError
from connectors.policy_file import load_policy
from processors.errors import Invalid
from processors.policy import SIMULATED, VersionedPolicy
from streams.installation import plan, resource
from streams.scoring import labels_of_model
from streams.settings import Settings
from streams.supervisor import Supervisor, with_home


def build(settings: Settings, console: Console, jars: Path | None = None) -> Supervisor:
    """A supervisor for these settings, whose home is held (`with_home`); says which broker it uses and why.

    `jars` is where Apache Kafka's jars are kept; under the home where none is given.

    Raises:
        Invalid: the policy or a setting is wrong.
    """
    policy = load_policy(settings.policy or default_policy(), lambda: labels_of_model(settings.classifier))
    installation = plan(settings, jars or settings.home / "kafka-jars", simulated=uses_simulated(policy))
    console.print(f"broker: {installation.settings.kafka} ({installation.why})", highlight=False)
    return Supervisor(installation, policy, lambda line: console.print(line, style="yellow", highlight=False))


def serve(settings: Settings, console: Console) -> None:
    """Start everything, say where, and keep it running until SIGINT or SIGTERM.

    Raises:
        Invalid: a setting, the policy, or something that could not be started.
    """
    asked, serving = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        asked.set()
        if not serving.is_set():
            raise KeyboardInterrupt  # whatever is being started, stop it

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    supervisor = build(with_home(settings), console)
    try:
        with console.status("starting") as status:
            services = supervisor.start(lambda line: status.update(line))
        serving.set()
        console.print(f"ready: {services.edge}", style="bold green", highlight=False, soft_wrap=True)
        if supervisor.key:
            console.print(f"key of tenant demo: {supervisor.key}", highlight=False, soft_wrap=True)
        while not asked.wait(0.05):
            supervisor.tend()
    except KeyboardInterrupt:
        console.print("stopped while starting")
    except ServiceError as error:
        raise Invalid("", str(error)) from None
    finally:
        serving.set()  # a second signal does not break the stopping off
        with console.status("stopping"):
            supervisor.stop()


def uses_simulated(policy: VersionedPolicy) -> bool:
    """Whether any provider is the simulated one."""
    return any(provider.base_url == SIMULATED for provider in policy.policy.providers.values())


def default_policy() -> Path:
    """policy.yaml where the command was given, else the project's."""
    here = Path("policy.yaml")
    return here if here.exists() else resource("policy.yaml")
