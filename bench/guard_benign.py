"""Ordinary texts under the starter policy: how many are stopped or masked, and how much of them readers wait for.

`python -m bench.guard_benign FILE...`, JSON lines with a `text` each, as `sluice evaluate` reads them. Each is cut by a
seed into chunks of 1 to 20 characters. The classifier is not asked: `sluice evaluate moderation` tells how it judges.
"""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median

from bench.common import check, quantile, say
from connectors.evaluation import pieces
from connectors.policy_file import load_policy
from processors.guard.loops import Loops
from processors.guard.rules import CompiledRules, RuleSet
from processors.guard.text import GuardedText, Placeholders
from processors.policy import Effective
from streams.installation import resource

PASSED, MEDIAN, P99 = 99.5, 8, 64


def judge(rules: RuleSet, effective: Effective, text: str, chance: random.Random, held: list[int]) -> set[str]:
    """Rules that stop or mask a text. What is held back behind each chunk goes into `held`."""
    guarded, loops = GuardedText(rules, Placeholders()), Loops()
    rulings: set[str] = set()
    out: list[str] = []
    for piece in pieces(text, chance):
        free, found = guarded.feed(piece)
        out.append(free)
        held.append(len(guarded.pending))
        rulings |= {one.pattern.rule.id for one in found if one.pattern.rule.action != "flag"}
        loop = loops.feed(piece)
        if loop is not None and getattr(effective.degeneration, loop.kind) == "stop":
            rulings.add(f"degeneration.{loop.kind}")
    free, found = guarded.finish()
    rulings |= {one.pattern.rule.id for one in found if one.pattern.rule.action != "flag"}
    check(bool(rulings) or "".join(out) + free == text, f"another text was released: {text[:80]!r}")
    return rulings


def measure(path: Path, rules: RuleSet, effective: Effective) -> None:
    """A file: the share of its texts that pass as they are, what is held back, microseconds a chunk."""
    texts = [str(json.loads(line)["text"]) for line in path.read_text("utf-8").splitlines() if line.strip()]
    chance, held = random.Random(path.name), list[int]()
    rulings: Counter[str] = Counter()
    began, passed = time.process_time(), 0
    for text in texts:
        found = judge(rules, effective, text, chance, held)
        passed += not found
        rulings.update(found)
    took = (time.process_time() - began) / len(held) * 1e6
    say("ordinary texts let pass", path.name, "%", [100 * passed / len(texts)], goal=PASSED, n=len(texts), by=rulings)
    say("held back, p50", path.name, "chars", [median(held)], goal=MEDIAN, chunks=len(held))
    say("held back, p99", path.name, "chars", [quantile(held, 0.99)], goal=P99, most=max(held))
    say("rules and loops, CPU", path.name, "us", [took])


def main() -> None:
    """Measure each file."""
    if not sys.argv[1:]:
        sys.exit("usage: python -m bench.guard_benign FILE.jsonl ...")
    effective = load_policy(resource("rules") / "starter.yaml").effective("demo")
    assert effective is not None
    rules = CompiledRules(effective).answers["en"]
    for name in sys.argv[1:]:
        measure(Path(name), rules, effective)


if __name__ == "__main__":
    main()
