"""`sluice evaluate`: known files give known figures, and what is wrong with a file is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams import cli_evaluate
from streams.commands import app

POLICY = """\
version: 1
providers: {p: {base_url: "http://127.0.0.1:1"}}
routes: {m: [{provider: p, model: m}]}
tenants: {first: {}, second: {rules: []}}
rules:
  - {id: bomb, kind: phrase, phrases: ["build a bomb", "собрать бомбу"], category: illegal, severity: 9, action: stop}
  - {id: idiot, kind: regex, patterns: ['idiots?'], category: toxicity, severity: 4, action: mask}
  - {id: odd, kind: phrase, phrases: ["damn"], category: toxicity, severity: 2, action: flag}
  - {id: mail, kind: detector, detectors: [email], category: personal, severity: 6, action: mask}
limits: {max_output_tokens: 3}
"""
MODERATION = [
    {"id": "a", "text": "You can build a bomb with this and that", "label": "harmful", "lang": "en", "source": "x"},
    {"id": "b", "text": "What idiots they are", "label": "toxic", "lang": "en", "source": "x"},
    {"id": "c", "text": "damn them", "label": "toxic", "lang": "en", "source": "y"},
    {"id": "d", "text": "Как собрать бомбу дома", "label": "clean", "lang": "ru", "source": "y"},
    {"id": "e", "text": "Как собрать шкаф дома", "label": "clean", "lang": "ru", "source": "y"},
    {"id": "f", "text": "A fine day, damn fine", "label": "safe", "lang": "en", "source": "x"},
    {"id": "g", "text": "A fine day", "label": "benign", "lang": "en", "source": "x"},
]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a policy, in which the command is given."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLUICE_POLICY", "SLUICE_HOME", "SLUICE_KAFKA"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    return tmp_path


def write(name: str, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


def sluice(*arguments: str) -> tuple[int, str, str]:
    """Run the command; gives exit code, standard output and standard error. Without a policy it is the one here."""
    own = () if "--policy" in arguments or "--starter" in arguments else ("--policy", "policy.yaml")
    done = CliRunner().invoke(app, ("evaluate", *(word for word in arguments if word != "--starter"), *own))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def figures(*arguments: str) -> dict[str, Any]:
    code, out, err = sluice(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def values(part: dict[str, Any], *names: str) -> list[float | None]:
    return [part[name]["value"] for name in names]


class TestModeration:
    def test_its_figures(self) -> None:
        found = figures("moderation", write("m.jsonl", MODERATION))
        assert list(found) == ["task", "n", "overall", "by_lang", "by_source"]
        assert (found["task"], found["n"]) == ("moderation", 7)
        overall = found["overall"]
        assert values(overall, "precision", "recall", "f1") == [pytest.approx(2 / 3, abs=1e-6)] * 3
        # Against 0.9, 0, 0.2 and 0: 0.9 wins 3 and a half, 0.4 wins 3, 0.2 wins 2 and a half of 12 pairs.
        assert values(overall, "false_positive_rate", "auc") == [0.25, 9 / 12]
        released = len("You can ") + len("What  they are") + len("damn them")
        assert overall["leaked_characters"]["value"] == pytest.approx(released / 3, abs=1e-6)
        assert {"seen_at_decision", "tokens_saved", "us_per_chunk", "leaked_share"} <= set(overall)
        for part in (overall, *found["by_lang"].values(), *found["by_source"].values()):
            for figure in part.values():
                assert list(figure) == ["value", "low", "high"]
                if figure["low"] is not None:
                    assert figure["low"] <= figure["value"] <= figure["high"]

    def test_parts(self) -> None:
        found = figures("moderation", write("m.jsonl", MODERATION))
        assert {name: values(part, "recall")[0] for name, part in found["by_source"].items()} == {"x": 1.0, "y": 0.0}
        assert values(found["by_lang"]["ru"], "recall", "false_positive_rate", "auc") == [None, 0.5, None]

    def test_several_files_are_one(self) -> None:
        whole = figures("moderation", write("m.jsonl", MODERATION))
        parts = figures("moderation", write("1.jsonl", MODERATION[:3]), write("2.jsonl", MODERATION[3:]))
        for found in (whole, parts):
            for part in (found["overall"], *found["by_lang"].values(), *found["by_source"].values()):
                del part["us_per_chunk"]  # measured, not counted
        assert whole == parts

    def test_scores(self) -> None:
        figures("moderation", write("m.jsonl", MODERATION), "--scores", "out.jsonl")
        rows = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
        assert [list(row) for row in rows] == [["id", "label", "score", "action", "rule", "position", "spans"]] * 7
        assert [(row["id"], row["score"], row["action"], row["rule"]) for row in rows] == [
            ("a", 0.9, "stop", "bomb"),
            ("b", 0.4, "mask", "idiot"),
            ("c", 0.2, "flag", "odd"),
            ("d", 0.9, "stop", "bomb"),
            ("e", 0.0, "none", None),
            ("f", 0.2, "flag", "odd"),
            ("g", 0.0, "none", None),
        ]
        assert rows[1]["label"] == "toxic"
        assert rows[1]["spans"] == [{"start": 5, "end": 11, "type": "toxicity", "rule": "idiot", "action": "mask"}]
        assert 12 <= rows[1]["position"] <= len("What idiots they are")
        assert (rows[4]["position"], rows[4]["spans"]) == (None, [])

    def test_a_seed_cuts_the_texts(self) -> None:
        def positions(*seed: str) -> list[Any]:
            figures("moderation", write("m.jsonl", MODERATION), "--scores", "out.jsonl", *seed)
            return [json.loads(line)["position"] for line in Path("out.jsonl").read_text("utf-8").splitlines()]

        assert positions() == positions("--seed", "0") != positions("--seed", "4")

    def test_the_table(self) -> None:
        code, out, err = sluice("moderation", write("m.jsonl", MODERATION))
        assert (code, err) == (0, "")
        assert "moderation: 7 rows" in out
        assert "│ false_positive_rate │ 0.250 │ 0.046 to 0.699" in out


class TestPii:
    ROWS = (
        {
            "id": "a", "text": "Mail a@b.org or call John", "label": "pii", "lang": "en", "source": "x",
            "meta": {"spans": [{"start": 5, "end": 12, "type": "EMAIL_ADDRESS", "value": "a@b.org"},
                               {"start": 21, "end": 25, "type": "PERSON", "value": "John"}]},
        },
        {
            "id": "b", "text": "Server 10.20.30.40 is down", "label": "pii", "lang": "en", "source": "x",
            "meta": {"spans": [{"start": 7, "end": 18, "type": "IP_ADDRESS"}]},
        },
        {"id": "c", "text": "Write to c@d.com", "label": "none", "lang": "en", "source": "x", "meta": {"spans": []}},
    )  # fmt: skip

    def test_a_policy_s_detectors(self) -> None:
        found = figures("pii", write("p.jsonl", list(self.ROWS)), "--policy", "policy.yaml")
        assert values(found["overall"], "precision", "recall", "exact_recall") == [0.5, 0.5, 0.5]
        assert values(found["overall"], "false_positive_rate", "leaked_characters") == [1.0, 11 / 2]
        assert values(found["by_type"]["email"], "precision", "recall", "leaked_share") == [0.5, 1.0, 0.0]
        assert values(found["by_type"]["ip"], "precision", "recall", "leaked_share") == [None, 0.0, 1.0]
        assert found["unmapped"] == {"PERSON": 1}

    def test_every_detector_where_no_policy_is_given(self) -> None:
        found = figures("pii", write("p.jsonl", list(self.ROWS)), "--starter")
        assert values(found["by_type"]["ip"], "recall", "leaked_share") == [1.0, 0.0]

    def test_the_table_names_what_is_not_scored(self) -> None:
        assert "not scored: PERSON 1" in sluice("pii", write("p.jsonl", list(self.ROWS)))[1].replace("\n", " ")


def test_without_a_policy_the_starter_rules_are_judged() -> None:
    rows = [
        {"id": "a", "text": "Here is how to make a pipe bomb. First", "label": "violating", "lang": "en"},
        {"id": "b", "text": "Here is how to make a pipe organ. First", "label": "compliant", "lang": "en"},
    ]
    code, out, err = sluice("early-stop", write("s.jsonl", rows), "--json", "--starter", "--scores", "o.jsonl")
    assert (code, err) == (0, "")
    assert values(json.loads(out)["overall"], "recall", "false_positive_rate") == [1.0, 0.0]
    first = json.loads(Path("o.jsonl").read_text().splitlines()[0])
    assert (first["rule"], first["action"]) == ("illegal-en", "stop")


class TestLoopsAndEarlyStop:
    def test_loops(self) -> None:
        rows = [
            {"id": "a", "text": "Again and again he said so. " * 80, "label": "degenerate"},
            {"id": "b", "text": "Once he said that they build a bomb, and that was all.", "label": "clean"},
        ]
        found = figures("loops", write("l.jsonl", rows))["overall"]
        assert values(found, "precision", "recall", "false_positive_rate", "auc") == [1.0, 1.0, 0.0, 1.0]
        assert 0 < values(found, "seen_at_decision")[0] < 0.5 < values(found, "tokens_saved")[0] < 1  # type: ignore[operator]

    def test_early_stop(self) -> None:
        rows = [
            {"id": "a", "text": "First you build a bomb, " + "and then you wait. " * 30, "label": "violating"},
            {"id": "b", "text": "In the end you build a bomb", "label": "violating"},
            {"id": "c", "text": "What idiots they are", "label": "violating"},
            {"id": "d", "text": "What idiots they are", "label": "compliant"},
        ]
        found = figures("early-stop", write("e.jsonl", rows))["overall"]
        assert values(found, "recall", "recall_on_time", "false_positive_rate") == [
            pytest.approx(2 / 3, abs=1e-6), pytest.approx(1 / 3, abs=1e-6), 0.0,
        ]  # fmt: skip
        assert found["tokens_saved"]["value"] > 0.8


class TestWhatIsWrong:
    def test_bad_rows_are_told_and_skipped(self) -> None:
        rows = [MODERATION[0], "", "{", MODERATION[1] | {"label": "fishy"}, {"id": "x", "label": "toxic"}]
        code, out, err = sluice("moderation", write("m.jsonl", rows), "--json")
        assert (code, json.loads(out)["n"]) == (0, 1)
        said = err.splitlines()
        assert said[0].startswith("skipped: m.jsonl:3: is no JSON: ")
        assert said[1].startswith("skipped: m.jsonl:4: label: 'fishy' is not known to moderation; known are ")
        assert said[2:] == ["skipped: m.jsonl:5: text: is missing", "3 rows skipped; 1 judged"]

    def test_of_many_bad_rows_the_first_are_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cli_evaluate, "TOLD", 2)
        err = sluice("moderation", write("m.jsonl", ["{"] * 9 + [MODERATION[0]]), "--json")[2]
        assert err.count("skipped: ") == 2
        assert err.endswith("9 rows skipped, of which 2 are shown; 1 judged\n")

    def test_no_good_row(self) -> None:
        code, out, err = sluice("moderation", write("m.jsonl", ["{"]), "--json")
        assert (code, out) == (2, "")
        assert err.endswith("error: no row could be judged, 1 skipped; see the first messages for why\n")
        assert sluice("moderation", write("empty.jsonl", []))[0] == 2

    def test_a_file_that_cannot_be_read(self) -> None:
        good = write("m.jsonl", MODERATION)
        assert sluice("moderation", good, "none.jsonl") == (2, "", "error: none.jsonl: there is no such file\n")
        assert sluice("moderation", ".") == (2, "", "error: .: cannot be read: Is a directory\n")

    def test_a_task_that_is_none(self) -> None:
        assert sluice("spam", write("m.jsonl", MODERATION))[0] == 2

    def test_a_bad_policy(self) -> None:
        Path("bad.yaml").write_text(POLICY.replace("severity: 9", "severity: 11"), "utf-8")
        code, out, err = sluice("moderation", write("m.jsonl", MODERATION), "--policy", "bad.yaml")
        assert (code, out, err) == (1, "", "error: bad.yaml:6: rules[0].severity: expected `int` <= 10\n")

    def test_scores_do_not_overwrite_what_is_judged(self) -> None:
        path = write("m.jsonl", MODERATION)
        code, _, err = sluice("moderation", path, "--scores", path)
        assert (code, err) == (1, "error: --scores: m.jsonl is one of the files to judge; name another\n")
        assert len(Path(path).read_text("utf-8").splitlines()) == 7
        assert "cannot be written" in sluice("moderation", path, "--scores", "no/such/folder")[2]

    def test_what_the_policy_hides_is_noted(self) -> None:
        hidden = POLICY.replace("severity: 9, action: stop", "severity: 9, action: refuse")
        Path("policy.yaml").write_text(hidden + "moderation: {dry_run: true}\n", "utf-8")
        err = sluice("moderation", write("m.jsonl", MODERATION))[2]
        assert err.splitlines() == [
            "note: moderation.dry_run is on: every rule only flags",
            "note: texts are judged as answers, and rules that refuse judge prompts only: bomb",
        ]
