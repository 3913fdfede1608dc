"""The topology for people: tables for a terminal, and a Mermaid picture."""

from collections.abc import Iterator

from rich.table import Table

from connectors.kafka.dead_letters import dead_letter_headers
from processors.codec import BadRecord
from streams.topology import DEAD_LETTERS, Stage, Topic, Topology

READS_MOST = 5
"""A stage that reads more topics than this gets them as one box, or its arrows would cover the picture."""

BAD = "-.->|bad|"

UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

CLASSES = (
    "classDef topic fill:#eef6ff,stroke:#4878a8,color:#102030",
    "classDef compacted fill:#eefaf0,stroke:#4a8a5a,color:#102030",
    "classDef dead fill:#ffeeee,stroke:#b04848,color:#301010",
    "classDef store fill:#fff8e6,stroke:#a88838,color:#302810",
)


def tables(topology: Topology) -> tuple[Table, Table]:
    """Topics and stages, a row each."""
    return _topics_table(topology), _stages_table(topology)


def _topics_table(topology: Topology) -> Table:
    table = Table(title="Topics")
    for title in ("topic", "parts", "key", "event", "kept", "ordering", "written by", "read by"):
        table.add_column(title, overflow="fold")
    for name, topic in topology.topics.items():
        table.add_row(
            name,
            str(topology.partitions_of(name)),
            topic.key,
            topic.event,
            kept(topic),
            topic.ordering,
            ", ".join(topology.writers_of(name)),
            ", ".join(topology.readers_of(name)),
        )
    return table


def _stages_table(topology: Topology) -> Table:
    table = Table(title="Stages")
    for title in ("stage", "runtime", "reads", "holds", "writes", "stores", "dead-letters of", "guarantee"):
        table.add_column(title, overflow="fold")
    for name, stage in topology.stages.items():
        lists = (stage.reads, stage.holds, stage.writes, stage.stores, stage.dead_letters)
        table.add_row(name, stage.runtime, *(", ".join(items) for items in lists), stage.guarantee)
    return table


def kept(topic: Topic) -> str:
    """How long a topic keeps its records."""
    if topic.retention_s is None:
        return "newest of a key"
    size, unit = next((size, unit) for size, unit in UNITS if topic.retention_s % size == 0)
    return f"{topic.retention_s // size} {unit}"


def dead_letter_header_names() -> tuple[str, ...]:
    """What the headers of a dead letter are called, asked of the code that writes them."""
    return tuple(name for name, _ in dead_letter_headers("", 0, 0, 0, "", BadRecord("", "")))


def mermaid(topology: Topology) -> str:
    """The flow as a Mermaid flowchart.

    Round boxes are stages, slanted ones topics (red the dead letters, green the compacted), cylinders stores. A dotted
    arrow is a table that a stage holds whole, a red one the way of bad records. Internal topics are left out.
    """
    edges = list(_edges(topology))
    red = ",".join(str(number) for number, (_, arrow, _) in enumerate(edges) if arrow == BAD)
    lines = [
        "flowchart LR",
        *_nodes(topology),
        *(f"  {start} {arrow} {end}" for start, arrow, end in edges),
        *(f"  {line}" for line in CLASSES),
        *([f"  linkStyle {red} stroke:#b04848"] if red else []),
    ]
    return "\n".join(lines) + "\n"


def _nodes(topology: Topology) -> Iterator[str]:
    for outside in sorted({topic.external for topic in topology.topics.values() if topic.external}):
        yield f"  {_id('outside', outside)}([{outside}])"
    for name, stage in topology.stages.items():
        yield f'  {_id("stage", name)}("<b>{name}</b><br/>{stage.runtime}")'
        if len(stage.reads) > READS_MOST:
            yield f'  {_id("all", name)}[/"{"<br/>".join(stage.reads)}"/]:::topic'
    for name, topic in topology.topics.items():
        if not topic.internal:
            yield f'  {_id("topic", name)}[/"{name}"/]:::{_class(name, topic)}'
    for store in sorted({store for stage in topology.stages.values() for store in stage.stores}):
        yield f'  {_id("store", store)}[("{store}")]:::store'


def _class(name: str, topic: Topic) -> str:
    if name == DEAD_LETTERS:
        return "dead"
    return "compacted" if topic.cleanup == "compact" else "topic"


def _edges(topology: Topology) -> Iterator[tuple[str, str, str]]:
    for name, topic in topology.topics.items():
        if topic.external:
            yield _id("outside", topic.external), "-->", _id("topic", name)
    for name, stage in topology.stages.items():
        yield from _reading_edges(name, stage)
        yield from _writing_edges(topology, name, stage)


def _reading_edges(name: str, stage: Stage) -> Iterator[tuple[str, str, str]]:
    node = _id("stage", name)
    if len(stage.reads) > READS_MOST:
        yield _id("all", name), "-->", node
    else:
        for topic in stage.reads:
            yield _id("topic", topic), "<-->" if topic in stage.writes else "-->", node
    for topic in stage.holds:
        yield _id("topic", topic), "-.->", node


def _writing_edges(topology: Topology, name: str, stage: Stage) -> Iterator[tuple[str, str, str]]:
    node = _id("stage", name)
    for topic in stage.writes:
        if topic == DEAD_LETTERS:
            yield node, BAD, _id("topic", topic)
        elif topic not in stage.reads and not topology.topics[topic].internal:
            yield node, "-->", _id("topic", topic)
    for store in stage.stores:
        yield node, "---", _id("store", store)


def _id(kind: str, name: str) -> str:
    return f"{kind}_{name.replace('-', '_')}"
