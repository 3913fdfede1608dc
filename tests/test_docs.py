"""The documents name what is there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [line for line in (TESTS.parent / "docs/failures.md").read_text().splitlines() if line.startswith("| ")][1:]


def missing(name: str) -> str | None:
    """What is not there of `path::test`, a file or a folder under tests/."""
    path, _, test = name.partition("::")
    file = TESTS / f"{path}.py"
    if not test:
        return None if file.exists() or (TESTS / path).is_dir() else path
    if not file.exists():
        return path
    function = test.partition("[")[0]
    return None if re.search(rf"def {re.escape(function)}\(", file.read_text()) else name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_failure_names_tests_that_exist(row: str) -> None:
    shown_by = row.split("|")[-2]
    named = [name for name in re.findall(r"`([^`]+)`", shown_by) if not name.startswith("[")]
    assert named or "the same" in shown_by
    assert [name for name in named if missing(name)] == []


def test_the_control() -> None:
    assert missing("test_docs::test_the_control") is None
    assert missing("test_docs::test_that_is_not_there")
    assert missing("nowhere/test_docs")


def test_there_are_rows_enough() -> None:
    assert len(ROWS) >= 20


def test_the_guard_s_example_says_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that shows the guard as a library; it reads the starter rules of the checkout."""
    section = (TESTS.parent / "docs/guard.md").read_text().partition("## Without a broker")[2]
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", section, re.DOTALL)[:2]
    assert len(code.splitlines()) <= 12
    monkeypatch.chdir(TESTS.parent)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code, {})
    assert said.getvalue() == printed
