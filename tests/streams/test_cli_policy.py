"""`sluice policy`: a file is checked, its schema is the committed one, and it is put in force."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from connectors.kafka.table import CompactedTable
from connectors.local.embedded import EmbeddedKafka
from connectors.policy_file import load_policy
from streams import settings
from streams.cli_policy import app, render_schema

ROOT = Path(__file__).parents[2]

POLICY = """\
version: 1
providers:
  simulated: {base_url: "simulated:"}
routes:
  assistant:
    - {provider: simulated, model: story}
  other:
    - {provider: simulated, model: slow}
tenants:
  demo: {}
rules:
  - id: codename
    kind: phrase
    phrases: ["project nightfall", "проект полночь"]
    severity: 9
prices: {currency: RUB, per_million: {input: 120}}
"""


def sluice(*arguments: str) -> tuple[int, str, str]:
    """Run a command; gives exit code, standard output and standard error."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def changed(tmp_path):
    """A policy file in which one thing is replaced."""

    def changed(old: str = "", new: str = "") -> Path:
        assert old in POLICY
        path = tmp_path / "policy.yaml"
        path.write_text(POLICY.replace(old, new, 1), "utf-8")
        return path

    return changed


class TestCheck:
    """Needs no broker."""

    def test_a_good_one_is_summed_up(self, changed):
        path = changed()
        code, out, err = sluice("check", str(path))
        assert (code, err) == (0, "")
        assert out == f"{path}: version {load_policy(path).version}, 1 provider, 2 routes, 1 tenant, 1 rule\n"

    @pytest.mark.parametrize(
        ("section", "said"),
        [
            ("classifier: {labels: {harmfull: {above: 0.9}}, hold: true}", "classifier.labels.harmfull"),
            ("moderator: {provider: simulated, model: m, ask: {toxic: 0.5}}", "moderator.ask.toxic"),
        ],
    )
    @pytest.mark.parametrize("command", ["check", "apply"])
    def test_labels_are_those_of_the_model(self, changed, tmp_path, monkeypatch, command, section, said):
        """Told by its config.json; to be refused needs neither its graph nor a broker."""
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "harmful", "1": "fine"}}), "utf-8")
        monkeypatch.setenv("SLUICE_CLASSIFIER", str(tmp_path))
        path = changed("version: 1", f"version: 1\n{section}")
        code, _, err = sluice(command, str(path))
        assert (code, err) == (1, f"error: {path}:2: {said}: is no label of the classifier; it has harmful, fine\n")
        if command == "check":
            known = section.replace("harmfull", "harmful").replace("toxic", "fine")
            assert sluice("check", str(changed("version: 1", f"version: 1\n{known}")))[0] == 0

    def test_the_checkouts_own_is_good(self):
        assert sluice("check", str(ROOT / "policy.yaml"))[0] == 0

    def test_a_bad_one_is_shown_by_line(self, changed):
        path = changed("severity: 9", "severity: 11")
        line = path.read_text("utf-8").splitlines().index("    severity: 11") + 1
        assert sluice("check", str(path)) == (
            1,
            "",
            f"error: {path}:{line}: rules[0].severity: expected `int` <= 10\n",
        )

    def test_a_missing_one(self, tmp_path):
        assert "there is no such file" in sluice("check", str(tmp_path / "none.yaml"))[2]


class TestSchema:
    """docs/policy.schema.json, for editors."""

    def test_the_committed_schema_is_the_generated_one(self):
        committed = (ROOT / "docs" / "policy.schema.json").read_text("utf-8")
        assert committed == render_schema(), (
            "docs/policy.schema.json is out of date: run `sluice policy schema --write docs`"
        )

    def test_it_is_printed_or_written(self, tmp_path):
        assert sluice("schema")[1] == render_schema()
        assert sluice("schema", "--write", str(tmp_path / "docs"))[0] == 0
        assert (tmp_path / "docs" / "policy.schema.json").read_text("utf-8") == render_schema()

    @pytest.mark.parametrize(
        ("old", "new", "valid"),
        [
            ("", "", True),
            ("demo: {}", "demo: {limits: {max_output_tokens: 7}, cache: {ttl_s: 1}}", True),
            ("demo: {}", "demo: {limits: {max_tokens: 7}}", False),
            ("demo: {}", "demo: {cache: {when: sometimes}}", False),
            ("severity: 9", "severity: 11", False),
            ("severity: 9", "severity: 9\n    severty: 9", False),
            ("id: codename", "id: code name", False),
            ("currency: RUB", "currency: rubles", False),
            ("version: 1", "version: 2", False),
        ],
    )
    def test_it_agrees_with_our_own_check(self, changed, old, new, valid):
        path = changed(old, new)
        check = jsonschema.Draft202012Validator(json.loads(render_schema()))
        assert check.is_valid(yaml.safe_load(path.read_text("utf-8"))) == valid
        assert (sluice("check", str(path))[0] == 0) == valid

    def test_it_accepts_the_checkouts_own_policy(self):
        policy = yaml.safe_load((ROOT / "policy.yaml").read_text("utf-8"))
        jsonschema.Draft202012Validator(json.loads(render_schema())).validate(policy)

    def test_fields_are_described(self):
        rule = json.loads(render_schema())["$defs"]["Rule"]
        assert rule["description"].startswith("`refuse` judges the prompt")
        assert rule["properties"]["file"]["description"].startswith("A file of phrases")


class TestApply:
    """On the embedded broker."""

    def test_it_is_in_force_with_its_phrases(self, tmp_path, changed, monkeypatch):
        path = changed('phrases: ["project nightfall", "проект полночь"]', "file: words.txt")
        (tmp_path / "words.txt").write_text("project nightfall\nпроект полночь\n", "utf-8")
        embedded = EmbeddedKafka(tmp_path / "kafka", {"policies": 1})
        services = settings.Services(embedded.start(), "redis://unused", "http://unused", embedded=True)
        monkeypatch.setattr(settings, "connected", lambda *_: services)
        try:
            code, out, _ = sluice("apply", str(path))
            assert code == 0
            table = CompactedTable(services.kafka, "policies")
            table.wait_current()
            table.close()
        finally:
            embedded.stop()
        version = load_policy(changed()).version  # the same content, its phrases inline
        assert out.startswith(f"in force: version {version}, ")
        assert set(table.values) == {"current", version}
        assert table.values["current"].policy["rules"][0]["phrases"] == ["project nightfall", "проект полночь"]

    def test_a_bad_one_is_not_published(self, changed, monkeypatch):
        monkeypatch.setattr(settings, "connected", lambda *_: pytest.fail("must not get that far"))
        assert sluice("apply", str(changed("version: 1", "version: 2")))[0] == 1
