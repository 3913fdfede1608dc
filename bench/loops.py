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
    "exact, 1-10 tokens": lambda rng, source: degenerate.exact(rng, source, 1, 10),
    "exact, 20-60 tokens": lambda rng, source: degenerate.exact(rng, source, 20, 60),
    "exact, 80-300 tokens": lambda rng, source: degenerate.exact(rng, source, 80, 300),
    "settling, 2-60 tokens": lambda rng, source: degenerate.settling(rng, source, 2, 60),
    "counting, 3-60 tokens": lambda rng, source: degenerate.counting(rng, source, 3, 60),
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
    told = {"texts": texts, "characters": characters, "of": dict(stops)}
    say("false stops", "legitimate texts", "%", [share * 100], goal=FALSE * 100, **told)
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
    words = [word for word in "".join(prose("en")(rng, 400)).split() if word.isalpha()]
    word = lambda: rng.choice(words)  # noqa: E731
    keys, count = [word() for _ in range(rng.randint(2, 6))], rng.randint(10, 60)
    value = lambda: rng.choice((f'"{word()}"', "null", "0", "true", str(rng.randint(0, 9999))))  # noqa: E731
    rows = ("  {" + ", ".join(f'"{key}": {value()}' for key in keys) + "}" for _ in range(count))
    yield "json", "[\n" + ",\n".join(rows) + "\n]"
    lines = [" ".join(word() for _ in range(rng.randint(2, 6))) for _ in range(rng.randint(3, 8))]
    times = (divmod(rng.randint(0, 4) + 7 * n, 60) for n in range(count))
    log = (f"2026-05-01 12:{minute:02}:{second:02} INFO worker-{rng.randint(1, 4)}" for minute, second in times)
    yield "log", "\n".join(f"{entry} {rng.choice(lines)}" for entry in log)
    refrain = " ".join(word() for _ in range(6))
    verses = ("\n".join([*(" ".join(word() for _ in range(5)) for _ in range(3)), refrain]) for _ in range(12))
    yield "poem", "\n\n".join(verses)
    yield "list", "\n".join(f"- **{word()}**: {word()} {word()} {word()}." for _ in range(count))
    yield "price table", "\n".join(f"| {n} | {word()} | {rng.randint(1, 99)}.00 | 0 |" for n in range(1, count))


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
    each, rounds = (*map(int, sys.argv[1:]), *(EACH, ROUNDS)[len(sys.argv) - 1 :])
    cost()
    found(each)
    false_stops(rounds)


if __name__ == "__main__":
    main()
