"""The guard at work on one text: the journal of an answer goes through its fold, as in its stage."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

import msgspec

from processors.errors import Invalid
from processors.evaluate.rows import Task
from processors.events import Chunk, Decision, End, Event, Order, RunEnded, RunStarted, Scored, Target, Tokens, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.messages import Language
from processors.guard.outputs import Out
from processors.guard.personal import DETECTORS
from processors.guard.rules import CompiledRules
from processors.guard.windows import Window
from processors.identity import uuid7
from processors.policy import ClassifierRules, Degeneration, Effective
from processors.record import Record
from processors.rule import Rule
from processors.times import from_ms

_START_MS = 1_795_400_000_000
_START = from_ms(_START_MS)
_ID = uuid7(_START_MS, bytes(10))
_TARGET = Target("evaluation", "evaluation")
_NO_LIMIT = 1 << 50
_IGNORED = Degeneration("ignore", "ignore", "ignore", "ignore")


class GuardFailed(Exception):
    """The guard's fold rejected a record of the text: a fault of the guard, with its words."""


class Seen(NamedTuple):
    """What the guard told of one text. `fed` are the characters of the chunks that went in, `nanoseconds` the CPU time
    that the fold took for them; after a stop nothing more goes in. `given` is what the reader got. `score` is the
    classifier's highest, 0 to 1, for any label of the policy."""

    verdicts: tuple[Verdict, ...]
    stopped: bool
    fed: int
    chunks: int
    nanoseconds: int
    given: str
    score: float = 0.0


Scorer = Callable[[Sequence[Window]], Sequence[Scored]]
"""What a classifier says of ends of texts."""


def asked(effective: Effective, task: Task) -> Effective:
    """The part of a policy that the task asks about, so that nothing else ends an answer before.

    No limits and no budgets. Rules and classifier without the reactions to degeneration; for `loops` the reactions
    without the rest; for `pii` the rules that look for personal data.

    Raises:
        Invalid: nothing is left to judge.
    """
    rules = effective.rules
    if task == "loops":
        rules = ()
        if effective.degeneration == _IGNORED:
            raise Invalid("degeneration", "ignores loops of every kind; let it flag or stop one, to judge that")
    elif task == "pii":
        rules = tuple(rule for rule in rules if rule.kind == "detector")
        if not rules:
            raise Invalid("rules", "has no rule of kind detector; without --policy every detector is judged")
    return msgspec.structs.replace(
        effective,
        rules=rules,
        degeneration=effective.degeneration if task == "loops" else _IGNORED,
        classifier=ClassifierRules() if task in ("loops", "pii") else effective.classifier,
        moderator=None,  # nobody answers here, and the end of an answer would wait for it
        limits=msgspec.structs.replace(effective.limits, max_output_tokens=_NO_LIMIT, max_cost=None, max_seconds=None),
        budgets=(),
    )


def every_detector(effective: Effective) -> Effective:
    """The policy with a rule for each detector, which masks, in place of its own."""
    rules = tuple(Rule(name, "detector", "personal", action="mask", detectors=(name,)) for name in sorted(DETECTORS))
    return msgspec.structs.replace(effective, rules=rules)


class Guard:
    """The guard under a policy; each text is an answer of its own."""

    def __init__(self, effective: Effective, scorer: Scorer = lambda windows: []) -> None:
        """`scorer` is asked where the policy has labels for a classifier."""
        self.effective = effective
        self._rules = CompiledRules(effective)
        self._scorer = scorer

    def judge(self, pieces: Iterable[str], clock: Callable[[], int], language: Language = "en") -> Seen:
        """Stream one text, the answer to a request in this language. `clock` gives nanoseconds of CPU time.

        Scores are read back before the next chunk; in a stage some milliseconds pass, and with them a chunk or two.
        Nothing asks about deadlines: that is what the fold's `tick` is for, which is not called.

        Raises:
            GuardFailed: see there.
        """
        fold = PartitionFold(0, 1, lambda version, tenant: (self.effective, self._rules))
        tenant, until = self.effective.tenant, _START + timedelta(days=1)
        order = Order(_TARGET, until, until)
        decision = Decision(_ID, tenant, 1, self.effective.version, "", order, "", _START, language=language)
        out = _folded(fold, 0, decision) + _folded(fold, 1, RunStarted(_ID, tenant, 1, "run", _TARGET))
        fed = chunks = spent = 0
        score = 0.0
        ended = False
        for chunks, piece in enumerate(pieces, 1):
            record = Record(chunks + 1, _START_MS, Chunk(_ID, tenant, "run", chunks - 1, piece))
            before = clock()
            given, rejected = fold.fold((record,))
            spent += clock() - before
            fed += len(piece)
            if rejected:
                raise GuardFailed(rejected[0].message)
            if fold.windows:
                score = max(score, self._score(fold, chunks + 1, given))
            out += given
            ended = any(type(one.event) is End for one in given)
            if ended:
                break
        if not ended:
            out += _folded(fold, chunks + 2, RunEnded(_ID, tenant, 1, "run", _TARGET, chunks, "stop"))
            score = max(score, self._score(fold, chunks + 2, out))
        ends = [one.event for one in out if isinstance(one.event, End)]
        if len(ends) != 1 or ends[0].status not in ("completed", "stopped"):
            raise GuardFailed(f"the answer had no proper end: {ends}")
        verdicts = tuple(one.event for one in out if isinstance(one.event, Verdict))
        given_back = "".join(one.event.text for one in out if isinstance(one.event, Tokens))
        return Seen(verdicts, ends[0].status == "stopped", fed, chunks, spent, given_back, score)

    def _score(self, fold: PartitionFold, offset: int, out: list[Out]) -> float:
        """Have the windows scored that are due; what follows goes into `out`. Gives the highest score."""
        windows = fold.windows[:]
        fold.windows.clear()
        score = 0.0
        for event in self._scorer(windows):
            out += _folded(fold, offset, event)
            score = max([score, *(event.scores.get(label, 0.0) for label in self.effective.classifier.labels)])
        return score


def _folded(fold: PartitionFold, offset: int, event: Event) -> list[Out]:
    out, rejected = fold.fold((Record(offset, _START_MS, event),))
    if rejected:
        raise GuardFailed(rejected[0].message)
    return out
