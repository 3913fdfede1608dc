"""A worker that dies is started again, with growing patience."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.errors import Invalid
from processors.identity import key_hash
from streams import supervisor
from streams.installation import Installation
from streams.runtime import Context
from streams.settings import Settings
from streams.supervisor import FIRST_DELAY_S, Supervisor, Worker, development_key, environment, with_home, with_ports
from tests.samples import policy


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker whose program is a Python script: it announces itself and waits, or ends at once."""
    script = tmp_path / "sluice"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, json, pathlib, signal\n"
        "if os.path.exists(os.environ['SLUICE_HOME'] + '/broken'): sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "ready = pathlib.Path(os.environ['SLUICE_HOME']) / 'run' / 'guard-0.json'\n"
        "ready.parent.mkdir(exist_ok=True)\n"
        "ready.write_text(json.dumps({'pid': os.getpid()}))\n"
        "signal.pause()\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(supervisor, "sluice_program", lambda: script)
    subject = Worker(Context("guard", Settings(home=tmp_path)), tmp_path / "guard.log")
    yield subject
    subject.wait(0)


def until(condition: object, worker: Worker, said: list[str], timeout_s: float = 10.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up
        worker.tend(said.append)
        time.sleep(0.01)


def test_a_dead_worker_is_started_again(worker: Worker) -> None:
    said: list[str] = []
    worker.start()
    until(lambda: worker.facts, worker, said)
    assert worker.process is not None
    first = worker.process.pid
    worker.process.kill()
    until(lambda: worker.facts and worker.process and worker.process.pid != first, worker, said)
    assert worker.restarts == 1
    assert "guard-0 ended with status -9; again in 0.2 s" in said[0]


def test_one_that_was_asked_to_end_has_a_successor_at_once_each_time(worker: Worker) -> None:
    said: list[str] = []
    worker.start()
    for number in range(4):
        until(lambda number=number: worker.restarts == number and worker.facts, worker, said)
        assert worker.process is not None
        worker.process.terminate()
        assert worker.process.wait(10) == 0
        worker.tend(said.append)
        assert worker.process.poll() is None
    assert said == ["guard-0 has ended as it was asked to; its successor starts"] * 4


def test_a_worker_that_cannot_start_is_tried_ever_more_rarely(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    said: list[str] = []
    worker.start()
    until(lambda: len(said) >= 3, worker, said)
    assert [line.rpartition("again in ")[2] for line in said[:3]] == ["0.2 s", "0.4 s", "0.8 s"]
    assert FIRST_DELAY_S == 0.2


def test_the_note_of_a_process_before_is_not_taken_for_ready(worker: Worker) -> None:
    worker.context.announce_ready()
    assert worker.facts is None


def test_a_draining_worker_has_a_successor_at_once(worker: Worker) -> None:
    said: list[str] = []
    worker.start()
    until(lambda: worker.facts, worker, said)
    assert worker.process is not None
    draining = worker.process
    worker.context.ready_file.write_text(json.dumps({"pid": draining.pid, "draining": True}))
    until(lambda: worker.process is not draining and worker.facts, worker, said)
    assert draining.poll() is None
    assert worker.leaving == [draining]
    worker.wait(0)
    assert draining.poll() is not None


def test_a_home_is_for_one_pipeline(tmp_path: Path) -> None:
    code = f"from streams.supervisor import *; with_home(Settings(home=Path({str(tmp_path)!r}))); print(1); input()"
    held = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert held.stdout is not None
    assert held.stdout.readline()
    with pytest.raises(Invalid, match="another pipeline runs"):
        with_home(Settings(home=tmp_path))
    held.communicate(b"\n")
    assert with_home(Settings(home=tmp_path)).home == tmp_path


@pytest.mark.parametrize(
    ("found", "order"), [({}, ["begin", "publish", "await"]), ({"policies": 1}, ["publish", "begin", "await"])]
)
def test_no_stage_begins_under_an_old_policy(
    found: dict[str, int], order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none, stages begin while the first is published."""
    done: list[str] = []
    monkeypatch.setattr(supervisor.admin, "partitions", lambda _: found)
    monkeypatch.setattr(supervisor.admin, "apply", lambda *_, **__: None)
    monkeypatch.setattr(supervisor, "publish_policy", lambda *_: done.append("publish"))
    monkeypatch.setattr(Supervisor, "_start_stages", lambda *_: done.append("begin"))
    monkeypatch.setattr(Supervisor, "_await_stages", lambda _: done.append("await"))
    subject = Supervisor(Installation(Settings(kafka="127.0.0.1:1", home=tmp_path), "the test"), policy(), print)
    subject.workers["edge"] = Worker(Context("edge", Settings(home=tmp_path)), tmp_path / "edge.log")
    subject.start()
    assert done == order


def test_settings_travel_by_environment() -> None:
    found = environment(Settings(home=Path("/h"), embedded=True, port=81))
    assert (found["SLUICE_HOME"], found["SLUICE_EMBEDDED"], found["SLUICE_PORT"]) == ("/h", "1", "81")
    assert "SLUICE_POLICY" not in found


def test_ports_are_chosen_once() -> None:
    chosen = with_ports(Settings(port=0))
    assert chosen.port
    assert chosen.metrics_port
    assert with_ports(chosen) == chosen


def test_the_development_key_is_made_once_and_its_owner_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[str] = []
    monkeypatch.setattr(supervisor, "publish_key", lambda bootstrap, key, tenant, name: published.append(key))
    monkeypatch.setattr(supervisor, "list_keys", lambda bootstrap: {key_hash(key): None for key in published})
    key = development_key(Settings(home=tmp_path))
    assert development_key(Settings(home=tmp_path)) == key
    assert published == [key]  # a revoked one is not brought back
    assert (tmp_path / "demo-key").stat().st_mode & 0o077 == 0
