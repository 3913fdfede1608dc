"""The mark is found by whoever comes after a process that died, and by nobody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.marks import Marks
from processors.poison import Fate

LIFE = """
import os, signal, sys
from pathlib import Path
from connectors.marks import Marks
from processors.poison import Fate
mark, how, first = sys.argv[1:]
for fate, piece in Marks(Path(mark)).pieces("journal", 2, range(int(first), int(first) + 5), lambda item: (item, 0)):
    print(fate.name, *piece, flush=True)
    if how != "lives" and fate is Fate.TAKE and 7 in piece:
        os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else exec("raise MemoryError")
"""


def life(mark: Path, how: str, first: int = 5) -> list[str]:
    """What a process that takes offsets `first` and four more is given, and whether it died."""
    command = [sys.executable, "-c", LIFE, str(mark), how, str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    return done.stdout.splitlines() + ["died"] * (done.returncode != 0)


@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_record_that_kills_is_found_in_three_deaths(tmp_path: Path, how: str) -> None:
    mark = tmp_path / "run" / "stage-0.mark"
    assert life(mark, how) == ["TAKE 5 6 7 8 9", "died"]
    for _ in range(2):
        assert life(mark, how) == ["TAKE 5", "TAKE 6", "TAKE 7", "died"]
    assert life(mark, how) == ["TAKE 5", "TAKE 6", "END 7", "TAKE 8", "TAKE 9"]
    assert life(mark, how) == ["TAKE 5 6", "END 7", "TAKE 8 9"]
    assert life(mark, "lives", 8) == ["TAKE 8 9 10 11 12"]


def test_who_lives_leaves_no_mark(tmp_path: Path) -> None:
    """The control of the test above: the same batch, and nobody dies."""
    mark = tmp_path / "stage-0.mark"
    assert life(mark, "lives") == life(mark, "lives") == ["TAKE 5 6 7 8 9"]


def test_a_mark_that_is_cleared_counts_for_nothing(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "stage-0.mark")
    for fate, _ in marks.pieces("journal", 0, [1], lambda item: (item, 0)):
        assert fate is Fate.TAKE
        marks.clear()
        break
    assert life(tmp_path / "stage-0.mark", "lives") == ["TAKE 5 6 7 8 9"]
    assert not (tmp_path / "stage-0.suspects").exists()


@pytest.mark.parametrize("torn", [b"\x01\x00\x05garbage", b"\x01\xff\xff", b""])
def test_a_file_that_is_not_ours_is_no_mark(tmp_path: Path, torn: bytes) -> None:
    mark = tmp_path / "stage-0.mark"
    mark.write_bytes(torn)
    mark.with_suffix(".suspects").write_bytes(torn)
    assert life(mark, "lives") == ["TAKE 5 6 7 8 9"]
