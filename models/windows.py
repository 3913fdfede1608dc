"""From texts to examples: the windows that serving will see of each while it grows, and some in disguise.

An answer is scored every STRIDE characters, by each head by as many of its last characters as WINDOWS tells, so these
are what is learnt, each with the label of its text. Comments also stand inside clean text, and in disguise.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from models.rows import Row
from processors.guard.features import BUCKETS, Features

STRIDE = 300
"""Characters. Learnt and asked at 200, 300 and 400, with questions kept apart: harmful answers have an AUC of 0.963,
0.970 and 0.974, and 31, 31 and 29 % of them are saved (`make models`); the work shrinks with it."""
WINDOWS = {"toxicity": 400, "harmful": 1600}
"""Characters. A sentence of abuse drowns in much other text. Whether an answer complies all of it tells, a refusal
before or a warning behind: with questions kept apart, half as much again is saved at 1600 as at 400."""
PIECES = {"toxicity": (3, 4), "harmful": (5, 5)}
"""Sizes of pieces of words. Each is as good as 3 to 5 by `make models`, whole questions or sources apart, and fewer are
less work: a window of harmful answers has a third of the buckets. Sizes 4 and 5 find less abuse in a source never seen
(AUC 0.89, not 0.90), no pieces at all save a tenth less of harmful answers."""
_FEATURES = Features(PIECES)
_LEET = str.maketrans("aeiosаеоз", "4310$@303")
_TWINS = str.maketrans("aceopxyасеорху", "асеорхуaceopxy")

Indices = npt.NDArray[np.int64]


class Window(NamedTuple):
    """A piece of a row's text. `end` counts that text's characters; of one made up for training it is 0."""

    text: str
    row: int
    end: int


def ends(length: int, stride: int = STRIDE) -> list[int]:
    """After how many characters a text of this length is scored: every stride, and when it is over."""
    return [*range(stride, length, stride), length]


def windows(rows: Sequence[Row], window: int, stride: int = STRIDE) -> list[Window]:
    """What serving scores of each row's text."""
    return [
        Window(row.text[max(0, end - window) : end], index, end)
        for index, row in enumerate(rows)
        for end in ends(len(row.text), stride)
    ]


def made_up(rows: Sequence[Row], seed: int) -> list[Window]:
    """Comments inside clean text of their language, and in disguise; clean and toxic ones, lest either give away."""
    chance = random.Random(seed)  # noqa: S311 (a sample, no secret)
    clean: dict[str, list[str]] = {}
    for row in rows:
        if row.toxicity is False and not row.source.startswith("toxic"):
            clean.setdefault(row.language, []).append(row.text)
    found = []
    for index, row in enumerate(rows):
        if not row.source.startswith("toxic"):
            continue
        around = clean.get(row.language)
        if around and chance.random() < 0.5:
            found.append(Window(_inside(row.text, chance.choice(around), chance), index, 0))
        if chance.random() < 0.3:
            found.append(Window(disguised(row.text, chance), index, 0))
    return found


def disguised(text: str, chance: random.Random) -> str:
    """Digits, signs or letters of the other script for letters, letters left out or spaced out, in some words."""
    words = []
    for word in text.split(" "):
        way = chance.randrange(12) if len(word) > 3 else 5
        at = chance.randrange(1, max(2, len(word) - 1))
        if way == 0:
            word = word.translate(_LEET)
        elif way == 1:
            word = word[:at] + word[at:].translate(_TWINS)
        elif way == 2:
            word = word[:at] + "*" + word[at + 1 :]
        elif way == 3:
            word = " ".join(word)
        elif way == 4:
            word = word[:at] + word[at] * 3 + word[at:]
        words.append(word)
    return " ".join(words)


def _inside(text: str, around: str, chance: random.Random) -> str:
    """A text with some of another before and behind it, one window in all."""
    window = WINDOWS["toxicity"]
    text = text[: window // 2]
    room = window - len(text)
    before = chance.randrange(room)
    return f"{around[-before:] if before else ''} {text} {around[: room - before]}"[:window]


def matrix(texts: Sequence[str], head: str) -> sparse.csr_matrix:
    """Which buckets each text falls into: ones of float32, shape (texts, BUCKETS)."""
    found: list[npt.NDArray[np.int32]] = [np.sort(np.array(_FEATURES.of(text, head), np.int32)) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in found])])
    buckets = np.concatenate(found) if found else np.zeros(0, np.int32)
    return sparse.csr_matrix((np.ones(len(buckets), np.float32), buckets, starts), shape=(len(texts), BUCKETS))
