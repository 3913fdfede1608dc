"""The services of one installation: those the settings name, and our own for the rest."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from connectors.local import kafka as local_kafka
from connectors.local.clickhouse import LocalClickHouse
from connectors.local.embedded import EmbeddedKafka
from connectors.local.kafka import LocalKafka
from connectors.local.process import Service
from connectors.local.redis import LocalRedis
from connectors.local.simulated import LocalSimulated
from processors.errors import Invalid
from streams import topology
from streams.settings import Settings

ROOT = Path(__file__).parents[1]


def resource(name: str) -> Path:
    """A file or folder of the project: the checkout's, else the one packaged with streams."""
    checkout, packaged = ROOT / name, Path(__file__).parent / "resources" / Path(name).name
    return checkout if checkout.exists() else packaged


@dataclass
class Installation:
    """What `sluice up` starts beside the stages. `why` says how the broker was chosen."""

    settings: Settings
    why: str
    services: list[Service] = field(default_factory=list)

    @property
    def development(self) -> bool:
        """The broker is our own, so that nobody else's tenants live here."""
        return self.settings.kafka_mode != "external"

    def start(self) -> Settings:
        """Start what is ours, all at once, and return the settings with every address resolved.

        Raises:
            ServiceError: one could not be started.
        """
        for service in reversed(self.services):  # the broker last: the others start while its directory is formatted
            service.launch()
        found = {service.name: service.await_ready() for service in self.services}
        mode = self.settings.kafka_mode
        broker = found.get("kafka") or found.get("embedded-kafka") or self.settings.kafka
        return replace(
            self.settings,
            kafka=broker,
            redis=found.get("redis", self.settings.redis),
            clickhouse=found.get("clickhouse", self.settings.clickhouse),
            simulated=found.get("simulated", self.settings.simulated),
            embedded=mode == "embedded" or self.settings.embedded,
        )

    def stop(self) -> None:
        """Stop what is ours, the broker last."""
        for service in reversed(self.services):
            service.stop(2.0)


def plan(settings: Settings, jars: Path, *, simulated: bool) -> Installation:
    """Decide what has to be started. `jars` is where Apache Kafka's are kept; `simulated`: the policy names that one.

    Raises:
        Invalid: Apache Kafka was asked for and cannot run here; says why.
    """
    missing = None if settings.kafka_mode in ("embedded", "external") else local_kafka.available()
    if settings.kafka_mode == "local" and missing:
        raise Invalid("SLUICE_KAFKA", f"local needs Java 17 and Maven: {missing}; or choose embedded or HOST:PORT")
    if settings.kafka_mode == "unset":
        settings = replace(settings, kafka="embedded" if missing else "local")
        why = f"no Apache Kafka here: {missing}" if missing else "Java and Maven are here"
    else:
        why = "SLUICE_KAFKA says so"
    services: list[Service] = []
    home = settings.home
    if settings.kafka_mode == "local":
        services.append(LocalKafka(home / "kafka", resource("compose/kafka"), jars))
    elif settings.kafka_mode == "embedded":
        shape = topology.load().sized({}, settings.partitions, own=True)
        services.append(EmbeddedKafka(home / "kafka", {name: shape.partitions_of(name) for name in shape.topics}))
    if not settings.redis:
        services.append(LocalRedis(home / "redis"))
    if not settings.clickhouse:
        services.append(LocalClickHouse(home / "clickhouse"))
    if simulated and not settings.simulated:
        services.append(LocalSimulated(home / "simulated"))
    return Installation(settings, why, services)
