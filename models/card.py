"""The model card: what the classifier was made of, how good it is, and what it is not good for."""

from collections import Counter
from collections.abc import Mapping, Sequence

from models.rows import OPENRAIL, Row
from models.training import FALSE, KINDS, Judged, Trained
from models.windows import PIECES, STRIDE, WINDOWS
from processors.guard.features import PARAMETERS

_HEAD = """# The guard's built-in classifier

Scores the end of a growing answer, in Russian and English, with two heads of 0 to 1: `toxicity` (insults, hate, obscene
abuse) and `harmful` (an answer that complies with a harmful request). Scores above 0.5 mean: more likely than not, if
both kinds were equally frequent. A refusal is not harmful.

Each is a linear model over {buckets} hashed buckets of words, pairs of words and pieces of words, of so many
characters: {pieces} (`processors/guard/features.py`). It knows words, not meaning: a cheap first look at every stream,
no judge.

## Use

`connectors.classifier.Classifier.load` serves it. Score the end of an answer after every {stride} characters and when
it is over: {windows} characters are looked at. Thresholds: {thresholds}.

Each threshold is set on texts the model was not fitted on, so that the highest of all scores of a text exceeds it for
so many of the harmless texts at most: {false}. That is so both among those labelled for the head (for `harmful` with
whole questions kept apart) and among harmless texts of kinds that were all left out.

## Data

| source | language | toxic | not toxic | harmful | harmless |
|---|---|---|---|---|---|
"""

_QUALITY = """
Licences and attribution are in `docs/data.md`. `written` and `toxic_written` are texts and lists of words written for
this project (`models/written_*.txt`, Apache-2.0): answers that are harmless in spite of alarming words, refusals,
insults in simple frames with harmless counterparts, and {harmful} harmful answers in Russian, in general words.
{openrail}

SHA-256 of the files read:

```
{sums}
```

## Quality

Each row tells of texts that were kept apart from fitting: whole questions, whole jailbreak templates (told by who the
answer says is speaking), single texts, a whole source, or the texts written for this project (by its own author: other
questions and other ways of speaking, no independent evidence). AUC is that of each text's highest score. The stops are
those of the thresholds above: harmless texts stopped, violating texts stopped, and the share of all violating texts'
characters behind the stop, which would not have been generated. In brackets 95 % intervals, bootstrapped over whole
questions, templates or texts.

"""

_KINDS = """
By source, how many of the {kinds} are stopped by a model that saw no text of their source:

"""

_LIMITS = """
## Limits

- The threshold of `harmful` is set with whole questions kept apart. Safe answers to jailbreak templates never seen
  exceed it more often (the row `templates`), and so do harmless comments of some sources that toxicity never saw.
  Settings were chosen on the very texts that these rows tell of, so expect somewhat less on others.
- Answers labelled harmful or safe by people exist here in English only, from one model (gpt-3.5), 80 questions and some
  77 jailbreaks. Many that are labelled safe refuse first and then comply in another voice; these fill the 1 % of false
  stops, so the threshold is high, and answers of other models and to other questions pass it seldom. Whoever can bear
  more false stops finds far more below it.
- Russian harmful answers were written for this project; no independent measure of them exists. They hardly reach the
  threshold: in Russian the head ranks, it does not stop.
- Safe answers of that source are mostly refusals, so the head may take compliance for harm. The harmless answers
  written against that are few. Expect more false stops on instructions about security, weapons, drugs or medicine.
- A harmful answer to a question of another kind (weapons of mass destruction, self-harm, extremism) is judged by words
  that the 80 questions happen to share with it.
- Toxicity was labelled by other people with other rules in each source. Tweets were sampled by keyword, with a known
  bias against African-American English. The comments of `toxic_text_ru` have one annotator and much veiled scorn, which
  words do not tell. Some missed ones were read before the lists of insults were written; words seen only there were
  left out.
- Quotations, fiction, reclaimed words and sarcasm are judged as if they were meant.
- The rows named `source` are what to expect on a source never seen; the others are of the sources trained on.

## How to reproduce

`make models DATA=DIR` with the files above and seed {seed}: the same bytes for the same versions of numpy, scipy,
scikit-learn and onnx.
"""


def card(trained: Trained, rows: Sequence[Row], sums: Mapping[str, str], seed: int) -> str:
    """MODEL_CARD.md."""
    thresholds = ", ".join(f"`{head}` {value}" for head, value in trained.thresholds.items())
    used = OPENRAIL in sums
    openrail = (
        f"`{OPENRAIL}` was used; its licence, OpenRAIL++, restricts use, and whoever serves this model should read it. "
        "`--without-openrail` makes a model without it."
        if used
        else f"`{OPENRAIL}`, whose licence restricts its use, was left out."
    )
    harmful = sum(row.source == "written" and row.language == "ru" and bool(row.harmful) for row in rows)
    head = _HEAD.format(
        buckets=PARAMETERS["buckets"],
        pieces=", ".join(f"`{head}` {_sizes(*sizes)}" for head, sizes in PIECES.items()),
        stride=STRIDE,
        windows=" and ".join(f"for `{head}` the last {window}" for head, window in WINDOWS.items()),
        thresholds=thresholds,
        false=", ".join(f"`{head}` {share:.1%}" for head, share in FALSE.items()),
    )
    listing = "\n".join(f"{value}  {name}" for name, value in sums.items())
    quality = _QUALITY.format(harmful=harmful, openrail=openrail, sums=listing)
    others = _KINDS.format(kinds=KINDS) + kinds(trained) + "\n"
    return head + _counts(rows) + quality + report(trained) + "\n" + others + _LIMITS.format(seed=seed)


def _sizes(shortest: int, longest: int) -> str:
    return f"{shortest}" if shortest == longest else f"{shortest} to {longest}"


def report(trained: Trained) -> str:
    """The figures, as a table."""
    lines = [
        "| head | kept apart | texts | AUC | harmless stopped | violating stopped | saved |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_line(one) for one in trained.judged])


def _line(one: Judged) -> str:
    stops = one.stops
    figures = (one.auc, stops.false, stops.caught, stops.saved) if one.auc else ("", stops.false, "", "")
    return f"| {one.head} | {one.apart} | {one.texts} | {' | '.join(map(str, figures))} |"


def kinds(trained: Trained) -> str:
    """How many harmless texts of each source would be stopped by a model that did not see their source."""
    lines = ["| head | source | texts | stopped |", "|---|---|---|---|"]
    for one in trained.judged:
        lines += [f"| {one.head} | {name} | {texts} | {stopped} |" for name, (texts, stopped) in one.kinds.items()]
    return "\n".join(lines)


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(
        (row.source, row.language, head, label)
        for row in rows
        for head, label in (("toxicity", row.toxicity), ("harmful", row.harmful))
    )
    lines = []
    for source, language in sorted({(row.source, row.language) for row in rows}):
        cells = [counts[source, language, head, label] for head in ("toxicity", "harmful") for label in (True, False)]
        lines.append(f"| {source} | {language} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
