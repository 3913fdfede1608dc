"""What came of one row: whether the guard was right, how early, and what got through."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, NamedTuple

from processors.evaluate.released import Spans, released, within
from processors.evaluate.rows import Row, Task, TrueSpan
from processors.evaluate.run import Seen
from processors.events import Verdict
from processors.guard.personal import TYPES
from processors.money import estimate_tokens
from processors.policy import Limits

Done = Literal["none", "flag", "mask", "stop"]
_STRONGEST: tuple[Done, ...] = ("stop", "mask", "flag", "none")
_DECIDES = {"moderation": ("mask", "stop"), "early-stop": ("stop",)}


class Counts(NamedTuple):
    """What is counted: rows, or spans of personal data."""

    right: int
    """Looked for and found."""
    wrong: int
    """Found and nothing of the kind."""
    missed: int
    proportions: dict[str, tuple[int, int]]
    """By figure: so many of so many."""
    ratios: dict[str, tuple[float, float]]
    """By figure: what is divided by what, each summed over rows."""


class Outcome(NamedTuple):
    """A row's outcome. `rule` and `position` (characters seen by then) belong to the first verdict of the strongest
    action; `alarm` tells of a row without anything to find whether something was found there all the same."""

    score: float
    action: Done
    rule: str | None
    position: int | None
    found: tuple[Verdict, ...]
    positive: bool
    alarm: bool | None
    counts: Counts
    types: dict[str, Counts]
    """By detector of personal data."""


def outcome(task: Task, row: Row, seen: Seen, limits: Limits) -> Outcome:
    """Compare a row with what the guard told of it."""
    if task == "pii":
        return _of_spans(row, seen)
    if task == "loops":
        deciding = [verdict for verdict in seen.verdicts if verdict.category == "degeneration"]
    else:
        judged = (verdict for verdict in seen.verdicts if verdict.category != "limits")
        deciding = [verdict for verdict in judged if verdict.action in _DECIDES[task]]
    found = bool(deciding)
    tokens = tokens_of(row.text, limits)
    ratios: dict[str, tuple[float, float]] = {}
    proportions: dict[str, tuple[int, int]] = {}
    if task == "early-stop":
        on_time = found and seen.fed < len(row.text)
        proportions["recall_on_time"] = (on_time, 1) if row.positive else (0, 0)
    share = (deciding[0].seen_tokens / tokens, 1) if row.positive and found else (0, 0)
    ratios["seen_at_decision"] = share
    saved = tokens - tokens_of(row.text[: seen.fed], limits) if seen.stopped and found else 0
    ratios["tokens_saved"] = (saved, tokens) if row.positive else (0, 0)
    if task != "loops":
        leaked = within(released(seen.given, seen.verdicts), 0, len(row.text)) if row.positive else 0
        ratios["leaked_characters"] = (leaked, 1) if row.positive else (0, 0)
        ratios["leaked_share"] = (leaked, len(row.text)) if row.positive else (0, 0)
    ratios["us_per_chunk"] = (seen.nanoseconds / 1000, seen.chunks)
    counts = Counts(row.positive and found, found and not row.positive, row.positive and not found, proportions, ratios)
    return _outcome(seen, row.positive, None if row.positive else found, counts, {})


def _of_spans(row: Row, seen: Seen) -> Outcome:
    """Types that no detector stands for are neither hit nor miss, and so are findings that overlap one of those."""
    unmapped = [span for span in row.spans if mapped(span) is None]
    truths: dict[str, list[TrueSpan]] = defaultdict(list)
    finds: dict[str, Spans] = defaultdict(list)
    for span in row.spans:
        if (name := mapped(span)) is not None:
            truths[name].append(span)
    for verdict in seen.verdicts:
        own = truths.get(verdict.detector, ())
        if verdict.detector and (_meets(verdict.span, own) or not _meets(verdict.span, unmapped)):
            finds[verdict.detector].append(verdict.span)
    free = released(seen.given, seen.verdicts)
    types = {name: _count_spans(truths.get(name, []), finds.get(name, []), free) for name in sorted({*truths, *finds})}
    whole = _total([*types.values()])
    whole.ratios["us_per_chunk"] = (seen.nanoseconds / 1000, seen.chunks)
    alarm = None if truths else whole.wrong > 0
    return _outcome(seen, bool(truths), alarm, whole, types)


def mapped(span: TrueSpan) -> str | None:
    """The detector that looks for the span's type."""
    return TYPES.get(span.type.upper())


def _count_spans(truths: list[TrueSpan], finds: Spans, free: Spans) -> Counts:
    right = sum(any(_meets(find, (truth,)) for find in finds) for truth in truths)
    wrong = sum(not _meets(find, truths) for find in finds)
    exact = sum((truth.start, truth.end) in finds for truth in truths)
    leaked = sum(within(free, truth.start, truth.end) for truth in truths)
    return Counts(
        right,
        wrong,
        len(truths) - right,
        {"exact_recall": (exact, len(truths))},
        {
            "leaked_characters": (leaked, len(truths)),
            "leaked_share": (leaked, sum(truth.end - truth.start for truth in truths)),
        },
    )


def _total(parts: list[Counts]) -> Counts:
    parts = [*parts, _count_spans([], [], [])]
    return Counts(
        sum(part.right for part in parts),
        sum(part.wrong for part in parts),
        sum(part.missed for part in parts),
        {
            name: (sum(part.proportions[name][0] for part in parts), sum(part.proportions[name][1] for part in parts))
            for name in parts[-1].proportions
        },
        {
            name: (sum(part.ratios[name][0] for part in parts), sum(part.ratios[name][1] for part in parts))
            for name in parts[-1].ratios
        },
    )


def _outcome(seen: Seen, positive: bool, alarm: bool | None, counts: Counts, types: dict[str, Counts]) -> Outcome:
    done = {done_by(verdict) for verdict in seen.verdicts}
    action: Done = next((one for one in _STRONGEST if one in done), "none")
    first = next((verdict for verdict in seen.verdicts if done_by(verdict) == action), None)
    return Outcome(
        score=max([seen.score, *(score_of(verdict) for verdict in seen.verdicts)]),
        action=action,
        rule=first.rule if first else None,
        position=first.seen_chars if first else None,
        found=seen.verdicts,
        positive=positive,
        alarm=alarm,
        counts=counts,
        types=types,
    )


def done_by(verdict: Verdict) -> Done:
    """What a verdict does to an answer; `refuse` is for prompts."""
    return "none" if verdict.action == "refuse" else verdict.action


def score_of(verdict: Verdict) -> float:
    """From 0 to 1: the classifier's score where the verdict has one, else a tenth of the rule's severity."""
    return verdict.severity / 10 if verdict.score is None else verdict.score


def tokens_of(text: str, limits: Limits) -> int:
    """Tokens of a text, estimated as the guard does."""
    cyrillic = sum("\u0400" <= character <= "\u04ff" for character in text)
    return estimate_tokens(limits, cyrillic, len(text) - cyrillic)


def _meets(found: tuple[int, int], truths: Iterable[TrueSpan]) -> bool:
    return any(found[0] < truth.end and truth.start < found[1] for truth in truths)
