"""A rule as a policy states it, and whether it can be applied."""

from collections.abc import Collection
from typing import Annotated, Final, Literal

import msgspec

from processors.errors import Invalid
from processors.guard.messages import LANGUAGES
from processors.guard.personal import DETECTORS
from processors.guard.regex import PatternError
from processors.guard.regex import check as check_pattern

CATEGORIES: Final = (
    "toxicity", "violence", "self-harm", "sexual", "illegal", "secrets", "personal", "competitors", "custom",
    "harmful", "unsafe",
)  # fmt: skip
"""Of rules and moderators; a policy may declare more, so that a slip of the pen is told from a category of its own."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`refuse` judges the prompt, `stop` and `mask` the answer, `flag` both and lets them pass."""

    id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
    kind: Literal["phrase", "lemma", "regex", "detector"]
    category: str = "custom"
    """A known one (docs/guard.md), or one that the policy declares under `categories`."""
    severity: Annotated[int, msgspec.Meta(ge=0, le=10)] = 5
    action: Literal["flag", "mask", "stop", "refuse"] = "stop"
    phrases: tuple[str, ...] = ()
    """Of kind `phrase`; of kind `lemma` the dictionary forms that are found in all their forms."""
    patterns: tuple[str, ...] = ()
    """Of kind `regex`: the dialect of processors.guard.regex."""
    detectors: tuple[str, ...] = ()
    """Of kind `detector`: names of processors.guard.personal."""
    file: str | None = None
    """A file of phrases or patterns, one a line; read by the connector, which puts its lines here."""
    forms: tuple[tuple[tuple[str, ...], ...], ...] = ()
    """By phrase of kind `lemma` the forms of each word; put here by the connector that reads the file."""
    languages: tuple[str, ...] = ()
    """Of requests that it judges, by the letters of their prompts: `en`, `ru`. Without any it judges all."""
    tenants: tuple[str, ...] = ()
    """Whose requests it judges. Without any it judges all."""


def check_category(category: str, declared: Collection[str], path: str) -> None:
    """Whether a category is known or declared.

    Raises:
        Invalid: it is neither; the message names those that are.
    """
    known = (*CATEGORIES, *declared)
    if category not in known:
        raise Invalid(
            f"{path}.category",
            f"{category!r} is not known; known are {', '.join(known)}; declare your own under `categories`",
        )


ENTRIES = {"phrase": "phrases", "lemma": "phrases", "regex": "patterns", "detector": "detectors"}
"""By kind of rule where its entries stand."""


def check_rules(rules: tuple[Rule, ...], tenants: Collection[str], categories: Collection[str], path: str) -> None:
    """Whether each rule can be applied; `tenants` and `categories` are those that the policy declares.

    Raises:
        Invalid: with the path below `path` of the entry at fault.
    """
    seen = set()
    for index, rule in enumerate(rules):
        at = f"{path}[{index}]"
        if rule.id in seen:
            raise Invalid(f"{at}.id", f"{rule.id!r} stands twice; give each rule its own id")
        seen.add(rule.id)
        _check_entries(rule, at)
        check_category(rule.category, categories, at)
        for language in rule.languages:
            if language not in LANGUAGES:
                known = ", ".join(LANGUAGES)
                raise Invalid(f"{at}.languages", f"{language!r} is no language that is told apart; known are {known}")
        for tenant in rule.tenants:
            if tenant not in tenants:
                raise Invalid(f"{at}.tenants", f"{tenant!r} is not declared under tenants")


def _check_entries(rule: Rule, at: str) -> None:
    field = ENTRIES[rule.kind]
    entries: tuple[str, ...] = getattr(rule, field)
    for other in {*ENTRIES.values()} - {field}:
        if getattr(rule, other):
            raise Invalid(f"{at}.{other}", f"has no place in a rule of kind {rule.kind}; its entries stand in {field}")
    if not entries:
        raise Invalid(f"{at}.{field}", "is empty; give entries inline or name a file with one a line")
    for number, entry in enumerate(entries):
        wrong = wrong_with(rule.kind, entry)
        if wrong:
            raise Invalid(f"{at}.{field}[{number}]", f"{entry[:100]!r}: {wrong}")
    if rule.kind == "lemma" and len(rule.forms) != len(entries):
        raise Invalid(f"{at}.forms", "must hold the forms of each phrase; `sluice policy apply` puts them there")


def wrong_with(kind: str, entry: str) -> str | None:
    """Why an entry cannot stand in a rule of this kind, and what to write instead."""
    if kind == "regex":
        try:
            check_pattern(entry)
        except PatternError as error:
            return str(error)
    elif kind == "detector":
        if entry not in DETECTORS:
            return f"there is no such detector; known are {', '.join(sorted(DETECTORS))}"
    elif not any(character.isalnum() for character in entry):
        return "it holds no letter or digit; phrases are told by their words"
    return None
