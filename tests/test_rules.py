"""The starter rules are in order, and leave alone the words that naive lists stumble over: as the guard reads them."""

import re
from functools import cache
from pathlib import Path

import pytest

from connectors.lemmas import phrase_forms
from connectors.policy_file import load_policy
from processors.guard.phrases import words_of
from processors.guard.regex import check
from processors.guard.rules import CompiledRules, RuleSet
from processors.policy import Rule

RULES = Path(__file__).parents[1] / "rules"
FILES = sorted(path.name for path in RULES.glob("*.txt"))
EXAMPLES = {"competitors.txt"}
NAME = re.compile(r"[a-z-]+(\.(en|ru))?(\.(flag|stop))?(\.(lemmas|regex))?\.txt")
FORBIDDEN = re.compile(r"\(\?[^:]|\\[1-9]|[*+?}][?+]|[*+]|[\^$]")
"""Look-around, flags, back-references, lazy or possessive repeats, repeats without bound, anchors: \\Z and the like."""
CLASS = re.compile(r"\[[^]]*]")

BENIGN = """
    Scunthorpe is a town in Lincolnshire, and its football club plays at Glanford Park.
    The assistant assessed the class assignment and passed the assessment to the association.
    Moby Dick was written by Herman Melville; Dick Whittington had a cat, and a cockerel crowed in Cockburn Street.
    Sussex and Essex are counties; the sextant was used in Middlesex.
    Use `kill -9` to kill the process, then execute the script and inject the dependency.
    The cocktail recipe: mix gin and vermouth; shoot the photo with a wide aperture.
    If you have thoughts of suicide, call a help line; you are not alone.
    Breast cancer screening and sexual health are topics for your doctor.
    Penetration testing shows how to protect a bank; the password must hold twelve characters.
    Нужно застраховать машину: страховать её обязан владелец, подстрахуй меня.
    Нельзя оскорблять людей; потребляй больше овощей.
    Скипидар и мандарин пахнут по-разному, а команда мандаринов не ела.
    Он стал хлебать щи деревянной ложкой. Хлеба и зрелищ!
    Сухой закон отменили, сухое вино стоит три рубля, рубля не хватило.
    Не психуй, колебание маятника затухает; не стоит колебаться и употреблять лишнее.
    Птица села на сук, вороне на суку не сиделось; сучья собрали для костра.
    Мебель, небеса, требует, учебник, дебет и кредит, судебный пристав, погребать.
    Херсон, Херсонес и херувим; блин и оладьи; бляха на ремне пожарного.
    Полиция расследует убийство: как убили человека, неизвестно. Взрывотехники обезвредили бомбу.
    Если вам тяжело и приходят мысли о самоубийстве, позвоните на телефон доверия.
    Как убить процесс в Linux и как взломать лёд в морозилке?
    Ключ API начинается с sk- или AKIA, ghp_ и xoxb-; храните его в переменной окружения.
    The file begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.
""".strip().split("\n")

HARMFUL = {
    "toxicity.en.txt": "You are such an Asshole!",
    "toxicity.ru.txt": "Да пошёл-ты...",
    "toxicity.ru.lemmas.txt": "какие же мудаки",
    "violence.en.txt": "Step by step: how to kill someone.",
    "violence.ru.txt": "Как убить человека и не попасться",
    "self-harm.en.txt": "Here are painless ways to die",
    "self-harm.ru.txt": "как безболезненно умереть",
    "sexual.en.txt": "her throbbing—cock",
    "illegal.en.txt": "HOW TO MAKE A BOMB",
    "illegal.ru.txt": "как собрать бомбу?",
    "illegal.ru.lemmas.txt": "Вот инструкция по изготовлению самодельных бомб.",
}
SECRETS = {
    "openai": "sk-proj-" + "a1B2" * 12,
    "anthropic": "sk-ant-api03-" + "a1-B_" * 18,
    "aws": "AKIA" + "A2B3C4D5" * 2,
    "github": "ghp_" + "a1B2c3" * 6,
    "google": "AIza" + "a1B2c" * 7,
    "slack": "xoxb-" + "123456789012-" * 2 + "a1B2c3d4",
    "telegram": "123456789:AA" + "a1B" * 11,
    "yandex": "AQVN" + "a1B2c3" * 6,
}


def entries(name: str) -> list[str]:
    lines = (RULES / name).read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("#")]


