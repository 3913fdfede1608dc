"""Scoring beside the guard's loop: it waits for nothing, every answer's end is scored, and the newest window counts."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.classifier import BUILT_IN, Classifier
from processors.events import Scored
from processors.guard.moderated import ModeratedText
from processors.guard.windows import Window
from streams import scoring as module
from streams.scoring import Scoring, ScoringThread, score
from tests.samples import policy


def window(at: int, name: str = "a", length: int = 40, after: int | None = None) -> Window:
    """The end of a text; what stands before it has been looked at, unless `after` says otherwise."""
    return Window(name, "demo", "run", "content", 0, at, "x" * min(length, at), at if after is None else after)


class Slow:
    """A model that answers when it is let; it notes its batches."""

    labels, version, looks_at = ("harmful",), "slow", 40

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        self.batches.append(list(texts))
        self.begun.release()
        assert self.let.acquire(timeout=10)
        if "!" in texts[0]:
            raise RuntimeError("no such token")
        return [{"harmful": 0.5} for _ in texts]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Slow:
    found = Slow()
    monkeypatch.setattr(Classifier, "load", lambda folder: found)
    return found


@pytest.fixture
def thread(model: Slow) -> Iterator[ScoringThread]:
    made = ScoringThread(Scoring(None))
    yield made
    model.let.release(100)
    made.close()


def places(thread: ScoringThread, count: int) -> list[tuple[str, int]]:
    """What the next scores are about."""
    found: list[Scored] = [thread.scores.get(timeout=10) for _ in range(count)]
    return [(one.id, one.at) for one in found]


def test_nobody_waits_and_what_came_meanwhile_is_one_batch(thread: ScoringThread, model: Slow) -> None:
    began = time.monotonic()
    thread.put([window(100)])
    assert model.begun.acquire(timeout=10)
    thread.put([window(100, "b"), window(50, "c")])
    thread.put([window(70, "d")])
    assert time.monotonic() - began < 5  # the model has not answered anything yet
    assert (thread.busy, thread.take()) == (True, [])
    model.let.release(2)
    assert places(thread, 4) == [("a", 100), ("b", 100), ("c", 50), ("d", 70)]
    assert [len(batch) for batch in model.batches] == [1, 3]


def test_of_a_text_the_newest_window_counts_and_its_end_is_scored(thread: ScoringThread, model: Slow) -> None:
    thread.put([window(100)])
    assert model.begun.acquire(timeout=10)
    thread.put([window(200), window(100, "b")])
    thread.put([window(300), window(317)])
    thread.put([window(100), window(317)])  # asked for once more: one is under way, the other waits
    model.let.release(2)
    assert places(thread, 3) == [("a", 100), ("a", 317), ("b", 100)]
    assert until(lambda: not thread.busy)
    thread.put([window(317)])  # its scores were lost on their way: whoever asks again is answered again
    model.let.release()
    assert places(thread, 1) == [("a", 317)]


def until(true: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + 10
    while not true() and time.monotonic() < give_up:
        time.sleep(0.001)
    return true()


def test_other_runs_kinds_and_choices_are_other_texts(thread: ScoringThread, model: Slow) -> None:
    thread.put([window(100, "first")])
    assert model.begun.acquire(timeout=10)
    thread.put([window(50), window(60)._replace(run="r2"), window(70)._replace(kind="reasoning")])
    thread.put([window(80)._replace(choice=1)])
    model.let.release(2)
    assert places(thread, 5) == [("first", 100), ("a", 50), ("a", 60), ("a", 70), ("a", 80)]


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20))
def test_what_must_be_looked_at_is_looked_at_by_some_window(steps: list[tuple[int, bool, int]]) -> None:
    """Whatever is under way and known while it grows."""
    thread, at, known = ScoringThread(Scoring(None)), 0, 0
    thread._thread = threading.current_thread()  # nothing is to run
    seen: set[int] = set()
    for step, taken, lag in steps:
        at += step
        thread.put([window(at, length=60, after=known)])
        if taken:
            for one in thread._next():
                seen |= set(range(one.begin, one.at))
            known = max(known, at if lag == 0 else known)
    thread._under_way = {}
    for waiting in thread._waiting.values():
        seen |= {place for one in waiting for place in range(one.begin, one.at)}
    assert seen == set(range(at))


def test_windows_that_others_cover_are_left_out() -> None:
    thread = ScoringThread(Scoring(None))
    thread._thread = threading.current_thread()
    thread.put([window(at, length=60, after=10) for at in range(20, 200, 20)])
    assert [one.at for one in thread._next()] == [60, 120, 180]


def test_what_a_label_does_not_look_at_covers_nothing(model: Slow) -> None:
    """Windows of 100 characters, of which every label looks at the last 40."""
    scoring = Scoring(None)
    scoring.load()
    thread = ScoringThread(scoring)
    thread._thread = threading.current_thread()
    thread.put([window(at, length=100, after=0) for at in range(20, 200, 20)])
    assert [one.at for one in thread._next()] == [40, 80, 120, 160, 180]


@pytest.mark.parametrize("windows", [1, 3])
def test_a_batch_that_fails_gives_empty_scores_and_the_next_is_scored(
    thread: ScoringThread, model: Slow, caplog: pytest.LogCaptureFixture, windows: int
) -> None:
    model.let.release(2)
    bad = window(100)._replace(text="!")
    with caplog.at_level(logging.ERROR):
        thread.put([bad, *(window(50, name) for name in "bc")][:windows])
        assert [thread.scores.get(timeout=10).scores for _ in range(windows)] == [{}] * windows
    assert "could not be scored" in caplog.text
    thread.put([window(100, "d")])
    assert thread.scores.get(timeout=10).scores == {"harmful": 0.5}


def test_without_a_model_scores_are_empty_and_it_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    thread = ScoringThread(Scoring(tmp_path / "nothing"))
    for at in (10, 20):
        thread.put([window(at)])
        found = thread.scores.get(timeout=30)
        assert (found.at, found.scores, found.model) == (at, {}, "")
    assert caplog.text.count("no classifier") == 1
    thread.close()


def test_closing_waits_for_no_model(model: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    thread = ScoringThread(Scoring(None))
    thread.put([window(100)])
    assert model.begun.acquire(timeout=10)
    thread.put([window(100, "b")])
    began = time.monotonic()
    thread.close()
    assert time.monotonic() - began < 5
    model.let.release(2)
    runs = cast(threading.Thread, thread._thread)
    runs.join(10)
    assert not runs.is_alive()
    assert len(model.batches) == 1  # what waited is a successor's


def test_closing_what_never_began() -> None:
    thread = ScoringThread(Scoring(None))
    thread.put([])
    thread.close()
    assert thread._thread is None


@pytest.mark.parametrize("size", [7, 300, 450, 10_000])
def test_abuse_is_seen_in_whatever_pieces_it_comes(size: int) -> None:
    """Its label looks at 400 characters: where much comes at once, all of that has to be gone through."""
    labels = {"toxicity": {"above": 0.91, "action": "stop"}}
    effective = policy(
        classifier={"labels": labels, "hold": True}, degeneration={"exact": "ignore"}, limits={}
    ).effective("demo")
    assert effective is not None
    clean = "The river was calm and the boats went home with the evening tide. " * 18
    abuse = "You stupid idiot, shut up, you worthless piece of trash. " * 5
    classifier = Classifier.load(BUILT_IN)
    for answer, stopped in ((abuse + clean, True), (clean + abuse + clean, True), (clean * 2, False)):
        text = ModeratedText(effective, scorer=partial(score, classifier))
        parts = [text.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
        parts.append(text.finish())
        released = "".join(part.text for part in parts)
        assert ("idiot" in released, parts[-1].stop is not None) == (False, stopped)
        assert answer.startswith(released)
