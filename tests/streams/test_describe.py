"""The topology as tables and as a picture: nothing that is declared is missing, nothing is made up."""

import re

import pytest
from rich.console import Console

from streams import describe
from streams.topology import Topic, load


@pytest.fixture(scope="module")
def wanted():
    return load()


@pytest.fixture(scope="module")
def picture(wanted):
    return describe.mermaid(wanted)


def edges(picture: str) -> set[tuple[str, str, str]]:
    return set(re.findall(r"^  (\w+) (<?[-.]+>?(?:\|bad\|)?) (\w+)$", picture, re.MULTILINE))


def test_tables_name_every_topic_and_stage(wanted):
    console = Console(width=240, record=True)
    for table in describe.tables(wanted):
        console.print(table)
    text = console.export_text()
    for name in [*wanted.topics, *wanted.stages]:
        assert re.search(rf"│ {name} +│", text), name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(86400, "1 d"), (90000, "25 h"), (5400, "90 min"), (61, "61 s"), (None, "newest of a key")],
)
def test_how_long_a_topic_is_kept(seconds, text):
    assert describe.kept(Topic(key="k", event="Health", ordering="o", retention_s=seconds)) == text


def test_every_arrow_joins_declared_nodes(picture):
    nodes = set(re.findall(r"^  (\w+)[(\[]", picture, re.MULTILINE))
    assert nodes >= {end for start, _, finish in edges(picture) for end in (start, finish)}


def test_every_public_topic_and_every_stage_is_drawn_once(wanted, picture):
    for name, topic in wanted.topics.items():
        assert picture.count(f'[/"{name}"/]') == (0 if topic.internal else 1)
    for name in wanted.stages:
        assert picture.count(f"<b>{name}</b>") == 1


def test_the_flow_of_a_request_is_drawn(picture):
    assert edges(picture) >= {
        ("outside_producers", "-->", "topic_requests"),
        ("topic_requests", "-->", "stage_admission"),
        ("stage_admission", "-->", "topic_journal"),
        ("topic_journal", "<-->", "stage_dispatch"),
        ("topic_journal", "<-->", "stage_guard"),
        ("stage_guard", "-->", "topic_tokens"),
        ("topic_tokens", "-->", "stage_edge"),
        ("topic_keys", "-.->", "stage_edge"),
        ("stage_fill", "---", "store_redis"),
    }


def test_every_way_of_bad_records_is_red(wanted, picture):
    drawn = [line for line in picture.splitlines() if re.match(r"  \w+ <?[-.]+", line)]
    [numbers] = re.findall(r"linkStyle ([\d,]+) ", picture)
    red = [drawn[int(number)].split()[0] for number in numbers.split(",")]
    assert red == [f"stage_{name}" for name, stage in wanted.stages.items() if "dead-letters" in stage.writes]


def test_a_stage_that_reads_nearly_everything_gets_one_box(wanted, picture):
    assert f'all_sink[/"{"<br/>".join(wanted.stages["sink"].reads)}"/]' in picture
    assert {start for start, _, end in edges(picture) if end == "stage_sink"} == {"all_sink"}


def test_headers_of_a_dead_letter():
    assert describe.dead_letter_header_names()[:3] == (
        "dead-letter-topic",
        "dead-letter-partition",
        "dead-letter-offset",
    )
