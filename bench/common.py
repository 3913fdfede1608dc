"""What the benchmarks share: interleaved rounds, and one way to say a figure."""

import json
import statistics
import time
from collections.abc import Callable, Sequence


def interleaved(cases: dict[str, Callable[[], int]], rounds: int = 7) -> dict[str, list[float]]:
    """Run each case once a round, in turn, so that all see the same machine; microseconds of CPU an item.

    A case returns how many items it handled.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()  # warm-up
    for _ in range(rounds):
        for name, case in cases.items():
            began = time.process_time()
            items = case()
            times[name].append((time.process_time() - began) / items * 1e6)
    return times


def report(figure: str, times: dict[str, list[float]], baseline: str) -> None:
    """Each case of `interleaved`, with its ratio to the baseline of the same round."""
    for name, values in times.items():
        say(figure, name, "us", values, times[baseline])


def say(
    figure: str, case: str, unit: str, rounds: Sequence[float], baseline: Sequence[float] = (), **more: object
) -> None:
    """A line for people and a JSON line for machines: median and spread over rounds, and what else belongs to it.

    With a `baseline`, one value a round, the median of each round's ratio to it.
    """
    values = [round(value, 3) for value in (statistics.median(rounds), min(rounds), max(rounds))]
    row: dict[str, object] = {"figure": figure, "case": case, "unit": unit, "rounds": len(rounds)}
    row |= dict(zip(("median", "min", "max"), values, strict=True))
    line = f"{figure:30} {case:32} {values[0]:10.3f} {unit}  ({values[1]:.3f}-{values[2]:.3f})"
    if baseline:
        ratio = statistics.median(value / base for value, base in zip(rounds, baseline, strict=True))
        row["ratio"] = round(ratio, 2)
        line += f"  x{ratio:.2f}"
    print(line)
    print(json.dumps(row | more), flush=True)


class Wrong(Exception):
    """An answer, a row, an end is not what it should be: the benchmark ends, and gives no figure of it."""


def check(right: bool, what: str) -> None:
    """Raises: Wrong."""
    if not right:
        raise Wrong(what)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
