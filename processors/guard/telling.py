"""Verdicts and actions: what the guard found in a request, and what it did about it."""

from typing import Literal, NamedTuple

from processors.events import Action, Kind, Verdict
from processors.guard.outputs import Out
from processors.identity import content_hash

ActionName = Literal["flag", "mask", "stop", "refuse"]
"""What a rule asks for, and what is done."""


class Position(NamedTuple):
    """How much of which run's text had been seen."""

    run: str
    chars: int
    tokens: int


class Place(NamedTuple):
    """Where in an answer something was found: in which of its texts, from which character to which."""

    kind: Kind = "content"
    choice: int = 0
    span: tuple[int, int] = (0, 0)


_NOWHERE = Place()


class Telling:
    """Writes the verdicts and actions of one request to `out`, numbers and counts them."""

    __slots__ = ("_dry_run", "_id", "_out", "_policy", "_tenant", "actions", "clean", "done", "found", "verdicts")

    def __init__(self, id: str, tenant: str, policy: str, dry_run: bool, out: list[Out]) -> None:
        """In a dry run a finding is told of, with what would have been done, and let pass."""
        self._id, self._tenant, self._policy, self._dry_run, self._out = id, tenant, policy, dry_run, out
        self.verdicts = self.actions = 0
        """How many so far."""
        self.clean = True
        """Whether nothing was found in the answer."""
        self.found: dict[str, int] = {}
        """By rule how many verdicts."""
        self.done: dict[str, int] = {}
        """By action how many."""

    def verdict(
        self,
        at: Position,
        rule: str,
        category: str,
        severity: int,
        action: ActionName,
        place: Place = _NOWHERE,
        text: str = "",
        source: Literal["prompt", "answer"] = "answer",
        detector: str = "",
        score: float | None = None,
        dry_run: bool | None = None,
    ) -> ActionName:
        """Tell what was found and what is asked for. Returns what is to be done."""
        dry_run = self._dry_run if dry_run is None else dry_run
        done: ActionName = "flag" if dry_run else action
        verdict = Verdict(
            id=self._id,
            tenant=self._tenant,
            run=at.run,
            n=self.verdicts,
            rule=rule,
            category=category,
            severity=severity,
            policy=self._policy,
            source=source,
            action=done,
            would=action if dry_run else "",
            detector=detector,
            score=score,
            kind=place.kind,
            choice=place.choice,
            span=place.span,
            text_hash=content_hash(text.encode()) if text else "",
            seen_chars=at.chars,
            seen_tokens=at.tokens,
        )
        self.verdicts += 1
        self.clean &= source == "prompt"
        self.found[rule] = self.found.get(rule, 0) + 1
        self._out.append(Out("verdicts", self._id, verdict))
        return done

    def verdict_on_prompt(
        self, at: Position, rule: str, category: str, severity: int, action: ActionName = "flag"
    ) -> None:
        """Tell what was found in the prompt."""
        self.verdict(at, rule, category, severity, action, source="prompt")

    def verdict_on_limit(self, at: Position, rule: str) -> None:
        """Tell that a limit was reached. It counts in a dry run, too: it says nothing of the text."""
        self.verdict(at, rule, "limits", 0, "stop", dry_run=False)

    def action(self, at: Position, action: ActionName | Literal["hold"], rule: str, reason: str) -> None:
        """Tell what was done about a finding."""
        told = Action(
            id=self._id,
            tenant=self._tenant,
            run=at.run,
            n=self.actions,
            action=action,
            rule=rule,
            reason=reason,
            policy=self._policy,
            seen_chars=at.chars,
            seen_tokens=at.tokens,
        )
        self.actions += 1
        self.done[action] = self.done.get(action, 0) + 1
        self._out.append(Out("verdicts", self._id, told))
