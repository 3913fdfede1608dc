"""topics.yaml is read strictly: whatever contradicts itself is refused with its line and what would mend it."""

from importlib import import_module
from pathlib import Path

import pytest

from connectors.kafka.admin import TopicSpec
from connectors.yaml_file import InvalidFile
from processors import events
from processors.codec import DECODERS
from streams import topology
from streams.topology import load

ROOT = Path(__file__).parents[2]

SMALL = """\
version: 1
partitions: 4
topics:
  requests:
    {key: none, event: Request, ordering: none, retention_s: 60, external: producers}
  journal:
    key: request id
    event: JournalEvent
    ordering: all
    retention_s: 600
  dead-letters:
    {key: as it was, event: raw bytes, ordering: none, retention_s: 60, partitions: 1}
  policies:
    {key: version, event: PolicyPublished, ordering: none, cleanup: compact, external: commands}
stages:
  guard:
    reads: [requests]
    holds: [policies]
    writes: [journal, dead-letters]
    processor: processors.guard
    guarantee: at least once
    runtime: confluent-kafka
    dead_letters: [requests]
  sink:
    reads: [requests, journal, dead-letters]
    writes: [dead-letters]
    processor: processors.sink
    guarantee: once
    runtime: confluent-kafka
    dead_letters: [journal]
"""


@pytest.fixture
def small(tmp_path):
    """Load SMALL after some replacements."""

    def small(*changes: tuple[str, str]) -> topology.Topology:
        text = SMALL
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
            text = text.replace(old, new)
        path = tmp_path / "topics.yaml"
        path.write_text(text)
        return load(path)

    return small


class TestThisTopology:
    """The checkout's own file."""

    def test_it_is_the_default(self):
        assert topology.default_path() == ROOT / "topics.yaml"
        assert {"requests", "journal", "tokens"} < set(load().topics)

    def test_topics_keyed_by_request_have_the_same_partitions(self):
        wanted = load()
        keyed = [name for name, topic in wanted.topics.items() if topic.key == topology.BY_REQUEST]
        assert {"journal", "tokens", "outcomes", "answers", "verdicts"} <= set(keyed)
        assert {wanted.partitions_of(name) for name in keyed} == {wanted.partitions}

    def test_every_topic_with_events_has_a_decoder_of_the_same_types(self):
        for name, topic in load().topics.items():
            if topic.events and name != "requests":  # read by admission, in two steps
                assert topology._types(DECODERS[name].type) == topic.events

    def test_every_topic_with_events_has_one_judge_of_its_bad_records_or_is_a_table(self):
        wanted = load()
        unjudged = {name for name in wanted.topics if wanted.judge_of(name) is None}
        assert unjudged == {"dead-letters", "keys", "policies", "snapshots", "health-windows-changelog"}

    def test_its_processors_can_be_imported(self):
        for stage in load().stages.values():
            import_module(stage.processor)

    def test_groups(self):
        groups = load().groups()
        assert "edge" not in groups
        assert groups["admission"] == ("requests", "outcomes")
        assert groups["guard"] == ("journal",)


def test_what_a_topic_says_to_kafka(small):
    specs = {
        spec.name: spec for spec in small(("retention_s: 600", "retention_s: 600\n    timestamps: append")).specs()
    }
    assert specs["journal"] == TopicSpec(
        "journal",
        4,
        {
            "cleanup.policy": "delete",
            "retention.ms": "600000",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": "1048588",
        },
    )
    assert specs["dead-letters"].partitions == 1
    assert specs["policies"].config["cleanup.policy"] == "compact"
    [kept] = [
        spec
        for spec in small(("cleanup: compact", "cleanup: compact, retention_s: 9")).specs()
        if spec.name == "policies"
    ]
    assert (kept.config["cleanup.policy"], kept.config["retention.ms"]) == ("compact,delete", "9000")
    assert specs["policies"].config["retention.ms"] == "-1"
    assert specs["policies"].config["message.timestamp.type"] == "CreateTime"


def test_partitions_are_the_broker_s_where_it_has_some(small):
    shape = small()
    assert shape.sized({}).partitions == 4
    assert shape.sized({}, own=True).partitions_of("journal") == 1
    assert shape.sized({"journal": 7, "dead-letters": 2}, own=True).partitions == 7
    assert shape.sized({"journal": 7}, 3).partitions == 3, "what was asked for is refused by the broker's number, aloud"
    assert shape.sized({"journal": 7}).partitions_of("dead-letters") == 1


def test_who_reads_writes_and_judges(small):
    wanted = small()
    assert wanted.writers_of("requests") == ("producers",)
    assert wanted.writers_of("dead-letters") == ("guard", "sink")
    assert wanted.readers_of("policies") == ("guard",)
    assert wanted.readers_of("requests") == ("guard", "sink")
    assert wanted.judge_of("journal") == "sink"
    assert wanted.judge_of("policies") is None


def test_events(small):
    wanted = small(("event: Request,", "event: Request | Envelope,"))
    assert wanted.topics["requests"].events == (events.Request, events.Envelope)
    assert events.Chunk in wanted.topics["journal"].events
    assert wanted.topics["dead-letters"].events == ()


