"""A provider that fails, and its successor: one clean answer, or a declared failure. Never two answers spliced."""

import pytest

from connectors.simulated.texts import STORY
from tests.e2e.pipeline import Pipeline


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("refused-then-fine", "connect"),
        ("overloaded-then-fine", "provider_error"),
        ("hanging-then-fine", "timeout_first_token"),
        ("dying-then-fine", None),
    ],
)
def test_a_failure_before_the_first_token_is_made_good(pipeline: Pipeline, model: str, kind: str | None) -> None:
    request = pipeline.ask(model)
    text, end = pipeline.stream(request)
    assert (text, end["status"], end["attempts"]) == (STORY, "completed", 2)
    failed = next(e for e in pipeline.records("outcomes", request, "outcome") if e["attempt"] == 1)
    assert failed["status"] == "failed"
    assert kind is None or failed["error"]["kind"] == kind


@pytest.mark.parametrize("model", ["broken-off", "unfinished", "error-inside"])
def test_a_failure_after_the_first_token_is_declared(pipeline: Pipeline, model: str) -> None:
    text, end = pipeline.stream(pipeline.ask(model))
    assert (end["status"], end["reason"]) == ("failed", "interrupted")
    assert end.get("attempts", 1) == 1
    assert text
    assert STORY not in text


def test_the_last_provider_s_failure_is_told(pipeline: Pipeline) -> None:
    text, end = pipeline.stream(pipeline.ask("down"))
    assert (text, end["status"], end["error"]["status"]) == ("", "failed", 502)
