"""Bad records: each gets what the contract says, and its neighbours flow on."""

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.simulated.texts import STORY
from processors.identity import uuid7
from tests.e2e.pipeline import PARTITIONS, Pipeline, new_id


@pytest.fixture(autouse=True)
def neighbours(pipeline: Pipeline) -> Iterator[None]:
    """A good request before and after each bad one."""
    before = pipeline.ask("story")
    yield
    after = pipeline.ask("story")
    assert pipeline.stream(before)[0] == pipeline.stream(after)[0] == STORY


def request(**changes: Any) -> dict[str, Any]:
    fields = {"id": new_id(), "tenant": "demo", "model": "story", "messages": [{"role": "user", "content": "hi"}]}
    return {name: value for name, value in (fields | changes).items() if value is not None}


def written(**changes: Any) -> bytes:
    return json.dumps(request(**changes)).encode()


MARK = "marked-by-the-test"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: b"\x00\xff not json", "undecodable"),
        (lambda: b'["a list"]', "undecodable"),
        (lambda: written(id="not-a-uuid", user=MARK), "invalid_id"),
        (lambda: written(id=uuid7(int(time.time() * 1000) - 400_000, os.urandom(10))), "invalid_id"),
        (lambda: written(tenant="nobody-we-know"), "unknown_tenant"),
    ],
)
def test_what_nobody_can_be_told_about_is_dead_lettered_byte_for_byte(
    pipeline: Pipeline, make: Callable[[], bytes], error: str
) -> None:
    raw = make()  # now, because an id bears its time
    pipeline.publish_raw(raw, key=b"some-key")
    value, headers = pipeline.dead_letters(raw)
    assert value == raw
    assert headers["dead-letter-error"] == error
    assert headers["dead-letter-topic"] == "requests"
    assert headers["dead-letter-stage"] == "admission"
    assert {"dead-letter-partition", "dead-letter-offset", "dead-letter-timestamp"} <= set(headers)


def test_a_null_value_is_dead_lettered(pipeline: Pipeline) -> None:
    pipeline.publish_raw(None, key=b"null-key")
    value, _ = pipeline.dead_letters(b"null_value")
    assert value is None


def test_a_higher_version_is_dead_lettered(pipeline: Pipeline) -> None:
    raw = json.dumps(request()).encode()
    pipeline.publish_raw(raw, headers=[("v", b"9")])
    assert pipeline.dead_letters(raw)[1]["dead-letter-error"] == "version"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "no-such-model"}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": None}, 400, "messages"),
        ({"temperature": "warm"}, 400, "temperature"),
        ({"n": 3}, 400, "n"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 504, "expires_at"),
        ({"user": "u" * 1_100_000}, 413, None),
    ],
)
def test_what_can_be_told_ends_naming_the_field(
    pipeline: Pipeline, changes: dict[str, Any], status: int, param: str | None
) -> None:
    text, end = pipeline.stream(pipeline.publish(**request(**changes)))
    assert (text, end["status"]) == ("", "failed")
    assert (end["error"]["status"], end["error"].get("param")) == (status, param)


def test_an_expired_request_is_not_executed(pipeline: Pipeline) -> None:
    sent = pipeline.publish(**request(expires_at="2020-01-01T00:00:00Z"))
    _, end = pipeline.stream(sent)
    assert end["reason"] == "expired"
    assert all(event["type"] != "run_started" for event in pipeline.records("journal", sent, "decision"))


def test_the_same_request_again_is_dropped(pipeline: Pipeline) -> None:
    raw = json.dumps(request()).encode()
    sent = json.loads(raw)["id"]
    for _ in range(3):
        pipeline.publish_raw(raw)
    assert pipeline.stream(sent)[0] == STORY
    runs = [e for e in pipeline.records("journal", sent, "run_ended") if e["type"] == "run_started"]
    assert len(runs) == 1


def test_a_reused_id_is_dead_lettered_and_does_not_touch_the_first(pipeline: Pipeline) -> None:
    first = request()
    other = json.dumps(first | {"user": MARK}).encode()
    foreign = json.dumps(first | {"tenant": "other", "user": MARK}).encode()
    pipeline.publish(**first)
    pipeline.records("journal", first["id"], "decision")  # else another partition of `requests` may be read before
    for raw in (other, foreign):
        pipeline.publish_raw(raw)
        value, headers = pipeline.dead_letters(raw)
        assert (value, headers["dead-letter-error"]) == (raw, "id_reused")
    assert pipeline.stream(first["id"])[0] == STORY


def test_garbage_in_the_journal_is_dead_lettered(pipeline: Pipeline) -> None:
    raw = b'{"type":"chunk","id":7}'
    pipeline.publish_raw(raw, topic="journal")
    assert pipeline.dead_letters(raw)[1]["dead-letter-stage"] == "guard"


def test_a_record_in_a_partition_that_its_id_does_not_give(pipeline: Pipeline) -> None:
    sent = new_id()
    raw = json.dumps({"type": "cancel", "id": sent, "tenant": "demo", "note": MARK}).encode()
    for partition in range(PARTITIONS):
        pipeline.publish_raw(raw, topic="journal", partition=partition)
    assert pipeline.dead_letters(raw)[1]["dead-letter-error"] == "wrong_partition"
