"""The committed model, its card and docs/data.md tell of the same data: licences are traced to what was read."""

import hashlib
import json
import re
from pathlib import Path

from connectors.classifier import BUILT_IN
from connectors.policy_file import load_policy
from models.rows import FILES
from models.windows import STRIDE, WINDOWS
from processors.guard.features import PARAMETERS
from processors.policy import ClassifierRules

CARD = (BUILT_IN / "MODEL_CARD.md").read_text(encoding="utf-8")
CONFIG = json.loads((BUILT_IN / "config.json").read_text(encoding="utf-8"))
DATA = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")


def documented(text: str) -> dict[str, str]:
    """By file of docs/data.md its checksum."""
    files = re.split(r"^### `(.+)`$", text.partition("\n## Files\n")[2], flags=re.MULTILINE)[1:]
    sums = [re.search(r"^- SHA-256 `([0-9a-f]{64})`$", section, re.MULTILINE) for section in files[1::2]]
    return {name: found[1] for name, found in zip(files[::2], sums, strict=True) if found}


def carded(text: str) -> dict[str, str]:
    """By file of the model card its checksum."""
    return {name: checksum for checksum, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)}


def test_the_page_and_the_card_name_the_same_files_and_checksums():
    assert documented(DATA) == carded(CARD)
    assert carded(CARD).keys() == set(FILES)


def test_each_file_has_a_repository_a_commit_a_path_and_a_licence():
    source = re.compile(r"^- \[\S+/\S+\]\(https://\S+\) @ `[0-9a-f]{40}\b.*`.*`.+`.*Licence: \S", re.MULTILINE)
    files = DATA.partition("\n## Files\n")[2].partition("\n## Written")[0]
    sections = re.split("^### ", files, flags=re.MULTILINE)[1:]
    assert len(sections) == len(FILES)
    assert [section for section in sections if not source.search(section)] == []


def test_the_model_is_the_one_that_its_version_names():
    checksum = hashlib.sha256((BUILT_IN / "model.onnx").read_bytes()).hexdigest()
    assert CONFIG["version"] == f"guard-{PARAMETERS['version']}-{checksum[:12]}"


def test_a_policy_scores_what_the_model_was_trained_on_unless_told_otherwise():
    rules = ClassifierRules()
    starter = load_policy(Path(__file__).parents[2] / "rules" / "starter.yaml").policy.classifier
    assert (CONFIG["windows"], CONFIG["stride"]) == (WINDOWS, STRIDE)
    for one in (rules, starter):
        assert (one.window_chars, one.stride_chars) == (max(WINDOWS.values()), STRIDE)
    assert {label: rule.above for label, rule in starter.labels.items()} == {
        label: round(above, 2) for label, above in CONFIG["thresholds"].items()
    }


def test_the_control():
    """A changed digit, or a file that is named on one side only, would be seen."""
    checksum = next(iter(carded(CARD).values()))
    assert documented(DATA.replace(checksum, checksum[::-1])) != carded(CARD)
    assert documented(DATA.replace("### `toxic_text_en.jsonl`", "### `other.jsonl`")) != carded(CARD)
