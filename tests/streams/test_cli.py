"""What `sluice` refuses at once, and how it says that a service is away."""

import socket
import subprocess
import sys

import pytest
import redis
from confluent_kafka import KafkaError, KafkaException
from typer.testing import CliRunner

from streams import cli_errors
from streams.cli_errors import explained
from streams.commands import app


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("SLUICE_KAFKA", "SLUICE_REDIS", "SLUICE_CLICKHOUSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    monkeypatch.setattr(cli_errors, "ANSWER_S", 0.3)


def refused(*arguments: str) -> str:
    """What a command that fails says."""
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (1, ""), done.exception
    assert done.stderr.count("\n") == 1
    return done.stderr


class TestRun:
    """A stage by itself."""

    @pytest.mark.parametrize("kafka", ["", "local", "embedded"])
    def test_it_needs_a_broker_s_address(self, monkeypatch: pytest.MonkeyPatch, kafka: str) -> None:
        monkeypatch.setenv("SLUICE_KAFKA", kafka)
        assert "SLUICE_KAFKA: a stage's process needs HOST:PORT; `sluice up` sets it" in refused("run", "guard")

    @pytest.mark.parametrize(("stage", "variable"), [("fill", "SLUICE_REDIS"), ("sink", "SLUICE_CLICKHOUSE")])
    def test_it_needs_its_stores(self, monkeypatch: pytest.MonkeyPatch, stage: str, variable: str) -> None:
        monkeypatch.setenv("SLUICE_KAFKA", "127.0.0.1:1")
        assert f"{variable}: a stage's process needs " in refused("run", stage)


LINGERS = "import threading; threading.Thread(target=threading.Event().wait).start()"
"""What the interpreter waits for at its end, as it would for a Kafka client that does not let go."""


class TestTheEnd:
    """A stage's process ends with its work, whatever lingers."""

    @pytest.mark.parametrize(("work", "status", "said"), [("lambda: 0", 0, ""), ("lambda: 1 / 0", 1, "ZeroDivision")])
    def test_it_waits_for_nothing(self, work: str, status: int, said: str) -> None:
        code = f"{LINGERS}\nfrom streams.cli import to_the_end\nto_the_end({work})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == status
        assert said in done.stderr

    def test_the_control_the_interpreter_waits(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", LINGERS], timeout=1, check=False)


class TestUp:
    """The edge's port, before anything is started."""

    def test_what_is_no_port(self) -> None:
        assert "--port: 99999 is no port" in refused("up", "--port", "99999")

    def test_one_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = refused("up", "--port", str(port))
        assert said == f"error: port {port} is taken; choose another with --port, or 0 for any\n"


@pytest.mark.parametrize(
    "arguments", [("policy", "apply", "policy.yaml"), ("keys", "list"), ("keys", "create", "demo")]
)
def test_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setenv("SLUICE_KAFKA", "127.0.0.1:1")
    said = refused(*arguments)
    assert said == "error: Kafka at 127.0.0.1:1 does not answer; is SLUICE_KAFKA right and the broker up?\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)), "does not answer; is SLUICE_KAFKA right"),
        (KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)), "`sluice topics apply`"),
        (TimeoutError("topic keys could not be read"), "topic keys could not be read; is SLUICE_KAFKA right"),
        (redis.ConnectionError("refused"), "does not answer; is SLUICE_REDIS right"),
    ],
)
def test_every_service_s_failure_names_its_setting(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(cli_errors.typer.Exit), explained():
        raise error
    assert words in capsys.readouterr().err
