"""topics.yaml, read strictly: the topics, and the stages that read and write them.

Whatever it says of the flow is checked here once, so that no stage, command or document has to doubt it.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec

from connectors.kafka.admin import TopicSpec
from connectors.yaml_file import Document
from connectors.yaml_file import load as load_yaml
from processors import events
from processors.errors import Invalid, convert, convert_map

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=1)]

BY_REQUEST = "request id"
"""The key that makes topics co-partitioned."""

ONE_WORKER = 1
"""Partitions on a broker of our own, where each stage has one worker: librdkafka sends one partition a request, so that
four took half as much CPU again at 32 streams (`bench.path`)."""

DEAD_LETTERS = "dead-letters"
KEPT_FOR_STREAMS = ("journal", "tokens")
"""What a rebuild or a resuming reader goes back into, so kept at least twice the longest stream."""

SPECIAL_EVENTS = {
    "raw bytes": "The value of a record that could not be accepted, byte for byte; its headers say where it came from.",
    "faust table": "State of a Faust table; for its stage alone.",
    "stage state": "What a stage keeps of its state, so that a rebuild need not read far back; for its stage alone.",
}
"""What a topic may hold beside events, and how the reference puts it."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Topic(_Entry, frozen=True):
    """One topic as it is declared."""

    key: str
    event: str
    ordering: str
    partitions: Count | None = None
    """None: the topology's, as every topic keyed by request id must have it."""
    cleanup: Literal["delete", "compact"] = "delete"
    retention_s: Count | None = None
    segment_s: Count | None = None
    """How often a new log segment begins; only older ones are compacted or deleted. None: Kafka's default, 7 days."""
    timestamps: Literal["create", "append"] = "create"
    """Whose time a record bears: its producer's, or the broker's when it is appended."""
    max_message_bytes: Count = 1_048_588
    external: Literal["producers", "commands"] | None = None
    """Who writes it from outside the stages."""
    internal: bool = False
    """One stage's own affair; no one else should read it."""

    @property
    def events(self) -> tuple[type, ...]:
        """The event types it holds; none for raw bytes and Faust's tables."""
        if self.event in SPECIAL_EVENTS:
            return ()
        return tuple(kind for name in self.event.split("|") for kind in _types(getattr(events, name.strip())))

    @property
    def config(self) -> dict[str, str]:
        """Kafka's settings of the topic, all we care for and each explicit, so that a drift shows."""
        segments = {"segment.ms": str(self.segment_s * 1000)} if self.segment_s else {}
        return segments | {
            "cleanup.policy": "compact,delete" if self.cleanup == "compact" and self.retention_s else self.cleanup,
            "retention.ms": str(self.retention_s * 1000) if self.retention_s else "-1",
            "message.timestamp.type": "LogAppendTime" if self.timestamps == "append" else "CreateTime",
            "max.message.bytes": str(self.max_message_bytes),
        }


class Stage(_Entry, frozen=True):
    """One stage as it is declared."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    processor: str
    guarantee: str
    runtime: Literal["confluent-kafka", "asyncio", "faust"]
    holds: tuple[str, ...] = ()
    """Compacted topics that each process keeps whole, read from their beginning and without a group."""
    group: bool = True
    """Whether it reads as a consumer group, named like the stage."""
    stores: tuple[str, ...] = ()
    dead_letters: tuple[str, ...] = ()
    """Topics whose bad records this stage, and no other, writes to the dead-letter topic."""


class Topology(_Entry, frozen=True):
    """The whole file."""

    version: Literal[1]
    partitions: Count
    topics: dict[str, Topic]
    stages: dict[str, Stage]
    longest_stream_s: Count = 300

    def partitions_of(self, topic: str) -> int:
        """How many partitions a declared topic has."""
        return self.topics[topic].partitions or self.partitions

    def sized(self, found: Mapping[str, int], asked: int = 0, *, own: bool = False) -> "Topology":
        """With as many partitions as are `asked`; 0: as the broker's topics have (`found`, by topic); where there are
        none, as the file says, or one on a broker of our `own`."""
        there = next(
            (found[name] for name, topic in self.topics.items() if topic.key == BY_REQUEST and name in found), 0
        )
        return msgspec.structs.replace(self, partitions=asked or there or (ONE_WORKER if own else self.partitions))

    def specs(self) -> tuple[TopicSpec, ...]:
        """What Kafka has to provide, for the admin connector."""
        return tuple(TopicSpec(name, self.partitions_of(name), topic.config) for name, topic in self.topics.items())

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Consumer groups and what they read."""
        return {name: stage.reads for name, stage in self.stages.items() if stage.group}

    def writers_of(self, topic: str) -> tuple[str, ...]:
        """Stages that write a topic, then who writes it from outside."""
        outside = self.topics[topic].external
        stages = tuple(name for name, stage in self.stages.items() if topic in stage.writes)
        return stages + ((outside,) if outside else ())

    def readers_of(self, topic: str) -> tuple[str, ...]:
        """Stages that read a topic or hold it whole."""
        return tuple(name for name, stage in self.stages.items() if topic in stage.reads + stage.holds)

    def judge_of(self, topic: str) -> str | None:
        """The stage that writes a topic's bad records to the dead letters."""
        return next((name for name, stage in self.stages.items() if topic in stage.dead_letters), None)


