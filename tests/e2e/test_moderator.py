"""A second opinion through the whole pipeline: scored, asked beside the stream, written to the journal, obeyed."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import yaml

from models.graph import graph
from models.linear import Linear
from processors.guard.features import PARAMETERS, Features
from tests.e2e.pipeline import POLICY, Pipeline, running
from tests.e2e.test_path import script

WORD = "dynamite"
CALM, ALARMING = ["and so it goes on "] * 60, ["and so it goes on "] * 10 + [f"with {WORD} "] + ["and on "] * 150
JUDGES = {
    "demo": "say?first_ms=100&text=" + quote("unsafe\nS9"),
    "lenient": "say?text=safe",
    "alone": "hang",
}
"""By tenant what its moderator does; that of `alone` never answers, and its policy says what counts then."""


def classifier(folder: Path) -> Path:
    """A model that scores a text for one word in it."""
    table = np.zeros((PARAMETERS["buckets"], 2), np.float32)
    features = Features({"harmful": (3, 5)})
    table[sorted(set(features.of(WORD, "harmful")) - set(features.of(CALM[0], "harmful"))), 0] = 10
    folder.mkdir()
    # Its squares are 0, so nothing is damped.
    (folder / "model.onnx").write_bytes(graph({"harmful": Linear(table, bias=-5.0, power=0.5)}))
    config = {
        "features": PARAMETERS, "labels": ["harmful"], "windows": {"harmful": 400}, "pieces": {"harmful": [3, 5]},
        "stride": 50, "thresholds": {}, "version": "word",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def moderated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    home = tmp_path_factory.mktemp("moderated")
    policy = yaml.safe_load(POLICY.read_text())
    policy["limits"]["max_output_tokens"] = 4000
    policy["classifier"] = {"window_chars": 200, "stride_chars": 50}
    policy["moderator"] = {"provider": "simulated", "model": "", "ask": {"harmful": 0.5}, "category": "harmful"}
    policy["moderator"]["model"] = JUDGES["demo"]
    policy["tenants"] = {tenant: {"moderator": {"model": judge}} for tenant, judge in JUDGES.items()}
    policy["tenants"]["alone"]["moderator"] |= {"timeout_s": 0.5, "silent": "stop"}
    file = home / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, allow_unicode=True))
    model = classifier(home / "model")
    with running(home / "home", kafka="embedded", policy=file, SLUICE_CLASSIFIER=str(model)) as started:
        yield started


def judged(pipeline: Pipeline, request: str, until: str = "run_ended") -> list[tuple[str, int]]:
    """What a moderator said of a request's answer, and how far that had come."""
    found = pipeline.records("journal", request, until)
    return [(event["verdict"], event["at"]) for event in found if event["type"] == "opinion"]


def call_of(pipeline: Pipeline, request: str) -> dict[str, object]:
    """The provider's record of the answer's call."""
    [started] = [one for one in pipeline.records("journal", request, "run_ended") if one["type"] == "run_started"]
    [call] = [one for one in pipeline.provider_calls() if one["request_id"] == started["run"]]
    return call


def test_an_unsafe_opinion_ends_the_stream_and_the_provider_s_call(moderated: Pipeline) -> None:
    request = moderated.ask("script", script(*ALARMING, pace_ms=20))
    text, end = moderated.stream(request)
    assert (end["status"], end["reason"]) == ("stopped", "content_filter")
    assert "moderator" in end["message"]
    assert WORD in text  # nobody waited for the opinion
    assert len(text) < len("".join(ALARMING))
    journal = moderated.records("journal", request, "run_ended")
    kinds = [event["type"] for event in journal if event["type"] in ("opinion", "stop", "run_ended")]
    assert kinds == ["opinion", "stop", "run_ended"]
    [opinion] = [event for event in journal if event["type"] == "opinion"]
    assert (opinion["verdict"], opinion["categories"]) == ("unsafe", ["S9"])
    assert call_of(moderated, request)["how"] == "client_closed"
    verdicts = moderated.records("verdicts", request, "action")
    assert [(one["rule"], one["category"]) for one in verdicts if one["type"] == "verdict"] == [
        ("moderator", "harmful")
    ]


def test_control_what_is_judged_safe_goes_on_to_its_end(moderated: Pipeline) -> None:
    request = moderated.ask("script", script(*ALARMING), tenant="lenient")
    text, end = moderated.stream(request)
    assert (end["status"], text) == ("completed", "".join(ALARMING))
    assert {verdict for verdict, _ in judged(moderated, request, "opinion")} == {"safe"}


def test_control_about_an_answer_without_the_word_nobody_is_asked(moderated: Pipeline) -> None:
    request = moderated.ask("script", script(*CALM))
    text, end = moderated.stream(request)
    assert (end["status"], text) == ("completed", "".join(CALM))
    run = moderated.records("journal", request, "run_ended")[-1]["run"]
    assert not [one for one in moderated.provider_calls() if one["request_id"].startswith(f"opinion-{run}")]


def test_where_it_is_silent_the_policy_says_what_counts(moderated: Pipeline) -> None:
    request = moderated.ask("script", script(*ALARMING), tenant="alone")
    _, end = moderated.stream(request)
    assert (end["status"], end["reason"]) == ("stopped", "content_filter")
    assert "moderator.silent" in end["message"]
    assert {verdict for verdict, _ in judged(moderated, request, "stop")} == {"silent"}
