"""The policy as operators write it: one YAML file, and the files of phrases and patterns that its rules name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from connectors.lemmas import phrase_forms
from connectors.yaml_file import InvalidFile, load, read_text
from processors.errors import Invalid
from processors.policy import VersionedPolicy, check_labels, parse_policy
from processors.rule import ENTRIES, wrong_with


def load_policy(path: Path, labels: Callable[[], Mapping[str, int]] | None = None) -> VersionedPolicy:
    """Read and check a policy. The lines of each rule's `file` are put into the rule, and the forms of its lemmas.

    `labels` tells those of the classifier that is to score under it, and how many characters of a text's end each looks
    at; it is asked where the policy names any.

    Raises:
        InvalidFile: with the file, line and entry at fault.
    """
    document = load(path)
    with document.located():
        policy = parse_policy(_with_entries(document.data, path.parent))
    if labels is not None and policy.uses_classifier:
        known = labels()
        with document.located():
            check_labels(policy, known)
    return policy


def _with_entries(data: Any, folder: Path) -> Any:
    """The policy with its rules whole. What has not the shape of a policy is left for its checker to name."""
    if not isinstance(data, dict):
        return data
    data = _rules_read(data, "rules", folder)
    tenants = data.get("tenants")
    if isinstance(tenants, dict):
        data["tenants"] = {
            name: _rules_read(tenant, f"tenants.{name}.rules", folder) for name, tenant in tenants.items()
        }
    return data


def _rules_read(section: Any, path: str, folder: Path) -> Any:
    if not isinstance(section, dict) or not isinstance(section.get("rules"), list):
        return section
    rules = [_rule_read(rule, f"{path}[{index}]", folder) for index, rule in enumerate(section["rules"])]
    return section | {"rules": rules}


def _rule_read(rule: Any, path: str, folder: Path) -> Any:
    if not isinstance(rule, dict) or not isinstance(rule.get("kind"), str) or rule["kind"] not in ENTRIES:
        return rule
    field = ENTRIES[rule["kind"]]
    entries = rule.get(field, [])
    if not isinstance(entries, list):
        return rule
    if isinstance(rule.get("file"), str):
        entries = entries + read_entries(folder / rule["file"], rule["kind"], f"{path}.file")
        rule = {name: value for name, value in rule.items() if name != "file"} | {field: entries}
    if rule["kind"] == "lemma":
        rule = rule | {"forms": [_forms(entry, f"{path}.{field}[{index}]") for index, entry in enumerate(entries)]}
    return rule


def _forms(phrase: Any, path: str) -> tuple[tuple[str, ...], ...]:
    try:
        return phrase_forms(str(phrase))
    except (ValueError, ModuleNotFoundError) as error:
        raise Invalid(path, str(error)) from None


def read_entries(file: Path, kind: str, path: str) -> list[str]:
    """A rule's entries, one a line; blank lines and lines that begin with `#` are not read.

    Raises:
        InvalidFile: with the line of an entry that a rule of this kind cannot have.
        Invalid: under `path`: the file is missing, is no UTF-8, or holds no entry.
    """
    try:
        text = read_text(file)
    except InvalidFile as error:
        raise Invalid(path, str(error)) from None
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            wrong = wrong_with(kind, entry)
            if wrong:
                raise InvalidFile(file, number, "", f"{entry[:100]!r}: {wrong}")
            entries.append(entry)
    if not entries:
        raise Invalid(path, f"{file}: holds no phrase; write one a line")
    return entries
