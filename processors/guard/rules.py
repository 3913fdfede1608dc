"""A tenant's rules, compiled: which phrases judge the prompt and which the answer."""

from processors.guard.phrases import GuardedText, Match, Phrases
from processors.policy import Effective, Rule


class RuleSet:
    """Phrases of several rules in one automaton."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._by_id = {rule.id: rule for rule in rules}
        self._rules = [rule for rule in rules for _ in rule.phrases]
        self.phrases = Phrases(phrase for rule in rules for phrase in rule.phrases)

    def rule(self, match: Match) -> Rule:
        """The rule that a match belongs to."""
        return self._rules[match.phrase]

    def named(self, ids: tuple[str, ...]) -> list[Rule]:
        """The rules of these ids that are in the set."""
        return [self._by_id[name] for name in ids if name in self._by_id]

    def find(self, text: str) -> list[tuple[Rule, Match]]:
        """Everything found in a whole text."""
        guarded = GuardedText(self.phrases)
        matches = guarded.feed(text)[1] + guarded.finish()[1]
        return [(self.rule(match), match) for match in matches]


class CompiledRules:
    """`refuse` judges the prompt, `stop` the answer, `flag` both."""

    def __init__(self, effective: Effective) -> None:
        self.prompt = RuleSet(tuple(rule for rule in effective.rules if rule.action in ("refuse", "flag")))
        self.answer = RuleSet(tuple(rule for rule in effective.rules if rule.action in ("stop", "flag")))