def default_path() -> Path:
    """topics.yaml of the checkout we run from, else the one inside the installed package."""
    checkout = Path(__file__).resolve().parents[1] / "topics.yaml"
    return checkout if checkout.is_file() else Path(str(files("streams") / "resources" / "topics.yaml"))


def load(path: Path | None = None) -> Topology:
    """Read and check a topology.

    Raises:
        InvalidFile: with the line of the entry at fault and what would mend it.
    """
    document = load_yaml(path or default_path())
    with document.located():
        topology = _typed(document)
        for name, topic in topology.topics.items():
            _check_topic(topology, name, topic)
        for name, stage in topology.stages.items():
            _check_stage(topology, name, stage)
        _check_writers(topology)
        _check_judges(topology)
    return topology


def _typed(document: Document) -> Topology:
    data = document.data
    if not isinstance(data, dict):
        raise Invalid("", "a topology is a map with version, partitions, topics and stages")
    topics = _entries(data, Topic, "topics")
    stages = _entries(data, Stage, "stages")
    rest = {name: value for name, value in data.items() if name not in ("topics", "stages")}
    typed = convert(rest | {"topics": {}, "stages": {}}, Topology)
    return msgspec.structs.replace(typed, topics=topics, stages=stages)


def _entries(data: dict[str, Any], kind: type[T], section: str) -> dict[str, T]:
    if not data.get(section):
        raise Invalid(section, "is missing or empty")
    return convert_map(data[section], kind, section)


def _check_topic(topology: Topology, name: str, topic: Topic) -> None:
    at = f"topics.{name}"
    _check_event(topic.event, f"{at}.event")
    if topic.cleanup == "delete" and topic.retention_s is None:
        raise Invalid(f"{at}.retention_s", "is missing; say how long records are kept, or `cleanup: compact`")
    if topic.key == BY_REQUEST and topology.partitions_of(name) != topology.partitions:
        raise Invalid(
            f"{at}.partitions",
            f"must be {topology.partitions} as for every topic keyed by {BY_REQUEST}; remove it",
        )
    least = 2 * topology.longest_stream_s
    if name in KEPT_FOR_STREAMS and topic.retention_s is not None and topic.retention_s < least:
        raise Invalid(f"{at}.retention_s", f"must be at least {least}, twice longest_stream_s")


def _check_event(event: str, path: str) -> None:
    if event in SPECIAL_EVENTS:
        return
    for name in event.split("|"):
        if name.strip() not in events.__all__ or not _types(getattr(events, name.strip())):
            special = " or ".join(f"`{known}`" for known in SPECIAL_EVENTS)
            raise Invalid(path, f"{name.strip()!r} is no event type of processors.events; nor is it {special}")


def _types(exported: Any) -> tuple[type, ...]:
    """The structs behind an exported name: the type itself, or the members of a union."""
    members = get_args(exported) or (exported,)
    structs = tuple(kind for kind in members if isinstance(kind, type) and issubclass(kind, msgspec.Struct))
    return structs if len(structs) == len(members) else ()


def _check_stage(topology: Topology, name: str, stage: Stage) -> None:
    at = f"stages.{name}"
    for section in ("reads", "holds", "writes", "dead_letters"):
        for index, topic in enumerate(getattr(stage, section)):
            if topic not in topology.topics:
                known = ", ".join(topology.topics)
                raise Invalid(f"{at}.{section}[{index}]", f"{topic!r} is not declared under topics ({known})")
    for index, topic in enumerate(stage.holds):
        if topology.topics[topic].cleanup != "compact":
            raise Invalid(f"{at}.holds[{index}]", f"{topic!r} is not compacted; put it under reads")
        if topic in stage.reads:
            raise Invalid(f"{at}.holds[{index}]", f"{topic!r} stands under reads as well; keep one")
    if not _exists(stage.processor):
        raise Invalid(f"{at}.processor", f"{stage.processor!r} cannot be imported; name an existing module")


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _check_writers(topology: Topology) -> None:
    written = {topic for stage in topology.stages.values() for topic in stage.writes}
    for name, topic in topology.topics.items():
        if name not in written and topic.external is None:
            raise Invalid(
                f"topics.{name}", "no stage writes it; add it to a stage's writes or say who does: `external`"
            )


def _check_judges(topology: Topology) -> None:
    judges: dict[str, str] = {}
    for path, name, topic in _judged(topology.stages.items()):
        if topic not in topology.stages[name].reads:
            raise Invalid(path, f"{name} does not read {topic!r}, so it cannot judge its records")
        if DEAD_LETTERS not in topology.stages[name].writes:
            raise Invalid(path, f"{name} must write {DEAD_LETTERS!r} to put bad records there")
        if topic in judges:
            raise Invalid(path, f"{judges[topic]} judges {topic!r} already; one stage a topic")
        judges[topic] = name


def _judged(stages: Iterable[tuple[str, Stage]]) -> Iterator[tuple[str, str, str]]:
    for name, stage in stages:
        for index, topic in enumerate(stage.dead_letters):
            yield f"stages.{name}.dead_letters[{index}]", name, topic
