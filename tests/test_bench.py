"""The benchmarks' own checks: each must be able to say that something is wrong."""

import asyncio
import json
from typing import Any

import pytest

from bench import lag, loops, path, soak, startup
from bench.answers import answers, ids
from bench.common import Wrong, quantile, say
from bench.guard import START_MS, Guard
from bench.load import Arrivals
from bench.reader import Followed


async def followed(*seqs: int, status: str = "completed", reason: str = "stop") -> Followed:
    """A stream of which these records came; the last is its end."""
    stream = Followed(asyncio.get_running_loop().create_future())
    stream.accepted.set_result("id")
    for seq in seqs[:-1]:
        stream.take({"type": "tokens", "seq": seq, "cursor": str(seq), "text": f"{seq + 1} "})
    stream.take({"type": "end", "seq": seqs[-1], "cursor": "end", "status": status, "reason": reason})
    return stream


def row(told: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON line."""
    found: dict[str, Any] = json.loads(told.readouterr().out.splitlines()[1])
    return found


def test_a_figure_is_a_median_with_its_spread(capsys: pytest.CaptureFixture[str]) -> None:
    say("figure", "case", "ms", [4.0, 1.0, 3.0], [2.0, 1.0, 3.0], records=7)
    assert row(capsys) == {
        "figure": "figure", "case": "case", "unit": "ms", "rounds": 3,
        "median": 3.0, "min": 1.0, "max": 4.0, "ratio": 1.0, "records": 7,
    }  # fmt: skip
    assert quantile([float(value) for value in range(100)], 0.99) == 99.0


@pytest.mark.parametrize("seqs", [(0, 2), (0, 0), (1,), (0, 1, 1)])
async def test_a_hole_and_a_repeat_are_wrong(seqs: tuple[int, ...]) -> None:
    with pytest.raises(Wrong, match="was due"):
        await followed(*seqs)


async def test_the_end_of_a_stream_under_a_kill() -> None:
    whole = await followed(*range(startup.N + 1))
    startup.check_end(whole, "guard")
    cut = await followed(0, 1, status="failed", reason="interrupted")
    startup.check_end(cut, "dispatch")
    for stream, stage in ((whole, "dispatch"), (cut, "guard"), (await followed(0, 1), "guard")):
        with pytest.raises(Wrong):
            startup.check_end(stream, stage)


def test_what_the_clock_says() -> None:
    pieces = [(0.001 * n + 0.005, f"{n * 1_000_000} ") for n in range(64)]
    assert path.delays_ms([Arrivals(0.0, pieces, True)]) == pytest.approx([5.0] * 64)
    for wrong in ([*pieces[1:], pieces[0]], pieces[1:]):
        with pytest.raises(Wrong):
            path.delays_ms([Arrivals(0.0, wrong, True)])
    with pytest.raises(Wrong):
        path.delays_ms([Arrivals(0.0, pieces, False)])


@pytest.mark.parametrize(("rise", "flat"), [(0.0, True), (0.5, False)])
def test_what_rises_is_not_flat(capsys: pytest.CaptureFixture[str], rise: float, flat: bool) -> None:
    soak.slopes("edge", [(at * 10.0, (1000.0, 30, round(5 + rise * at))) for at in range(6)], 80.0)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()[1::2]]
    assert [line["flat"] for line in told] == [True, True, flat]


def test_a_lag_counts_to_the_first_look_that_finds_the_row() -> None:
    class House:
        def query(self, _: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
            return (), [("ends/0", 3, 1000), ("ends/0", 4, 1000), ("ends/1", 0, 1500)]

    looks = [(1100.0, {"ends/0": 3}), (1200.0, {"ends/0": 3}), (1900.0, {"ends/0": 5, "ends/1": 0})]
    assert list(lag.lags_of(House(), looks, 0.0)) == [100.0, 900.0, 400.0]  # type: ignore[arg-type]


def test_what_is_planted_is_found_and_what_is_not_released_is_told() -> None:
    said = dict(zip(ids(START_MS, 2, frozenset({0})), answers(1, 2, 40), strict=True))
    guard = Guard("rules", said)
    assert guard.run() == sum(len(answer.pieces) for answer in said.values())
    guard.check()
    written = guard._written
    for lost in ("tokens", "verdicts"):
        last = next(at for at, (topic, _) in reversed([*enumerate(written)]) if topic == lost)
        guard._written = written[:last] + written[last + 1 :]
        with pytest.raises(Wrong):
            guard.check()


def test_legitimate_texts_of_the_benchmark_are_of_every_kind() -> None:
    kinds = {name for name, _ in loops.legitimate(1)}
    assert {"prose en", "prose ru", "code", "csv", "json", "log", "poem", "list", "markdown table"} <= kinds
    assert loops.stop("no " * 300) is not None
