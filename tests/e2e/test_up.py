"""`sluice up` and `sluice demo`: start, stop, restart, and nothing left behind."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import JARS
from tests.e2e.pipeline import SLUICE, Pipeline, environment, left_running, running


@pytest.mark.parametrize("kafka", [pytest.param("local", marks=pytest.mark.kafka), "embedded"])
def test_the_demo(tmp_path: Path, kafka: str) -> None:
    """It shows what it should, its figures come from ClickHouse, and nothing is left running."""
    home = tmp_path / "home"
    home.mkdir()
    JARS.mkdir(parents=True, exist_ok=True)
    (home / "kafka-jars").symlink_to(JARS)
    shown = subprocess.run(
        [SLUICE, "demo"],
        env=environment(home, SLUICE_KAFKA=kafka),
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.startswith(f"broker: {kafka} (SLUICE_KAFKA says so)")
    figures = dict(re.findall(r"│ ([a-z (),]+?) +│ +([0-9][^│]*?) +│", shown.stdout))
    assert (figures["requests"], figures["cache hits"], figures["stopped early"]) == ("6", "1", "1")
    assert (figures["refused"], figures["failed over"]) == ("1", "1")
    assert int(figures["tokens saved (estimated)"]) > 0
    assert "ms" in figures["time to first token, median"]
    assert "RUB" in figures["cost"]
    assert left_running(home / "demo") == []


@pytest.mark.kafka
def test_ctrl_c_ends_open_streams_and_everything(tmp_path: Path) -> None:
    """Everything within 5 s, the open stream told; asserted with 2 s of slack for a busy machine."""
    with running(tmp_path / "home") as pipeline:
        request = pipeline.ask("endless")
        pipeline.records("tokens", request, "tokens")
        edge = psutil.Process(pipeline.stage("edge").pid)
        reader = subprocess.Popen(
            ["curl", "-sN", "-H", f"Authorization: Bearer {pipeline.key}", f"{pipeline.url}/v1/streams/{request}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert reader.stdout is not None
        assert reader.stdout.readline()
        took = pipeline.interrupt()
        seen, _ = reader.communicate(timeout=10)
    assert took < 7
    assert '"status":"failed"' in seen
    assert '"reason":"shutdown"' in seen
    assert not edge.is_running()
    assert left_running(tmp_path / "home") == []


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline whose stages are killed."""
    with running(tmp_path_factory.mktemp("breakable")) as pipeline:
        yield pipeline


@pytest.mark.kafka
@pytest.mark.parametrize("stage", ["admission", "dispatch", "guard", "fill", "health", "sink", "edge"])
def test_a_killed_stage_comes_back_and_the_stream_ends_once(breakable: Pipeline, stage: str) -> None:
    request = breakable.ask("slow")
    breakable.records("tokens", request, "tokens")
    killed = breakable.stage(stage)
    killed.kill()
    text, end = unique(breakable.records("tokens", request, "end"))
    if stage == "dispatch":
        assert (end["status"], end["reason"]) == ("failed", "interrupted")
    else:
        assert (end["status"], text) == ("completed", "".join(f"{n} " for n in range(1, 101)))
    assert breakable.stream_after_restart(stage, killed.pid)


def unique(events: list[dict]) -> tuple[str, dict]:
    """Repeats of a released record are equal, and dropped as every reader drops them."""
    released: dict[int, dict] = {}
    for event in events:
        if event["type"] == "opened":
            continue
        known = released.setdefault(event["seq"], event)
        assert {k: v for k, v in known.items() if k not in ("offset", "at_ms")} == {
            k: v for k, v in event.items() if k not in ("offset", "at_ms")
        }
    assert sorted(released) == list(range(len(released)))
    *texts, end = (released[seq] for seq in sorted(released))
    return "".join(event["text"] for event in texts), end
