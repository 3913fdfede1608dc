"""What the benchmarks share: interleaved rounds, and one JSON line a figure."""

import json
import statistics
import time
from collections.abc import Callable


def interleaved(cases: dict[str, Callable[[], int]], rounds: int = 7) -> dict[str, list[float]]:
    """Run each case once a round, in turn, so that all see the same machine; microseconds an item.

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
    """A line for people and a JSON line for machines: median, spread, ratio to the baseline of the same round."""
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times[baseline], strict=True)]
        row = {
            "figure": figure,
            "case": name,
            "us": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
            "ratio": round(statistics.median(ratios), 2),
        }
        print(f"{figure:28} {name:34} {row['us']:8.3f} us  ({row['min']:.3f}-{row['max']:.3f})  x{row['ratio']:.2f}")
        print(json.dumps(row))
