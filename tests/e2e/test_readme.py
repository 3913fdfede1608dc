"""README.md's own words: its blocks are valid, and its snippets run as they stand against a pipeline."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.simulated.texts import STORY
from tests.conftest import ROOT
from tests.e2e.pipeline import SLUICE, Pipeline, environment

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def snippet(language: str, mark: str) -> str:
    """The one block that holds `mark`."""
    [found] = [text for text in blocks(language) if mark in text]
    return found


@pytest.fixture
def folder(pipeline: Pipeline, tmp_path: Path) -> Path:
    """Where the snippets run: `.sluice` is the pipeline's home."""
    (tmp_path / ".sluice").symlink_to(pipeline.home)
    return tmp_path


def run(pipeline: Pipeline, folder: Path, *command: str) -> str:
    """What a snippet prints."""
    environ = environment(folder / ".sluice", PYTHONIOENCODING="utf-8")
    environ["PATH"] = f"{Path(SLUICE).parent}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(pipeline: Pipeline, folder: Path, mark: str) -> str:
    return run(pipeline, folder, sys.executable, "-c", snippet("python", mark).replace(ADDRESS, pipeline.url))


def shell(pipeline: Pipeline, folder: Path, mark: str) -> str:
    return run(pipeline, folder, "sh", "-c", snippet("sh", mark).replace(ADDRESS, pipeline.url))


@pytest.mark.parametrize("text", blocks("python"))
def test_python_is_valid(text: str) -> None:
    ast.parse(text)


@pytest.mark.parametrize("text", blocks("sh"))
def test_shell_is_valid(text: str) -> None:
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_the_client_by_curl(pipeline: Pipeline, folder: Path) -> None:
    assert shell(pipeline, folder, "curl").rstrip().endswith("data: [DONE]")


def test_the_client_with_openai(pipeline: Pipeline, folder: Path) -> None:
    assert python(pipeline, folder, "from openai") == STORY


def test_the_producer_and_its_reader(pipeline: Pipeline, folder: Path) -> None:
    assert python(pipeline, folder, "confluent_kafka") == STORY


def test_the_analyst(pipeline: Pipeline, folder: Path) -> None:
    pipeline.stream(pipeline.ask("assistant"))
    assert "model" in shell(pipeline, folder, "sluice query")
    assert python(pipeline, folder, "clickhouse_connect").startswith("[")
