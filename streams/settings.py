"""Where we run: chosen by environment only, in one frozen object. Unknown SLUICE_* names are errors; no secret is here.

What is decided (rules, routes, limits) stands in policy.yaml; what flows where in topics.yaml.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from processors.errors import Invalid

SERVICES_FILE = "services.json"
ADDRESSES = {"kafka": "HOST:PORT", "redis": "redis://HOST:PORT/DB", "clickhouse": "http://HOST:PORT"}
"""How each service is named."""


@dataclass(frozen=True)
class Settings:
    """The environment of one process. Each field is the variable SLUICE_<NAME IN CAPITALS>."""

    kafka: str = field(
        default="", metadata={"help": "local | embedded | HOST:PORT[,HOST:PORT…]; unset: local where Java is"}
    )
    redis: str = field(default="", metadata={"help": "redis://HOST:PORT/DB; unset: a redis-server of our own"})
    clickhouse: str = field(
        default="", metadata={"help": "http://HOST:PORT; unset: chDB behind ClickHouse's interface"}
    )
    partitions: int = field(
        default=0,
        metadata={
            "help": "of the topics keyed by request id, when they are created; unset: 1 where `sluice up` starts "
            "the broker, else what topics.yaml says"
        },
    )
    home: Path = field(default=Path(".sluice"), metadata={"help": "state of this installation"})
    policy: Path | None = field(default=None, metadata={"help": "policy file; unset: policy.yaml"})
    classifier: Path | None = field(
        default=None, metadata={"help": "folder of the guard's text classifier; unset: the one that comes with us"}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "address the edge listens on"})
    port: int = field(default=8080, metadata={"help": "port the edge listens on; 0 picks a free one"})
    metrics_port: int = field(default=0, metadata={"help": "loopback port of /metrics; 0 picks a free one"})
    simulated: str = field(default="", metadata={"help": "URL of the simulated provider; set by `sluice up`"})
    instance: int = field(default=0, metadata={"help": "number of this worker of its stage"})
    instances: int = field(default=1, metadata={"help": "how many edges share the partitions"})
    drain_s: float = field(default=60.0, metadata={"help": "how long dispatch finishes open runs after SIGTERM"})
    embedded: bool = field(
        default=False, metadata={"help": "the broker is librdkafka's in-process one; set by `sluice up`"}
    )

    @property
    def kafka_mode(self) -> Literal["local", "embedded", "external", "unset"]:
        """Which kind of broker `kafka` asks for."""
        if self.kafka in ("local", "embedded"):
            return "local" if self.kafka == "local" else "embedded"
        return "external" if self.kafka else "unset"

    @property
    def fetch_wait_ms(self) -> int:
        """How long a fetch may wait for data. A broker answers as soon as there is some; the embedded one sleeps on."""
        return 5 if self.embedded else 500


class Services(msgspec.Struct, frozen=True):
    """Addresses of a running pipeline, as `sluice up` writes them to SLUICE_HOME/services.json."""

    kafka: str
    redis: str
    clickhouse: str
    embedded: bool = False
    edge: str = ""
    metrics: str = ""
    simulated: str = ""
    pid: int = 0


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment.

    Raises:
        Invalid: an unknown SLUICE_* name, or a value that does not fit; names the variable.
    """
    known = {f"SLUICE_{item.name.upper()}": item for item in fields(Settings)}
    values: dict[str, object] = {}
    for name, raw in environ.items():
        if not name.startswith("SLUICE_"):
            continue
        if name not in known:
            raise Invalid(name, f"is not a setting; known are {', '.join(sorted(known))}")
        if raw:
            values[known[name].name] = _parse(name, raw, known[name].type)
    settings = Settings(**values)  # type: ignore[arg-type]
    _check(settings)
    return settings


_WORDS: dict[object, str] = {int: "a whole number", float: "a number", bool: "one of 0, 1, false, true"}


def _parse(name: str, raw: str, kind: object) -> object:
    try:
        if kind is int:
            return int(raw)
        if kind is float:
            return float(raw)
        if kind is bool:
            return {"0": False, "1": True, "false": False, "true": True}[raw.lower()]
    except (ValueError, KeyError):
        raise Invalid(name, f"{raw!r} is not {_WORDS[kind]}") from None
    return Path(raw) if kind in (Path, Path | None) else raw


def check_port(name: str, port: int) -> None:
    """Refuse what is no port, by the name it was given under."""
    if not 0 <= port < 65536:
        raise Invalid(name, f"{port} is no port; it must lie between 0 and 65535")


def _check(settings: Settings) -> None:
    if settings.kafka_mode == "external" and not all(":" in host for host in settings.kafka.split(",")):
        raise Invalid("SLUICE_KAFKA", f"{settings.kafka!r} is none of local, embedded, HOST:PORT")
    for name, schemes in (
        ("redis", ("redis", "rediss")),
        ("clickhouse", ("http", "https")),
        ("simulated", ("http",)),
    ):
        value = getattr(settings, name)
        if value and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
            raise Invalid(f"SLUICE_{name.upper()}", f"must be a {schemes[0]}:// address")
    check_port("SLUICE_PORT", settings.port)
    check_port("SLUICE_METRICS_PORT", settings.metrics_port)
    if settings.partitions < 0:
        raise Invalid("SLUICE_PARTITIONS", "must be at least 1")
    if settings.instance < 0 or settings.instances < 1:
        raise Invalid("SLUICE_INSTANCE", "must not be negative, and SLUICE_INSTANCES at least 1")


def connected(*needs: str, settings: Settings | None = None) -> Services:
    """The services a command talks to: what the environment names, the rest from the running `sluice up`.

    `needs` are the fields of `Services` that the command cannot do without; others may be empty.

    Raises:
        Invalid: a service that is needed is named by neither; names its variable.
    """
    settings = settings or load_settings()
    running = _running(settings.home) or Services("", "", "")
    kafka = settings.kafka if settings.kafka_mode == "external" else running.kafka
    found = msgspec.structs.replace(
        running,
        kafka=kafka,
        redis=settings.redis or running.redis,
        clickhouse=settings.clickhouse or running.clickhouse,
        embedded=running.embedded if kafka == running.kafka else settings.embedded,
    )
    for name in needs:
        if not getattr(found, name):
            variable, form = f"SLUICE_{name.upper()}", ADDRESSES[name]
            where = settings.home / SERVICES_FILE
            fix = f"names none, and no pipeline runs here ({where} is missing); set it to {form} or start `sluice up`"
            raise Invalid(variable, fix)
    return found


def _running(home: Path) -> Services | None:
    try:
        return msgspec.json.decode((home / SERVICES_FILE).read_bytes(), type=Services)
    except FileNotFoundError:
        return None
