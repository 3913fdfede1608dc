"""`sluice evaluate`: how good the guard is on labelled texts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Column, Table

from connectors.evaluation import Evaluation, NothingToJudge, picking
from connectors.policy_file import load_policy
from processors.errors import Invalid
from processors.evaluate.metrics import Figure, Pick
from processors.evaluate.run import Scorer, asked, every_detector
from processors.evaluate.tally import Report, Tally
from processors.policy import Effective
from streams.cli_errors import explained
from streams.installation import resource
from streams.scoring import labels_of_model, score
from streams.settings import load_settings

TOLD = 20
"""Bad rows that are told one by one; of more only the number is."""


class Asked(StrEnum):
    """What the labels of the files are about."""

    MODERATION = "moderation"
    PII = "pii"
    LOOPS = "loops"
    EARLY_STOP = "early-stop"


def evaluate(
    task: Annotated[Asked, typer.Argument(help="What the labels are about.")],
    files: Annotated[list[Path], typer.Argument(help="JSON lines with id, text, label, lang, source and meta.")],
    policy: Annotated[Path | None, typer.Option(help="Policy file; default the starter rules that come along.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    scores: Annotated[Path | None, typer.Option(help="Write a line of JSON for each row into this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the chunks that a text is cut into, and of the intervals.")] = 0,
) -> None:
    """Judge the guard on labelled texts: each goes through it as an answer would, in small chunks.

    moderation: a text is found where it is stopped or masked. pii: the spans of `meta.spans`; without --policy under a
    rule for each detector. loops: what the policy's `degeneration` finds. early-stop: an answer is found where it is
    stopped. Leaked are the characters that the reader got: all of a text that is labelled as violating, or of a span of
    personal data. A text's score is the highest of its rules' severities (tenths) and of the classifier's scores for
    any of the policy's labels. Scores are read back before the next chunk, so that stops come earlier than in a running
    guard, by the model's latency. The tenant is the policy's first; none of its limits ends a text. Figures have 95 %
    intervals; µs a chunk are without the classifier. Exit code 2: there was nothing to judge.
    """
    with explained():
        try:
            effective = _effective(task, policy)
            for note in _notes(effective) if policy else ():
                typer.echo(f"note: {note}", err=True)
            report = _judged(task, effective, files, scores, seed)
        except NothingToJudge as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
    pick = picking(seed)
    if as_json:
        sys.stdout.buffer.write(
            orjson.dumps(report.as_json(pick), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    else:
        _print(report, pick)


def _effective(task: Asked, file: Path | None) -> Effective:
    path = file or resource("rules") / "starter.yaml"
    policy = load_policy(path, lambda: labels_of_model(load_settings().classifier))
    effective = policy.effective(next(iter(policy.policy.tenants)))
    assert effective is not None
    if task is Asked.PII and file is None:
        effective = every_detector(effective)
    return asked(effective, task.value)


def _notes(effective: Effective) -> Iterator[str]:
    """What of the policy makes the figures other than one may think."""
    if effective.moderation.dry_run:
        yield "moderation.dry_run is on: every rule only flags"
    prompts = [rule.id for rule in effective.rules if rule.action == "refuse"]
    if prompts:
        yield f"texts are judged as answers, and rules that refuse judge prompts only: {', '.join(prompts)}"


def _judged(task: Asked, effective: Effective, files: list[Path], scores: Path | None, seed: int) -> Report:
    told = 0

    def bad(message: str) -> None:
        nonlocal told
        told += 1
        if told <= TOLD:
            typer.echo(f"skipped: {message}", err=True)

    with _scores(scores, files) as sink, _progress(files) as read:
        evaluation = Evaluation(task.value, effective, _scorer(effective), seed, bad, read)
        report = evaluation.run(files, sink)
    if evaluation.skipped:
        shown = f", of which {TOLD} are shown" if evaluation.skipped > TOLD else ""
        typer.echo(f"{evaluation.skipped} rows skipped{shown}; {report.overall.n} judged", err=True)
    return report


def _scorer(effective: Effective) -> Scorer:
    """The classifier that a guard of these settings would ask.

    Raises:
        Invalid: it cannot be loaded.
    """
    if not effective.classifier.labels:
        return lambda windows: []
    from connectors.classifier import BUILT_IN, Classifier  # late: onnxruntime takes 0.3 s

    return partial(score, Classifier.load(load_settings().classifier or BUILT_IN))


@contextmanager
def _scores(path: Path | None, files: list[Path]) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    if any(path.exists() and file.exists() and path.samefile(file) for file in files):
        raise Invalid("--scores", f"{path} is one of the files to judge; name another")
    try:
        sink = path.open("wb")
    except OSError as error:
        raise Invalid("--scores", f"{path} cannot be written: {error.strerror}") from None
    with sink:
        yield sink


@contextmanager
def _progress(files: list[Path]) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda size: None
        return
    size = sum(file.stat().st_size for file in files if file.is_file())
    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=size or None)
        yield lambda size: progress.advance(task, size)


def _print(report: Report, pick: Pick) -> None:
    table = Table(
        Column("rows", overflow="fold"), "n", "figure", "value", "95 %", title=f"{report.task}: {report.overall.n} rows"
    )
    _add(table, "all", report.overall, pick)
    for part, tallies in report.slices().items():
        if part == "by_type" or len(tallies) > 1:
            for name, tally in tallies.items():
                _add(table, name, tally, pick)
    console = Console()
    console.print(table)
    if report.unmapped:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(report.unmapped.items()))
        console.print(f"types that no detector stands for, not scored: {counts}")


def _add(table: Table, name: str, tally: Tally, pick: Pick) -> None:
    for index, (figure, found) in enumerate(tally.figures(pick).items()):
        first = (name, str(tally.n)) if index == 0 else ("", "")
        table.add_row(*first, figure, _said(found.value), _between(found))
    table.add_section()


def _between(figure: Figure) -> str:
    return "" if figure.low is None else f"{_said(figure.low)} to {_said(figure.high)}"


def _said(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"
