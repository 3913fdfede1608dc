"""Loops are found however the text is cut, where they begin, and not in texts that repeat by nature."""

import itertools
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.guard import loops
from processors.guard.loops import EVERY, KEPT, Loop, Loops, LoopsState
from processors.guard.periods import periods
from tests.processors.guard import degenerate
from tests.processors.guard.degenerate import Source, prose

STOPS = ("run", "exact", "counting")
INTRO = "".join(prose("en")(random.Random(0), 300)) + "\n\n"
UNITS = [
    "I cannot say. ",
    "no ",
    "a",
    "\n",
    "Step 1 of 7\n",
    "Шаг 2: ждём.\n",
    "```\n",
    "x1",
    "| 0 | 0 |\n",
    "中文，",
    "- ",
    "7²",
]


def found(pieces: list[str]) -> list[Loop]:
    """All that is found in a text of these pieces."""
    text, every = Loops(), []
    for piece in pieces:
        loop = text.feed(piece)
        while loop is not None:
            every.append(loop)
            loop = text.feed("")
    return every


def first_stop(text: str) -> Loop | None:
    return next((loop for loop in found([text]) if loop.kind in STOPS), None)


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Stretches that repeat much or little, some of them counting."""
    stretches = draw(st.lists(st.tuples(st.sampled_from(UNITS), st.integers(1, 400), st.booleans()), max_size=5))
    return "".join(
        "".join(f"{unit}{number}" for number in range(times)) if counts else unit * times
        for unit, times, counts in stretches
    )


@settings(max_examples=60)
@given(texts(), st.lists(st.integers(0, 20_000), max_size=12))
def test_any_cut_finds_the_same(text: str, places: list[int]) -> None:
    whole = found([text])
    assert found(cut(text, places)) == whole
    assert found([text[at : at + 4] for at in range(0, len(text), 4)]) == whole
    assert all(0 <= loop.start < loop.end <= len(text) and loop.end % EVERY == 0 for loop in whole)


@settings(max_examples=60)
@given(texts(), st.lists(st.integers(0, 20_000), max_size=4))
def test_a_snapshot_at_any_place_changes_nothing(text: str, places: list[int]) -> None:
    growing, every = Loops(), []
    for piece in cut(text, places):
        encoded = msgspec.json.encode(growing.snapshot())
        growing = Loops.restore(msgspec.json.decode(encoded, type=LoopsState))
        loop = growing.feed(piece)
        while loop is not None:
            every.append(loop)
            loop = growing.feed("")
    assert every == found([text])


def test_what_is_found_depends_on_more_than_the_last_piece() -> None:
    """The two properties above can fail: a text that is forgotten between its pieces has no loop."""
    text = INTRO + "I cannot say. " * 60
    pieces = [text[at : at + 100] for at in range(0, len(text), 100)]
    assert found(pieces)
    assert not [loop for piece in pieces for loop in found([piece])]


@settings(max_examples=200)
@given(st.text("ab", min_size=1, max_size=60), st.integers(1, 12), st.text("ab", max_size=200))
def test_no_period_is_missed(unit: str, times: int, before: str) -> None:
    """Against comparing at every distance: the end is the nearest, so it is the text itself that is read backwards."""
    text = unit * times + before
    wanted, longest_match = [], 31
    for period in range(1, len(text) // 4 + 1):
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, text[period:], strict=False))
        match = sum(1 for _ in pairs)
        if match >= 3 * period and match > longest_match:
            wanted.append((period, match + period))
            longest_match = match
    assert set(wanted) <= set(periods(text, len(text)))


@pytest.mark.parametrize("period", [300, 1000, 2000])
def test_a_period_longer_than_what_is_remembered_of_four_is_followed(period: int) -> None:
    unit = "".join(prose("ru")(random.Random(period), period))[: period - 2] + ". "
    loop = first_stop(INTRO + unit * 6)
    assert loop is not None
    assert (loop.kind, loop.period, loop.copies) == ("exact", period, 4)
    assert len(INTRO) - EVERY < loop.start <= len(INTRO)


@pytest.mark.parametrize("unit", ["I cannot say. ", "Не могу сказать, простите. ", "very ", "да, ", "对不起，我不能。"])
def test_an_exact_loop_is_told_where_it_begins(unit: str) -> None:
    loop = first_stop(INTRO + unit * 200)
    assert loop is not None
    assert (loop.kind, loop.period) == ("exact", len(unit))
    # What stands before may by chance end as the copy does.
    assert len(INTRO) - len(unit) < loop.start <= len(INTRO)
    assert loop.copies == (loop.end - loop.start) // loop.period >= 4
    assert 128 <= loop.tokens <= 128 + EVERY


def test_copies_alone_and_tokens_alone_are_no_loop() -> None:
    sentence = "".join(prose("en")(random.Random(1), 150)) + ". "
    assert not found([INTRO + sentence * 3 + INTRO])
    assert not found([INTRO + "very " * 40 + INTRO])
    assert found([INTRO + sentence * 5]), "both of them are"
    assert found([INTRO + "very " * 100])


def test_code_and_tables_may_repeat_more() -> None:
    line = "the value is the value\n"
    plain, fenced = first_stop(INTRO + line * 100), first_stop(INTRO + "```\n" + line * 100)
    assert plain is not None
    assert fenced is not None
    assert plain.tokens < 200 < 512 <= fenced.tokens
    closed = first_stop(INTRO + "```\n" + INTRO + "\n```\n" + line * 100)
    assert closed is not None
    assert closed.tokens < 200
    assert first_stop("<td></td>" * 100) is None
    assert first_stop("[0, 0, 0, 0, 0, 0, 0, 0],\n" * 24) is None
    assert first_stop("[0, 0, 0, 0, 0, 0, 0, 0],\n" * 80) is not None


@pytest.mark.parametrize(("sign", "below", "above"), [("o", 255, 320), ("!", 255, 320), ("-", 1023, 1088)])
def test_a_run_has_a_bound(sign: str, below: int, above: int) -> None:
    assert not found([INTRO + sign * below + INTRO])
    loop = found([INTRO + sign * above])[0]
    assert (loop.kind, loop.start) == ("run", len(INTRO))
    assert found(["```\n" + sign * 960]) == []


def test_white_space_of_any_kind_is_one_run() -> None:
    loop = found([INTRO.rstrip() + " \n\t\n" * 300])[0]
    assert (loop.kind, loop.start) == ("run", len(INTRO.rstrip()))


def test_a_counting_loop_goes_on_in_equal_steps() -> None:
    text = INTRO + "".join(f"Step {n}: look at page {3 * n} of the book.\n" for n in range(1, 100))
    loop = first_stop(text)
    assert loop is not None
    assert loop.kind == "counting"
    assert text[loop.start :].startswith(("Step 1:", "\nStep 1:", "\n\nStep 1:"))
    assert abs(loop.period - len("Step 10: look at page 30 of the book.\n")) <= 1
    rng = random.Random(2)
    lines = (f"Step {rng.randint(1, 99)}: look at page {rng.randint(1, 99)} of the book.\n" for _ in range(100))
    assert not found([INTRO + "".join(lines)])
    assert not found([INTRO + "".join(f"Look at page {n} of the book: {rng.random()}.\n" for n in range(100))])


def test_numbers_that_do_not_move_are_an_exact_loop() -> None:
    assert [loop.kind for loop in found([INTRO + "Look at page 7 of the book 3.\n" * 300])] == ["exact"]


def test_a_sentence_that_changes_script_drifts() -> None:
    han = degenerate.other_script(random.Random(1), 900)
    text = INTRO + "and so the answer is that we have "
    loop = found([text + han])[0]
    assert (loop.kind, loop.start) == ("drift", len(text))
    assert not found([text + "\n" + han]), "a new line may be a translation"
    assert not found([text + "«" + han + "»"])
    assert not found([text + han[:200] + INTRO * 3]), "a quotation ends"
    assert not found([han + text + han]), "its own script"


def test_each_kind_is_reported_once() -> None:
    kinds = [
        loop.kind for loop in found([INTRO + "no " * 300 + INTRO + "never " * 300 + "x" * 900 + INTRO + "y" * 900])
    ]
    assert kinds == ["exact", "run"]


def test_what_is_remembered_is_bounded() -> None:
    text = Loops()
    rng = random.Random(3)
    for _ in range(200):
        text.feed("".join(prose("ru")(rng, 200)) + str(rng.random()))
    state = text.snapshot()
    assert len(state.backwards) == KEPT
    assert len(state.numberless) <= KEPT // 2
    assert len(state.rest) < EVERY


Maker = Callable[[random.Random, Source], str]
PERIODS = [(1, 10), (20, 60), (80, 300)]
MAKERS: list[tuple[str, Maker, int]] = [
    *((f"exact {a}-{b}", lambda rng, source, a=a, b=b: degenerate.exact(rng, source, a, b), 98) for a, b in PERIODS),
    ("settling 2-10", lambda rng, source: degenerate.settling(rng, source, 2, 10), 98),
    ("settling 20-60", lambda rng, source: degenerate.settling(rng, source, 20, 60), 98),
    ("counting 3-15", lambda rng, source: degenerate.counting(rng, source, 3, 15), 98),
    ("counting 15-60", lambda rng, source: degenerate.counting(rng, source, 15, 60), 98),
    ("run", degenerate.run, 98),
]


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize(("make", "wanted"), [pytest.param(make, share, id=name) for name, make, share in MAKERS])
def test_loops_are_found(make: Maker, wanted: int, language: str) -> None:
    caught = sum(first_stop(make(random.Random(seed), prose(language))) is not None for seed in range(50))
    assert caught * 2 >= wanted


@pytest.mark.parametrize("language", ["en", "ru"])
def test_drift_is_found(language: str) -> None:
    texts = [degenerate.drift(random.Random(seed), prose(language)) for seed in range(50)]
    caught = sum("drift" in [loop.kind for loop in found([text])] for text in texts)
    assert caught >= 49


def false_alarms(seeds: int) -> list[tuple[str, Loop]]:
    legitimate = ((name, text) for seed in range(seeds) for name, text in degenerate.legitimate(random.Random(seed)))
    return [(name, loop) for name, text in legitimate for loop in found([text])]


def test_texts_that_repeat_by_nature_are_no_loops() -> None:
    assert false_alarms(15) == []


def test_control_the_loose_rules_do_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts above are hard: three of four bounds lowered, they are taken for loops."""
    lowered = {key: bound._replace(copies=4, tokens=128, few=4) for key, bound in loops._BOUNDS.items()}
    monkeypatch.setattr(loops, "_BOUNDS", lowered)
    monkeypatch.setattr(loops, "_JUDGED", EVERY)
    assert {"times table", "grid", "calendar", "csv", "html table"} <= {name for name, _ in false_alarms(15)}
