"""Labelled files judged by the guard, row by row."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from processors.errors import Invalid
from processors.evaluate.metrics import Pick
from processors.evaluate.outcome import Outcome, outcome
from processors.evaluate.rows import Row, Task, read_row
from processors.evaluate.run import Guard, GuardFailed, Scorer
from processors.evaluate.tally import Report
from processors.policy import Effective

LONGEST_PIECE = 20
"""Characters of a chunk at most. Providers send a token or a few."""


class NothingToJudge(Invalid):
    """A file cannot be read, or no row of any file can be judged."""


class Evaluation:
    """One task over some files.

    `bad(message)` is told of each row that is skipped, `read(size)` how many bytes were read. The same seed cuts the
    same row into the same chunks, whatever else is in the file.
    """

    def __init__(
        self,
        task: Task,
        effective: Effective,
        scorer: Scorer,
        seed: int = 0,
        bad: Callable[[str], None] = lambda message: None,
        read: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.skipped = 0
        self._task, self._seed = task, seed
        self._guard = Guard(effective, scorer)
        self._bad, self._read = bad, read

    def run(self, files: list[Path], scores: IO[bytes] | None = None) -> Report:
        """Judge every row; with `scores` a line of JSON is written for each.

        Raises:
            NothingToJudge: see there.
        """
        report = Report(self._task)
        for file in files:
            for at, line in self._lines(file):
                try:
                    row = read_row(line, self._task)
                    chance = random.Random(f"{self._seed} {row.id}")  # noqa: S311 - cuts a text, keeps no secret
                    seen = self._guard.judge(pieces(row.text, chance), time.thread_time_ns, row.language)
                except (Invalid, GuardFailed) as error:
                    self.skipped += 1
                    self._bad(f"{at}: {error}")
                    continue
                result = outcome(self._task, row, seen, self._guard.effective.limits)
                report.add(row, result, chance.getrandbits(32))
                if scores is not None:
                    scores.write(orjson.dumps(as_score(row, result), option=orjson.OPT_APPEND_NEWLINE))
        if not report.overall.n:
            raise NothingToJudge("", f"no row could be judged, {self.skipped} skipped; see the first messages for why")
        return report

    def _lines(self, file: Path) -> Iterator[tuple[str, bytes]]:
        """Each line that is not blank, with where it stands."""
        try:
            with file.open("rb") as source:
                for number, line in enumerate(source, 1):
                    self._read(len(line))
                    line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                    if line:
                        yield f"{file}:{number}", line
        except FileNotFoundError:
            raise NothingToJudge("", f"{file}: there is no such file") from None
        except OSError as error:
            raise NothingToJudge("", f"{file}: cannot be read: {error.strerror}") from None


def pieces(text: str, chance: random.Random) -> Iterator[str]:
    """The text in chunks of 1 to `LONGEST_PIECE` characters."""
    at = 0
    while at < len(text):
        size = chance.randint(1, LONGEST_PIECE)
        yield text[at : at + size]
        at += size


def picking(seed: int) -> Pick:
    """Draws with replacement, for the bootstrap."""
    chance = random.Random(seed)  # noqa: S311 - statistics

    def pick(of: int) -> list[int]:
        return chance.choices(range(of), k=of)

    return pick


def as_score(row: Row, result: Outcome) -> dict[str, Any]:
    """A row's line of the scores file."""
    return {
        "id": row.id,
        "label": row.label,
        "score": result.score,
        "action": result.action,
        "rule": result.rule,
        "position": result.position,
        "spans": [
            {
                "start": verdict.span[0],
                "end": verdict.span[1],
                "type": verdict.detector or verdict.category,
                "rule": verdict.rule,
                "action": verdict.action,
            }
            for verdict in result.found
        ],
    }
