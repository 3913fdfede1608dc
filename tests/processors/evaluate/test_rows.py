"""Rows of labelled data: what is taken, and what is said of the rest."""

from typing import Any

import orjson
import pytest

from processors.errors import Invalid
from processors.evaluate.rows import LABELS, Row, Task, TrueSpan, read_row

SPAN = {"start": 5, "end": 12, "type": "EMAIL", "value": "a@b.org"}


def line(**changes: Any) -> bytes:
    row = {"id": "r1", "text": "мне: a@b.org", "label": "clean", "lang": "ru", "source": "s", "meta": {"spans": [SPAN]}}
    return orjson.dumps({name: value for name, value in (row | changes).items() if value is not None})


def refused(task: Task, raw: bytes) -> str:
    with pytest.raises(Invalid) as error:
        read_row(raw, task)
    return str(error.value)


def test_a_row_of_each_kind() -> None:
    spans = (TrueSpan(5, 12, "EMAIL"),)
    assert read_row(line(), "moderation") == Row("r1", "мне: a@b.org", "clean", False, "ru", "s", ())
    assert read_row(line(), "pii") == Row("r1", "мне: a@b.org", "clean", True, "ru", "s", spans)
    assert read_row(line(label="loop"), "loops").positive
    assert read_row(line(label=" Violating "), "early-stop").positive


def test_what_may_be_missing() -> None:
    row = read_row(line(lang=None, source=None, meta=None, id=7), "moderation")
    assert (row.id, row.lang, row.source) == ("7", "unknown", "unknown")
    assert not read_row(line(meta={"spans": []}, label=None), "pii").positive


@pytest.mark.parametrize("task", LABELS)
def test_each_label_has_one_meaning(task: Task) -> None:
    for label, positive in LABELS[task].items():
        assert read_row(line(label=label), task).positive == positive
    assert {True, False} == set(LABELS[task].values())


@pytest.mark.parametrize(
    ("task", "raw", "said"),
    [
        ("moderation", b"{", "is no JSON: "),
        ("moderation", b'{"id": "\xff"}', "is no JSON: "),
        ("moderation", b"[1]", "must be a JSON object"),
        ("moderation", line(text=None), "text: is missing"),
        ("moderation", line(id=None), "id: is missing"),
        ("moderation", line(text=""), "text: is empty"),
        ("moderation", line(text=5), "text: expected `str`"),
        ("moderation", line(label=None), "label: is missing"),
        ("moderation", line(label="degenerate"), "label: 'degenerate' is not known to moderation; known are toxic, "),
        ("loops", line(label="toxic"), "label: 'toxic' is not known to loops; known are degenerate, loop, "),
        ("pii", line(meta=None), "meta.spans: is missing"),
        ("pii", line(meta=3), "meta.spans: is missing"),
        ("pii", line(meta={"spans": [{"start": 1}]}), "meta.spans[0].end: is missing"),
        ("pii", line(meta={"spans": [SPAN | {"end": 13}]}), "meta.spans[0]: 5 to 13 is no part of a text of 12"),
        ("pii", line(meta={"spans": [SPAN | {"end": 5}]}), "meta.spans[0]: 5 to 5 is no part"),
        ("pii", line(meta={"spans": [SPAN | {"start": 8, "end": 12}]}), "its value is 'a@b.org', but '.org' stands"),
    ],
)
def test_a_bad_row_names_its_field(task: Task, raw: bytes, said: str) -> None:
    assert said in refused(task, raw)


def test_spans_do_not_matter_where_nobody_asks_for_them() -> None:
    assert read_row(line(meta={"spans": "none"}), "moderation").spans == ()


def test_a_text_s_letters_tell_the_language_of_the_request() -> None:
    """Rules may be for some languages only, and there is no prompt to tell by."""
    assert read_row(line(text="такой шум"), "moderation").language == "ru"
    assert read_row(line(text="such noise"), "moderation").language == "en"
