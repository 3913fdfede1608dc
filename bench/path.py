"""The whole path against its provider called directly: time to first token, stall-free streams, whole answers a second.

Starts `sluice up` on Apache Kafka with the simulated provider; provider, pipeline and load share the machine.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop

from bench.load import Arrivals, median, quantile, together, whole_answers

POLICY = """
version: 1
providers: {simulated: {kind: openai, base_url: "simulated:"}}
routes:
  paced: [{provider: simulated, model: "numbers?n=64&pace_ms=20"}]
  quick: [{provider: simulated, model: "say?text=A short answer.&first_ms=20"}]
tenants: {demo: {}}
rules: [{id: r, kind: phrase, phrases: ["never to be said", "и этого не говорить"], action: stop}]
timeouts: {first_token_s: 60, deadline_s: 120}
cache: {when: never}
"""
PACED, QUICK = "numbers?n=64&pace_ms=20", "say?text=A short answer.&first_ms=20"
EXPECTED = "".join(f"{number} " for number in range(1, 65))
STALL_MS = 200.0


@contextmanager
def pipeline() -> Iterator[dict[str, str]]:
    """A running pipeline: addresses and key."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        jars = Path(".sluice/kafka-jars").absolute()
        jars.mkdir(parents=True, exist_ok=True)
        (home / "kafka-jars").symlink_to(jars)
        (home / "policy.yaml").write_text(POLICY)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("sluice")), "up", "--port", "0", "--policy", str(home / "policy.yaml")],
            env=plain | {"SLUICE_HOME": folder, "SLUICE_KAFKA": "local"},
            stdout=subprocess.DEVNULL,
        )
        try:
            while not (home / "services.json").exists():
                if process.poll() is not None:
                    sys.exit("the pipeline did not start")
                time.sleep(0.1)
            services = json.loads((home / "services.json").read_text())
            yield services | {"key": (home / "demo-key").read_text(), "up": str(process.pid)}
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def cpu_by_stage(up: int) -> dict[str, float]:
    """CPU seconds of each process of the pipeline so far."""
    found = {}
    for child in psutil.Process(up).children():
        line = child.cmdline()
        name = (
            line[-1] if line[-2:-1] == ["run"] else next((w for w in line if "Kafka" in w or "simulated" in w), line[0])
        )
        times = child.cpu_times()
        found[name.rpartition("/")[2]] = times.user + times.system
    return found


def say(figure: str, **values: object) -> None:
    """A line for people and machines alike."""
    print(json.dumps({"figure": figure} | values), flush=True)


def check(streams: list[Arrivals]) -> int:
    """How many streams came whole, in order, and without a stall."""
    wrong = [s for s in streams if s.text != EXPECTED or not s.done]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(streams)} streams were not what the provider sent")
    return sum(s.longest_gap_ms <= STALL_MS for s in streams)


async def measure(services: dict[str, str]) -> None:
    """All figures, each beside its baseline of the same minute."""
    key = {"Authorization": f"Bearer {services['key']}"}
    ours, direct = services["edge"], services["simulated"]
    await together(ours, key, "paced", 8, 0.5)  # warm-up
    for count in (1, 32, 128, 256):
        rounds = 10 if count == 1 else 1
        base: list[Arrivals] = []
        through: list[Arrivals] = []
        began = time.monotonic()
        for _ in range(rounds):
            base += await together(direct, {}, PACED, count, 1.0)
        middle = cpu_by_stage(int(services["up"]))
        for _ in range(rounds):
            through += await together(ours, key, "paced", count, 1.0)
        after = cpu_by_stage(int(services["up"]))
        check(base)
        deltas = 64 * len(through)
        added = [a.first_ms - median([b.first_ms for b in base]) for a in through]
        say(
            "time to first token, added",
            streams=count,
            p50_ms=round(median(added), 1),
            p99_ms=round(quantile(added, 0.99), 1),
            direct_p50_ms=round(median([b.first_ms for b in base]), 1),
            longest_gap_ms=round(max(a.longest_gap_ms for a in through), 1),
            stall_free=check(through),
            cpu_us_a_delta={n: round((after[n] - middle[n]) / deltas * 1e6) for n in after if n in middle},
            seconds=round(time.monotonic() - began, 1),
        )
    for rate in (100, 200, 400, 600):
        before = cpu_by_stage(int(services["up"]))
        took = await whole_answers(ours, key, "quick", rate, 5)
        after = cpu_by_stage(int(services["up"]))
        direct_took = await whole_answers(direct, {}, QUICK, rate, 2)
        say(
            "whole answers",
            offered_a_second=rate,
            p50_ms=round(median(took), 1),
            p99_ms=round(quantile(took, 0.99), 1),
            direct_p50_ms=round(median(direct_took), 1),
            failed=sum(value == float("inf") for value in took),
            cpu_us_an_answer={n: round((after[n] - before[n]) / len(took) * 1e6) for n in after if n in before},
        )


def main() -> None:
    """Start the pipeline, measure, stop it."""
    with pipeline() as services:
        uvloop.run(measure(services))


if __name__ == "__main__":
    main()