def test_a_stage_without_a_group(small):
    assert small(("guarantee: once", "guarantee: once\n    group: false")).groups() == {"guard": ("requests",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("version: 1", "version: 2")], "1: version: invalid enum value 2"),
        ([("partitions: 4\n", "")], "1: partitions: is missing"),
        ([("partitions: 4\n", "partitions: 0\n")], "2: partitions: expected `int` >= 1"),
        ([("partitions: 4\n", "partitions: 4\npartition: 4\n")], "3: partition: is not known here"),
        ([("partitions: 4\n", "partitions: 4\npartitions: 5\n")], "3: partitions: stands twice; keep one"),
        ([("ordering: all", "order: all")], "9: topics.journal.order: is not known here"),
        ([("    ordering: all\n", "")], "6: topics.journal.ordering: is missing"),
        ([("    retention_s: 600\n", "")], "6: topics.journal.retention_s: is missing; say how long"),
        (
            [("cleanup: compact", "cleanup: compress")],
            "14: topics.policies.cleanup: invalid enum value 'compress'; must be one of compact, delete",
        ),
        (
            [("external: producers", "external: people")],
            "5: topics.requests.external: invalid enum value 'people'; must be one of commands, producers",
        ),
        (
            [("event: JournalEvent", "event: JournalEvents")],
            "8: topics.journal.event: 'JournalEvents' is no event type of processors.events; nor is it `raw bytes`",
        ),
        ([("event: JournalEvent", "event: Kind")], "8: topics.journal.event: 'Kind' is no event type"),
        ([("event: JournalEvent", "event: VERSION")], "8: topics.journal.event: 'VERSION' is no event type"),
        ([("event: JournalEvent", "event: Chunk |")], "8: topics.journal.event: '' is no event type"),
        (
            [("key: request id", "key: request id\n    partitions: 8")],
            "8: topics.journal.partitions: must be 4 as for every topic keyed by request id; remove it",
        ),
        ([("600", "599")], "10: topics.journal.retention_s: must be at least 600, twice longest_stream_s"),
        (
            [("partitions: 4\n", "partitions: 4\nlongest_stream_s: 301\n")],
            "11: topics.journal.retention_s: must be at least 602",
        ),
        ([(", external: producers", "")], "4: topics.requests: no stage writes it; add it to a stage's writes"),
        (
            [("writes: [journal, dead-letters]", "writes: [journal, dead-leters]")],
            "19: stages.guard.writes[1]: 'dead-leters' is not declared under topics (requests, journal, dead-letters, ",
        ),
        ([("holds: [policies]", "holds: [journal]")], "18: stages.guard.holds[0]: 'journal' is not compacted"),
        (
            [("reads: [requests]", "reads: [requests, policies]")],
            "18: stages.guard.holds[0]: 'policies' stands under reads as well; keep one",
        ),
        (
            [("processors.guard", "processors.gard")],
            "20: stages.guard.processor: 'processors.gard' cannot be imported; name an existing module",
        ),
        ([("processors.guard", "no.such.package")], "20: stages.guard.processor: 'no.such.package' cannot be imported"),
        ([("processors.guard", '""')], "20: stages.guard.processor: '' cannot be imported"),
        (
            [("least once\n    runtime: confluent-kafka", "least once\n    runtime: kafka")],
            "22: stages.guard.runtime: invalid enum value 'kafka'; must be one of asyncio, confluent-kafka, faust",
        ),
        (
            [("dead_letters: [journal]", "dead_letters: [policies]")],
            "30: stages.sink.dead_letters[0]: sink does not read 'policies', so it cannot judge its records",
        ),
        (
            [("dead_letters: [journal]", "dead_letters: [journal, requests]")],
            "30: stages.sink.dead_letters[1]: guard judges 'requests' already; one stage a topic",
        ),
        (
            [("writes: [dead-letters]", "writes: []")],
            "30: stages.sink.dead_letters[0]: sink must write 'dead-letters' to put bad records there",
        ),
        ([("reads: [requests]", "reads: requests")], "17: stages.guard.reads: expected `array`, got `str`"),
        ([("reads: [requests]", "reads: [7]")], "17: stages.guard.reads[0]: expected `str`, got `int`"),
    ],
)
def test_mistakes(small, changes, message):
    with pytest.raises(InvalidFile) as caught:
        small(*changes)
    assert str(caught.value).partition("topics.yaml:")[2].startswith(message)


@pytest.mark.parametrize("section", ["topics", "stages"])
@pytest.mark.parametrize("text", ["", "{section}: {{}}\n", "{section}:\n", "{section}: []\n"])
def test_a_section_that_is_not_there(tmp_path, section, text):
    path = tmp_path / "topics.yaml"
    other = {"topics": "stages: {a: {}}\n", "stages": SMALL[: SMALL.index("stages:")].partition("4\n")[2]}[section]
    path.write_text("version: 1\npartitions: 4\n" + other + text.format(section=section))
    with pytest.raises(InvalidFile, match=f"{section}: is missing or empty"):
        load(path)


def test_a_list_is_no_topology(tmp_path):
    path = tmp_path / "topics.yaml"
    path.write_text("- a\n")
    with pytest.raises(InvalidFile, match="a topology is a map"):
        load(path)


def test_the_packaged_file_serves_where_there_is_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(topology, "__file__", str(tmp_path / "site-packages" / "streams" / "topology.py"))
    assert topology.default_path().parts[-3:] == ("streams", "resources", "topics.yaml")