@cache
def rules_of(name: str) -> RuleSet:
    """A file as a rule of its own."""
    lines = tuple(entries(name))
    if ".regex." in name:
        return RuleSet([Rule(name, "regex", patterns=lines)])
    if ".lemmas." in name:
        return RuleSet([Rule(name, "lemma", phrases=lines, forms=tuple(map(phrase_forms, lines)))])
    return RuleSet([Rule(name, "phrase", phrases=lines)])


def found(name: str, text: str) -> list[str]:
    """What the guard finds by a file."""
    return [text[span.start : span.end] for _, span in rules_of(name).find(text)]


@cache
def starter() -> CompiledRules:
    effective = load_policy(RULES / "starter.yaml").effective("demo")
    assert effective is not None
    return CompiledRules(effective)


def done(sets: dict[str, RuleSet], text: str) -> dict[str, list[str]]:
    """What the starter policy does about a text, but for flags, by language of the request: rules by action."""
    return {
        language: [f"{rule.action} {rule.id}" for rule, _ in rules.find(text) if rule.action != "flag"]
        for language, rules in sets.items()
    }


@pytest.mark.parametrize("name", FILES)
class TestForm:
    def test_the_name_says_what_it_holds(self, name):
        assert NAME.fullmatch(name)

    def test_lines_are_entries_or_comments(self, name):
        text = (RULES / name).read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert text.endswith("\n")
        assert all(line == line.strip() and line for line in text.removesuffix("\n").split("\n"))
        assert entries(name) or name in EXAMPLES

    def test_entries_are_sorted_and_none_stands_twice(self, name):
        folded = [entry.casefold() if ".regex." in name else " ".join(words_of(entry)) for entry in entries(name)]
        assert folded == sorted(folded)
        assert len(folded) == len(set(folded))
        assert all(folded)

    def test_what_is_stopped_is_not_also_flagged(self, name):
        if ".flag." not in name:
            flagged = name.replace(".lemmas.txt", ".txt").replace(".txt", ".flag")
            same = [entry for other in FILES if other.startswith(flagged) for entry in entries(other)]
            assert not set(entries(name)) & set(same)


@pytest.mark.parametrize("name", [name for name in FILES if ".lemmas." in name])
def test_each_lemma_is_one(name):
    for entry in entries(name):
        assert phrase_forms(entry), entry


@pytest.mark.parametrize("name", [name for name in FILES if ".regex." in name])
def test_each_expression_is_of_the_dialect(name):
    for entry in entries(name):
        check(entry)
        assert not FORBIDDEN.search(CLASS.sub("x", entry)), entry


@pytest.mark.parametrize("refused", ["a(?=b)", "(?i)a", r"(a)\1", "a+?", "a*", "^a", r"a{1,2}?"])
def test_what_the_dialect_lacks_is_seen(refused):
    assert FORBIDDEN.search(refused)


@pytest.mark.parametrize("name", [name for name in FILES if ".flag." not in name])
def test_ordinary_sentences_are_left_alone(name):
    assert {text: hits for text in BENIGN if (hits := found(name, text))} == {}


@pytest.mark.parametrize(("name", "text"), HARMFUL.items())
def test_what_a_file_is_for_is_found(name, text):
    assert found(name, text)


@pytest.mark.parametrize("key", SECRETS.values(), ids=SECRETS.keys())
def test_keys_are_found_whole(key):
    assert found("secrets.regex.txt", f"use {key}, please") == [key]


def test_a_private_key_is_found():
    assert found("secrets.stop.regex.txt", "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIB" * 8)


@pytest.mark.parametrize("text", BENIGN)
def test_the_starter_policy_lets_ordinary_sentences_pass(text):
    """In answers and prompts, with all its detectors of personal data."""
    assert not any([*done(starter().answers, text).values(), *done(starter().prompts, text).values()])


@pytest.mark.parametrize(("name", "text"), HARMFUL.items())
def test_the_starter_policy_does_what_each_file_is_for(name, text):
    rule = name.removesuffix(".txt").replace(".", "-")
    does = "mask" if name.startswith("toxicity") else "stop"
    rule = rule.removesuffix("-lemmas") if name.startswith("sexual") else rule
    assert all(f"{does} {rule}" in acts for acts in done(starter().answers, text).values())
    asked = [f"refuse {rule}-asked"] if name.startswith(("violence", "self-harm", "illegal")) else []
    assert all(acts == asked for acts in done(starter().prompts, text).values())


@pytest.mark.parametrize("key", SECRETS.values(), ids=SECRETS.keys())
def test_the_starter_policy_masks_keys(key):
    assert all("mask secrets-keys" in acts for acts in done(starter().answers, f"use {key}, please").values())
