"""docs/events.md is what the sources say, and says it of everything."""

import re
from pathlib import Path

import pytest

from processors import events
from streams import reference
from streams.topology import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def text():
    return reference.render(load())


def test_the_committed_reference_is_the_generated_one(text):
    committed = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert committed == text, "docs/events.md is out of date: run `sluice topics describe --write docs`"


def test_every_topic_and_event_has_its_heading(text):
    wanted = load()
    for name, topic in wanted.topics.items():
        assert f"\n## {name}\n" in text
        for kind in topic.events:
            assert text.count(f"\n### {kind.__name__}\n") == 1


def test_every_link_leads_somewhere(text):
    headings = {line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= headings


def test_what_users_must_be_told(text):
    assert "`priority` and `sensitivity` are validated\n  and carried; they have no effect yet" in text
    assert "Direct access to Kafka is an operator's right" in text


def test_a_field_has_type_default_and_meaning(text):
    assert "| `parts` | list of [AnswerPart](#answerpart) | `[]` |" in text
    assert "| `flags` | list of string | `[]` | Ids of rules that flagged the prompt and let it pass. |" in text
    assert "| `target` | [Target](#target) or null | required |" in text
    assert "| `span` | list of exactly integer, integer | `[0,0]` |" in text
    assert "| `submitted` | time | absent |" in text


def test_kind_of_an_error_is_not_explained_as_kind_of_a_text(text):
    assert "| `kind` | `deadline`, `idle`, `limit` | required |  |" in text
    assert "| `kind` | `content`, `reasoning`, `refusal`, `tool_call` | required | What the text is. |" in text


def test_a_common_meaning_belongs_to_some_field():
    names = {
        field for exported in events.__all__ for field in getattr(getattr(events, exported), "__struct_fields__", ())
    }
    assert set(reference.COMMON) <= names
