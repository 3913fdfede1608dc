"""Loops: how many planted ones are found, how many legitimate texts are taken for one, and what that costs a token.

Planted loops and texts that repeat by nature are drawn from a seed (`tests.processors.guard.degenerate`); real code and
its comments are the standard library's. A token is four characters of English or three of Russian, as providers bill.
"""

import random
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from bench.common import check, say
from processors.guard.loops import Loop, Loops
from tests.processors.guard import degenerate
from tests.processors.guard.degenerate import Source, prose

STOPS = ("run", "exact", "counting")
"""What the documentation advises to stop at; drift is a hint."""
EACH, ROUNDS = 250, 90
"""Planted texts of a kind and language; draws of each kind of legitimate text."""
FOUND, FALSE = 0.98, 0.0012
PIECE = 5
"""Characters of a chunk."""
Maker = Callable[[random.Random, Source], str]
MAKERS: dict[str, Maker] = {
    "exact, 1-10 tokens": partial(degenerate.exact, shortest=1, longest=10),
    "exact, 20-60 tokens": partial(degenerate.exact, shortest=20, longest=60),
    "exact, 80-300 tokens": partial(degenerate.exact, shortest=80, longest=300),
    "settling, 2-60 tokens": partial(degenerate.settling, shortest=2, longest=60),
    "counting, 3-60 tokens": partial(degenerate.counting, shortest=3, longest=60),
    "run": degenerate.run,
}


def stop(text: str) -> Loop | None:
    """The first loop that an answer would be stopped at."""
    loops = Loops()
    loop = loops.feed(text)
    while loop is not None and loop.kind not in STOPS:
        loop = loops.feed("")
    return loop


def found(each: int) -> None:
    """The share of planted loops that are found, and how much of the text was read by then."""
    for name, make in MAKERS.items():
        for language in ("en", "ru"):
            texts = [make(random.Random(seed), prose(language)) for seed in range(each)]
            stops = [stop(text) for text in texts]
            share = sum(loop is not None for loop in stops) / each
            read = [loop.end / len(text) for loop, text in zip(stops, texts, strict=True) if loop is not None]
            say("loops found", f"{name}, {language}", "%", [share * 100], goal=FOUND * 100, read=round(median(read), 3))
            check(share >= FOUND, f"{name}, {language}: {share:.1%} found")


def false_stops(rounds: int) -> None:
    """The share of legitimate texts that would be stopped."""
    texts = characters = 0
    stops: Counter[str] = Counter()
    for name, text in legitimate(rounds):
        texts, characters = texts + 1, characters + len(text)
        stops.update([name] if stop(text) else [])
    share = sum(stops.values()) / texts
    said = f"{texts} texts, {characters / 1e6:.1f} M characters"
    say("false stops", said, "%", [share * 100], goal=FALSE * 100, stopped=dict(stops))
    check(share <= FALSE, f"false stops: {dict(stops)}")


def legitimate(rounds: int) -> Iterator[tuple[str, str]]:
    """Texts by kind."""
    for seed in range(rounds):
        yield from degenerate.legitimate(random.Random(seed))
        yield from more(random.Random(seed))
    for number, text in enumerate(islice(code(), 10 * rounds)):
        yield "code", f"Here it is:\n\n```python\n{text}\n```\n" if number % 2 else text


def code() -> Iterator[str]:
    """Beginnings of the standard library's modules."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("**/*.py")):
        text = path.read_text("utf-8", "replace")[:8000] if "site-packages" not in path.parts else ""
        if len(text) > 1000:
            yield text


def more(rng: random.Random) -> Iterator[tuple[str, str]]:
    """JSON, logs, poems, lists and tables of some length."""
    vocabulary = [word for word in "".join(prose("en")(rng, 400)).split() if word.isalpha()]
    count = rng.randint(10, 60)

    def words(least: int, most: int) -> str:
        return " ".join(rng.choices(vocabulary, k=rng.randint(least, most)))

    def value() -> str:
        return rng.choice((f'"{words(1, 1)}"', "null", "0", "true", str(rng.randint(0, 9999))))

    keys = rng.sample(vocabulary, rng.randint(2, 6))
    rows = ("  {" + ", ".join(f'"{key}": {value()}' for key in keys) + "}" for _ in range(count))
    yield "json", "[\n" + ",\n".join(rows) + "\n]"
    lines = [words(2, 6) for _ in range(rng.randint(3, 8))]
    times = (divmod(7 * n, 60) for n in range(count))
    log = (f"2026-05-01 12:{minute:02}:{second:02} INFO worker-{rng.randint(1, 4)}" for minute, second in times)
    yield "log", "\n".join(f"{entry} {rng.choice(lines)}" for entry in log)
    refrain = words(6, 6)
    yield "poem", "\n\n".join("\n".join([words(5, 5), words(5, 5), words(5, 5), refrain]) for _ in range(12))
    yield "list", "\n".join(f"- **{words(1, 1)}**: {words(3, 3)}." for _ in range(count))
    yield "price table", "\n".join(f"| {n} | {words(1, 1)} | {rng.randint(1, 99)}.00 | 0 |" for n in range(1, count))


def cost() -> None:
    """Microseconds of CPU a token in small pieces: prose, code, and a table of numbers, where most is to be done."""
    rng = random.Random(1)
    rows = (f"| {n} | {rng.randint(0, 9999)} | {rng.random():.3f} | ok |\n" for n in range(2000))
    texts = {f"prose, {language}": "".join(prose(language)(rng, 20_000)) for language in ("en", "ru")}
    texts |= {"code": "".join(islice(code(), 20)), "numbers": "".join(rows)}
    for name, text in texts.items():
        tokens = len(text) / (3 if name == "prose, ru" else 4)
        say("loops, CPU a token", name, "us", [_timed(text) / tokens for _ in range(7)], goal=1.0)


def _timed(text: str) -> float:
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    loops = Loops()
    began = time.process_time()
    for piece in pieces:
        loops.feed(piece)
    return (time.process_time() - began) * 1e6


def main() -> None:
    """`python -m bench.loops [EACH [ROUNDS]]`."""
    given = [int(word) for word in sys.argv[1:]]
    each, rounds = given + [EACH, ROUNDS][len(given) :]
    cost()
    found(each)
    false_stops(rounds)


if __name__ == "__main__":
    main()
