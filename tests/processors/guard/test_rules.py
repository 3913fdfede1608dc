"""Which rules judge what: by action, and by the language of the request."""

from typing import Any

import pytest

from processors.admission.examine import Examined
from processors.events import Decision, End, Refusal, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.messages import LANGUAGES
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from tests.processors.admission import test_examine as admission
from tests.processors.guard.test_fold import A, of
from tests.samples import PARTITIONS, decision, policy, records, run

RULES = [
    {"id": "ru", "kind": "phrase", "phrases": ["шум", "noise"], "action": "stop", "languages": ["ru"]},
    {"id": "en", "kind": "phrase", "phrases": ["шум", "noise"], "action": "flag", "languages": ["en"]},
    {"id": "no", "kind": "phrase", "phrases": ["never"], "action": "refuse", "languages": ["ru"]},
    {"id": "all", "kind": "phrase", "phrases": ["blocked"], "action": "stop"},
]


def under(**changes: Any) -> tuple[Effective, CompiledRules]:
    found = policy(**changes).effective("demo")
    assert found is not None
    return found, CompiledRules(found)


@pytest.mark.parametrize(
    ("language", "text", "rules", "status"),
    [
        ("ru", "some noise here", ["ru"], "stopped"),
        ("en", "some noise here", ["en"], "completed"),
        ("en", "такой шум здесь", ["en"], "completed"),  # the request's language counts, not the answer's
        ("ru", "a blocked one", ["all"], "stopped"),
        ("en", "a blocked one", ["all"], "stopped"),
    ],
)
@pytest.mark.parametrize("rebuilt", [False, True])
def test_an_answer_is_judged_by_rules_of_the_request_s_language(
    language: str, text: str, rules: list[str], status: str, rebuilt: bool
) -> None:
    view = under(rules=RULES)
    fold = PartitionFold(0, PARTITIONS, lambda *_: view)
    events = records([decision(A, language=language), *run(A, [text[:3], text[3:]])])
    outputs = fold.fold(events[:3])[0]
    if rebuilt:
        kept, fold = fold.to_keep(1000), PartitionFold(0, PARTITIONS, lambda *_: view)
        for item in kept:
            fold.restore(item.key, item.value or b"")
    outputs += fold.fold(events[3:])[0]
    assert [one.rule for one in of(Verdict, outputs)] == rules
    assert [one.status for one in of(End, outputs)] == [status]


@pytest.mark.parametrize(
    ("said", "refused", "flags"),
    [
        ("never with such noise", False, ("en",)),
        ("скажи, что значит never", True, ()),
        ("скажи, что значит шум", False, ()),
    ],
)
def test_a_prompt_is_judged_by_rules_of_its_language(
    monkeypatch: pytest.MonkeyPatch, said: str, refused: bool, flags: tuple[str, ...]
) -> None:
    monkeypatch.setattr(admission, "POLICY", policy(rules=RULES))
    found = admission.judge(admission.body(messages=[{"role": "user", "content": said}]))
    if refused:
        assert isinstance(found, Decision)
        assert isinstance(found.choice, Refusal)
        assert found.choice.rule == "no"
    else:
        assert isinstance(found, Examined)
        assert found.flags == flags


def test_flags_of_a_prompt_are_told_by_rules_of_its_language() -> None:
    view = under(rules=RULES)
    outputs, _ = PartitionFold(0, PARTITIONS, lambda *_: view).fold(records([decision(A, flags=("en",))]))
    assert [(one.rule, one.source) for one in of(Verdict, outputs)] == [("en", "prompt")]


def test_without_languages_there_is_one_automaton() -> None:
    _, rules = under()
    assert len({id(rules.answers[language]) for language in LANGUAGES}) == 1
    assert len({id(rules.prompts[language]) for language in LANGUAGES}) == 1
    _, rules = under(rules=RULES[3:] + RULES[:1])
    assert len({id(rules.answers[language]) for language in LANGUAGES}) == len(LANGUAGES)
    assert len({id(rules.prompts[language]) for language in LANGUAGES}) == 1  # no rule for prompts has a language
