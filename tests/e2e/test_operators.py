"""What operators do while the pipeline runs: policies, keys, dead letters, topics, metrics."""

import os
import subprocess
import time
import urllib.request
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
import yaml

from connectors.priority import NICE
from tests.e2e.pipeline import POLICY, SLUICE, Pipeline, environment
from tests.e2e.test_path import script


def sluice(pipeline: Pipeline, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [SLUICE, *arguments], env=environment(pipeline.home), capture_output=True, text=True, errors="replace",
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_policy_is_switched_without_restart_and_a_stream_keeps_its_own(pipeline: Pipeline, tmp_path: Path) -> None:
    data = yaml.safe_load(POLICY.read_text())
    data["rules"].append({"id": "new", "kind": "phrase", "phrases": ["alder reach"], "action": "stop"})
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(data, allow_unicode=True))
    deltas = [*["count "] * 40, "alder ", "reach", " done"]
    older = pipeline.ask("script", script(*deltas, pace_ms=60))
    pipeline.records("tokens", older, "tokens")
    try:
        sluice(pipeline, "policy", "apply", str(changed))
        give_up = time.monotonic() + 5
        while (end := pipeline.stream(pipeline.ask("story"))[1])["status"] != "stopped":
            assert time.monotonic() < give_up
        assert end["reason"] == "content_filter"
        text, end = pipeline.stream(older)
        assert (end["status"], text) == ("completed", "".join(deltas))
    finally:
        sluice(pipeline, "policy", "apply", str(POLICY))
    give_up = time.monotonic() + 5
    while pipeline.stream(pipeline.ask("story"))[1]["status"] != "completed":
        assert time.monotonic() < give_up


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{id: new, kind: phrase, phrases: [silver heron], category: secrts}", "category: 'secrts' is not known"),
        ("{id: new, kind: regex, patterns: ['silver(']}", "patterns[0]: 'silver('"),
        ("{id: new, kind: regex, patterns: ['(silver)?']}", "patterns[0]: '(silver)?'"),
        ("{id: new, kind: regex, patterns: ['(s+)+x']}", "patterns[0]: '(s+)+x'"),
    ],
)
def test_a_bad_policy_is_refused_with_its_line_and_the_old_one_judges_on(
    pipeline: Pipeline, tmp_path: Path, rule: str, said: str
) -> None:
    """In one that is wrong somewhere nothing is switched, also not what is right: here it lacks the rule `codename`."""
    bad = tmp_path / "bad.yaml"
    lines = POLICY.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if "id: codename" in line)
    lines[number] = f"  - {rule}"
    bad.write_text("\n".join(lines))
    assert f"{bad}:{number + 1}: rules[0].{said}" in sluice(pipeline, "policy", "apply", str(bad), status=1)
    for deltas, status in ((["a ", "silver ", "heron"], "completed"), (["a ", "project ", "nightfall"], "stopped")):
        assert pipeline.stream(pipeline.ask("script", script(*deltas)))[1]["status"] == status


def test_a_revoked_key_opens_nothing_within_a_second(pipeline: Pipeline) -> None:
    """Asserted with a second of slack for the command's own start."""
    shown = sluice(pipeline, "keys", "create", "demo", "--name", "short-lived")
    key = next(word for word in shown.split() if word.startswith("sk-sluice-"))

    def status() -> int:
        return httpx.get(f"{pipeline.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

    give_up = time.monotonic() + 2
    while status() != 200:
        assert time.monotonic() < give_up
    assert "short-lived" in sluice(pipeline, "keys", "list")
    sluice(pipeline, "keys", "revoke", "short-lived")
    give_up = time.monotonic() + 2
    while status() != 401:
        assert time.monotonic() < give_up


def test_a_provider_in_bad_health_comes_last(pipeline: Pipeline) -> None:
    give_up = time.monotonic() + 20
    while pipeline.stream(pipeline.ask("overloaded-then-fine"))[1].get("attempts", 1) > 1:
        assert time.monotonic() < give_up, "the failing provider is still tried first"
    with urllib.request.urlopen(pipeline.services["metrics"], timeout=5) as answer:
        metrics = answer.read().decode()
    assert 'provider="simulated"' in metrics


def test_dead_letters_are_listed_shown_and_sent_back(pipeline: Pipeline) -> None:
    raw = b'{"id": "mark-of-the-letter"'
    pipeline.publish_raw(raw)
    pipeline.dead_letters(raw)
    assert "undecodable" in sluice(pipeline, "dead-letters", "list")
    offset = 0
    while raw.decode() not in sluice(pipeline, "dead-letters", "show", str(offset)):
        offset += 1
    assert "sent to requests" in sluice(pipeline, "dead-letters", "redrive", str(offset))
    assert "no dead letter" in sluice(pipeline, "dead-letters", "show", "99999", status=1)


def test_topics_are_as_declared(pipeline: Pipeline) -> None:
    assert "as they should be" in sluice(pipeline, "topics", "check")
    assert "nothing to do" in sluice(pipeline, "topics", "apply")


def test_what_stands_beside_the_path_gives_way_to_it(pipeline: Pipeline) -> None:
    """One session for all: Linux may count niceness within a session only."""
    found = {child.pid: child for child in psutil.Process(pipeline.process.pid).children()}
    path = [pipeline.stage(name) for name in ("admission", "dispatch", "guard", "edge")]
    behind = [pipeline.stage(name) for name in ("fill", "health", "sink")]
    behind += [one for one in found.values() if "connectors.local.clickhouse_server" in one.cmdline()]
    assert [one.nice() for one in path] == [os.nice(0)] * 4
    assert {one.nice() for one in behind} == {min(19, os.nice(0) + NICE)}
    assert len(behind) == 4
    assert {os.getsid(pid) for pid in found} == {os.getsid(pipeline.process.pid)}
    assert len({os.getpgid(pid) for pid in found}) == len(found)


def test_the_stage_s_process_shows_its_command(pipeline: Pipeline) -> None:
    assert "sluice run guard" in " ".join(pipeline.stage("guard").cmdline())
