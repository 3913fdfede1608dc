"""`sluice topics` against the embedded broker and without one."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors.local.embedded import EmbeddedKafka
from streams import settings
from streams.cli_topics import app
from streams.topology import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sluice(monkeypatch):
    """Run a command; gives exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "250")

    def sluice(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return sluice


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    wanted = load()
    embedded = EmbeddedKafka(
        tmp_path_factory.mktemp("embedded"), {name: wanted.partitions_of(name) for name in wanted.topics}
    )
    yield embedded.start()
    embedded.stop()


@pytest.fixture
def connected(monkeypatch, broker):
    services = settings.Services(broker, "redis://unused", "http://unused", embedded=True)
    monkeypatch.setattr(settings, "connected", lambda *_: services)


class TestDescribe:
    """Needs no broker."""

    def test_tables(self, sluice):
        code, out, _ = sluice("describe")
        assert code == 0
        assert "everything that happens to a request" in " ".join(out.split())

    def test_mermaid(self, sluice):
        assert sluice("describe", "--format", "mermaid")[1].startswith("flowchart LR\n")

    def test_asyncapi_is_the_committed_document(self, sluice):
        assert sluice("describe", "--format", "asyncapi")[1] == (ROOT / "docs" / "asyncapi.yaml").read_text("utf-8")

    def test_write_makes_the_committed_documents(self, sluice, tmp_path):
        code, out, _ = sluice("describe", "--write", str(tmp_path / "docs"))
        assert code == 0
        assert out.count("wrote ") == 2
        for name in ("asyncapi.yaml", "events.md"):
            assert (tmp_path / "docs" / name).read_bytes() == (ROOT / "docs" / name).read_bytes()

    def test_a_bad_file_is_shown_by_line(self, sluice, tmp_path):
        bad = tmp_path / "topics.yaml"
        bad.write_text((ROOT / "topics.yaml").read_text().replace("runtime: faust", "runtime: fast", 1))
        line = bad.read_text().splitlines().index("    runtime: fast") + 1
        code, _, err = sluice("describe", "--file", str(bad))
        assert code == 1
        assert err.startswith(f"error: {bad}:{line}: stages.fill.runtime: invalid enum value 'fast'; must be one of")

    def test_help_teaches(self, sluice):
        help_ = " ".join(sluice("apply", "--help")[1].split())
        assert "never changed" in help_
        assert "SLUICE_KAFKA" in help_


@pytest.mark.usefixtures("connected")
class TestBroker:
    """On the embedded broker; Apache Kafka is tested with the connector."""

    def test_apply_then_nothing_to_do(self, sluice):
        code, out, _ = sluice("apply")
        assert code == 0
        assert "group guard begins at the earliest of journal\n" in out
        assert sluice("apply") == (0, "nothing to do\n", "")

    def test_check_says_what_was_not_compared(self, sluice):
        code, out, err = sluice("check")
        assert (code, out) == (0, f"{len(load().topics)} topics are as they should be\n")
        assert "only names and partition counts were compared" in err

    def test_check_fails_where_something_differs(self, sluice, tmp_path):
        changed = tmp_path / "topics.yaml"
        text = (ROOT / "topics.yaml").read_text()
        changed.write_text(text.replace("partitions: 1\n    retention_s: 1209600", "partitions: 2\n    retention_s: 9"))
        code, out, err = sluice("check", "--file", str(changed))
        assert code == 1
        assert "dead-letters: partitions is 1, should be 2\n" in out
        assert "differences; `sluice topics apply` mends all but partitions" in err
        code, _, err = sluice("apply", "--file", str(changed))
        assert code == 1
        assert "has 1 partitions, should have 2; the number is never changed" in err

    def test_the_number_of_partitions_is_the_broker_s_once_the_topics_are_there(self, sluice, tmp_path):
        changed = tmp_path / "topics.yaml"
        changed.write_text((ROOT / "topics.yaml").read_text().replace("\npartitions: 4", "\npartitions: 8"))
        assert sluice("check", "--file", str(changed))[0] == 0
        assert sluice("apply", "--file", str(changed)) == (0, "nothing to do\n", "")


def test_nothing_runs(sluice, monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))
    for name in ("SLUICE_KAFKA", "SLUICE_REDIS", "SLUICE_CLICKHOUSE"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = sluice("check")
    assert code == 1
    assert "SLUICE_KAFKA: names none, and no pipeline runs here" in err
