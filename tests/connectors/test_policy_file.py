"""The policy's file: its rules with their files, and every mistake under its file and line."""

import json
from pathlib import Path

import msgspec
import pytest

from connectors.policy_file import load_policy
from connectors.yaml_file import InvalidFile
from processors.policy import parse_policy
from tests.connectors.test_yaml_file import failure

ROOT = Path(__file__).parents[2]
POLICY = """\
version: 1
providers:
  simulated: {base_url: "simulated:"}
routes:
  assistant:
    - {provider: simulated, model: story}
tenants:
  demo: {}
"""


def test_an_empty_file_is_no_policy(write):
    assert "a policy is a map" in failure(load_policy, write("# nothing\n"))


def test_the_policy_of_the_checkout():
    assert load_policy(ROOT / "policy.yaml").effective("demo") is not None


def test_a_mistake_has_its_line(write):
    path = write(POLICY.replace("provider: simulated", "provider: imulated"))
    assert failure(load_policy, path) == (
        "file.yaml:6: routes.assistant[0].provider: 'imulated' is not declared under providers (simulated)"
    )


def test_an_unknown_key_has_its_line(write):
    assert failure(load_policy, write(POLICY + "cahce: {ttl_s: 1}\n")) == "file.yaml:9: cahce: is not known here"


def test_phrases_come_from_a_file(write, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "codenames.txt").write_bytes(
        "\ufeff# secret names\r\nproject nightfall\r\n\r\n  Проект Полночь  \r\n#not this\r\nn° # 5\r\n".encode()
    )
    policy = load_policy(
        write(POLICY + "rules:\n  - {id: names, kind: phrase, phrases: [inline], file: lists/codenames.txt}\n")
    )
    [rule] = policy.policy.rules
    assert rule.phrases == ("inline", "project nightfall", "Проект Полночь", "n° # 5")
    assert rule.file is None


def test_phrases_of_a_tenants_rule(write):
    write("одно слово\n", "words.txt")
    policy = load_policy(write(POLICY.replace("{}", "{rules: [{id: w, kind: phrase, file: words.txt}]}")))
    effective = policy.effective("demo")
    assert effective is not None
    assert effective.rules[0].phrases == ("одно слово",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "words.txt: there is no such file"),
        ("# only\n\n# notes\n", "words.txt: holds no phrase; write one a line"),
        (b"good\nb\xe9d\n", "words.txt:2: is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_bad_phrase_file_is_named_with_its_rule(write, content, message):
    if content is not None:
        write(content, "words.txt")
    path = write(POLICY + "rules:\n  - id: w\n    kind: phrase\n    file: words.txt\n")
    assert failure(load_policy, path) == f"file.yaml:12: rules[0].file: {message}"


def test_a_bad_phrase_file_of_a_tenant_is_named_with_its_rule(write):
    path = write(POLICY.replace("{}", "\n    rules:\n      - {id: w, kind: phrase, file: gone.txt}"))
    assert failure(load_policy, path) == ("file.yaml:10: tenants.demo.rules[0].file: gone.txt: there is no such file")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("demo: {}", "demo: 7", "tenants.demo"),
        ("demo: {}", "demo: {rules: 7}", "tenants.demo.rules"),
        ("demo: {}", "demo: {rules: [7]}", "tenants.demo.rules[0]"),
        ("demo: {}", "demo: {rules: [{id: a, kind: phrase, file: 7}]}", "tenants.demo.rules[0].file"),
        (
            "demo: {}",
            "demo: {rules: [{id: a, kind: phrase, file: x, phrases: 7}]}",
            "tenants.demo.rules[0].phrases",
        ),
        ("tenants:\n  demo: {}", "tenants: 7", "tenants"),
    ],
)
def test_a_wrong_shape_is_left_to_the_policys_own_checks(write, old, new, path):
    assert old in POLICY
    with pytest.raises(InvalidFile) as caught:
        load_policy(write(POLICY.replace(old, new)))
    assert caught.value.path == path


def test_what_is_published_reads_back_as_the_same_version(write):
    write("проект полночь\n", "words.txt")
    text = (
        POLICY + 'rules: [{id: w, kind: phrase, file: words.txt}]\nprices: {per_million: {input: 0.15, output: "6"}}\n'
    )
    policy = load_policy(write(text))
    wire = json.loads(msgspec.json.encode(msgspec.to_builtins(policy.policy)))
    assert parse_policy(wire).version == policy.version


def test_patterns_and_detectors_come_with_their_kind(write):
    write("# keys\n\\bsk-[a-z]{20}\\b\n", "keys.txt")
    rules = (
        "rules:\n"
        "  - {id: keys, kind: regex, file: keys.txt, action: mask}\n"
        "  - {id: people, kind: detector, detectors: [email, phone], action: mask}\n"
    )
    keys, people = load_policy(write(POLICY + rules)).policy.rules
    assert keys.patterns == ("\\bsk-[a-z]{20}\\b",)
    assert people.detectors == ("email", "phone")


def test_a_lemma_brings_its_forms_and_keeps_its_version(write):
    rules = "rules:\n  - {id: harm, kind: lemma, phrases: [убить, pipe bomb]}\n"
    policy = load_policy(write(POLICY + rules))
    [rule] = policy.policy.rules
    assert "убил" in rule.forms[0][0]
    assert "bombs" in rule.forms[1][1]
    assert parse_policy(msgspec.to_builtins(policy.policy)).version == policy.version


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{id: r, kind: regex, patterns: ['a(']}", "file.yaml:10: rules[0].patterns[0]: 'a(': it is no regular"),
        ("{id: r, kind: regex, patterns: ['x*']}", "file.yaml:10: rules[0].patterns[0]: 'x*': it matches the empty"),
        (
            "{id: r, kind: regex, patterns: ['(a+)+b']}",
            "file.yaml:10: rules[0].patterns[0]: '(a+)+b': a repeat without",
        ),
        ("{id: r, kind: regex, phrases: [a]}", "file.yaml:10: rules[0].phrases: has no place in a rule of"),
        ("{id: r, kind: regex, patterns: [a], phrases: [b]}", "file.yaml:10: rules[0].phrases: has no place"),
        ("{id: r, kind: detector, detectors: [mail]}", "file.yaml:10: rules[0].detectors[0]: 'mail': there is no such"),
        ("{id: r, kind: lemma, phrases: [убил]}", "file.yaml:10: rules[0].phrases[0]: "),
        ("{id: r, kind: regex, file: bad.txt}", "bad.txt:3: '[': it is no regular expression"),
        ("{id: r, kind: regex, file: costly.txt}", "costly.txt:2: '[a-z ]{10,1900}!': behind '"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_line(write, rule, message):
    write("# a comment\nfine\n[\n", "bad.txt")
    write("fine\n[a-z ]{10,1900}!\n", "costly.txt")
    assert message in failure(load_policy, write(f"{POLICY}rules:\n  - {rule}\n"))
