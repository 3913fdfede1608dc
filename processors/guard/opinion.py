"""Second opinions: when a moderator is asked about a growing answer, with which words, and how its word is read.

What is asked follows from the journal alone: from a score above a threshold. What is answered stands there, too, and
where no answer has come in time the guard writes that it has not. So a rebuild decides the same.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from processors.events import Judgement, Kind, Opinion, Scored
from processors.guard.automaton import Automaton
from processors.guard.moderator import TEXT, Moderator

MAX_TOKENS = 64
"""Of a moderator's answer: a word and its categories."""
MOST_CHARS = 1000
"""Of a moderator's answer that are read."""
_MOST_CATEGORIES, _LONGEST_CATEGORY = 16, 64

_Place = tuple[Kind, int, int]
"""Kind, choice, and how many characters into that text."""


class Question(msgspec.Struct, frozen=True):
    """The end of an answer, `at` characters into it, for a moderator. From `due_ms` on (milliseconds of Unix time) it
    counts as silent. `policy` is the version that says whom to ask, and how."""

    id: str
    tenant: str
    run: str
    kind: Kind
    choice: int
    at: int
    text: str
    due_ms: int
    policy: str


class OpinionsState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state as part of a snapshot: how often it was asked, where last by kind and choice, what is open."""

    asked: int = 0
    last: tuple[_Place, ...] = ()
    pending: tuple[Question, ...] = ()


class Reaction(NamedTuple):
    """What an opinion leads to, under the name of a rule; the span is what was judged."""

    rule: str
    action: Literal["flag", "stop"]
    span: tuple[int, int]


class Opinions:
    """The questions about one request's answer. The first opinion on each of them counts."""

    def __init__(self, moderator: Moderator, policy: str) -> None:
        self.moderator = moderator
        self.pending: dict[_Place, Question] = {}
        """Asked and not answered."""
        self.fresh: list[Question] = []
        """To be handed to whoever asks; that one clears it."""
        self._policy = policy
        self._asked = 0
        self._last: dict[tuple[Kind, int], int] = {}
        self._hushed: set[_Place] = set()

    def clear(self) -> None:
        """Another text begins, or none follows: what is open of the old one is of no use."""
        self.pending.clear()
        self.fresh.clear()
        self._last.clear()
        self._hushed.clear()

    def consider(self, event: Scored, at: int, text: str, time_ms: int) -> None:
        """Ask about a text, `at` characters long and ending in `text`, if its scores are a reason to."""
        moderator, lane = self.moderator, (event.kind, event.choice)
        if self._asked >= moderator.max_questions:
            return
        if lane in self._last and event.at < self._last[lane] + moderator.every_chars:
            return
        if not any(event.scores.get(label, 0.0) > above for label, above in moderator.ask.items()):
            return
        self._asked += 1
        self._last[lane] = at
        due_ms = time_ms + round(moderator.timeout_s * 1000)
        question = Question(event.id, event.tenant, event.run, *lane, at, text, due_ms, self._policy)
        self.pending[*lane, at] = question
        self.fresh.append(question)

    def answered(self, event: Opinion) -> Reaction | None:
        """Take an opinion. What it leads to, if anything: a later one on the same question does not count."""
        question = self.pending.pop((event.kind, event.choice, event.at), None)
        if question is None or event.verdict == "safe":
            return None
        span = (max(0, event.at - len(question.text)), event.at)
        if event.verdict == "unsafe":
            return Reaction("moderator", self.moderator.action, span)
        return None if self.moderator.silent == "allow" else Reaction("moderator.silent", self.moderator.silent, span)

    def overdue(self, now_ms: float) -> Iterator[Opinion]:
        """That no answer has come, for each question whose time is over; told once."""
        for place, question in self.pending.items():
            if now_ms >= question.due_ms and place not in self._hushed:
                self._hushed.add(place)
                yield opinion_on(question, self.moderator, None)

    def snapshot(self) -> OpinionsState:
        """The state; see `restore`."""
        last = tuple((kind, choice, at) for (kind, choice), at in self._last.items())
        return OpinionsState(self._asked, last, (*self.pending.values(),))

    def restore(self, state: OpinionsState) -> None:
        """Go on from a snapshot. What is open is asked anew: whoever asked may be gone, and the answer with it."""
        self._asked = state.asked
        self._last = {(kind, choice): at for kind, choice, at in state.last}
        self.pending = {(one.kind, one.choice, one.at): one for one in state.pending}
        self.fresh += state.pending


def request_of(moderator: Moderator, text: str) -> dict[str, Any]:
    """The chat completion request that asks about a text."""
    messages = [{"role": turn.role, "content": turn.content.replace(TEXT, text)} for turn in moderator.turns]
    return {"messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}


def opinion_on(question: Question, moderator: Moderator, answer: str | None) -> Opinion:
    """A moderator's answer to a question as a record of the journal; None: it gave none."""
    verdict, categories = read(moderator, answer or "")
    return Opinion(
        question.id,
        question.tenant,
        question.run,
        question.at,
        verdict,
        categories,
        moderator.model,
        question.kind,
        question.choice,
    )


def read(moderator: Moderator, answer: str) -> tuple[Judgement, tuple[str, ...]]:
    """Unsafe with its categories, safe, or, where neither is said, silent.

    The categories stand behind the mark of an unsafe answer, on the rest of its line or on the next, separated by
    commas: `unsafe`, `S1,S2` (Llama Guard 3) or `Safety: Unsafe`, `Categories: Violent` (Qwen3Guard).
    """
    answer = answer[:MOST_CHARS]
    found = _marks(moderator.unsafe, moderator.safe)
    spans = found.spans(answer, found.start, range(2), lambda _, start, end: (start, end), over=True)
    unsafe = next((span for span in spans if span.pattern == 0), None)
    if unsafe is not None:
        return "unsafe", _categories(answer[unsafe.end :])
    return ("safe" if spans else "silent"), ()


@lru_cache(maxsize=64)
def _marks(unsafe: str, safe: str) -> Automaton:
    return Automaton((), (unsafe, safe))


def _categories(rest: str) -> tuple[str, ...]:
    line = next((line for line in rest.splitlines() if line.strip()), "")
    names = (name.strip()[:_LONGEST_CATEGORY] for name in line.rpartition(":")[2].split(","))
    return tuple(name for name in names if name and name != "None")[:_MOST_CATEGORIES]
