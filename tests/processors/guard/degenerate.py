"""Answers that degenerate and answers that do not, from a seed: what the loop detector is measured on.

Words are drawn anew for each text, so that no phrase of a detector can fit them. A token is a word, a sign or a stretch
of white space; lengths are in tokens.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
LENGTH = 2048
"""Tokens of a text."""

_SYLLABLES = {
    "en": "ba con der est fi gen hol ing jus ker lan mor ness op per qua ret sta tion un ver wil ex yard zen the of",
    "ru": "ба вер гор до ест жи за ин ка лан мо на об пра раз ста тель ун фор хо цев чи шу ще эт юр яв не во по",
}

Source = Callable[[random.Random, int], list[str]]
"""Makes so many tokens of ordinary text."""


def prose(language: str) -> Source:
    """Sentences of made-up words, the frequent ones more often, in paragraphs."""

    def make(rng: random.Random, length: int) -> list[str]:
        syllables = _SYLLABLES[language].split()
        words = ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 3)))) for _ in range(400)]
        weights = [1 / (rank + 1) for rank in range(len(words))]
        tokens: list[str] = []
        while len(tokens) < length:
            sentence = rng.choices(words, weights, k=rng.randint(4, 16))
            sentence[0] = sentence[0].capitalize()
            for word in sentence:
                tokens += [word, rng.choices((" ", ", "), (9, 1))[0]]
            tokens[-1:] = [rng.choices((".", "!", "?"), (8, 1, 1))[0], rng.choices((" ", "\n\n"), (4, 1))[0]]
        return TOKEN.findall("".join(tokens))[:length]

    return make


def exact(rng: random.Random, source: Source, shortest: int, longest: int) -> str:
    """An answer that falls, after 300 to 800 tokens, into copies of `shortest` to `longest` tokens of its own."""
    onset = rng.randint(300, 800)
    tokens = source(rng, onset + longest)
    unit = tokens[onset : onset + rng.randint(shortest, longest)]
    return "".join(_repeated(tokens[:onset], unit))


def settling(rng: random.Random, source: Source, shortest: int, longest: int) -> str:
    """The same, where a word of each of the first two or three copies is another one still."""
    onset = rng.randint(300, 800)
    tokens = source(rng, onset + longest)
    unit = tokens[onset : onset + rng.randint(shortest, longest)]
    start = tokens[:onset]
    for _ in range(rng.randint(2, 3)):
        copy = list(unit)
        copy[rng.randrange(len(copy))] = rng.choice(tokens)
        start += copy
    return "".join(_repeated(start, unit))


def counting(rng: random.Random, source: Source, shortest: int, longest: int) -> str:
    """An answer that falls into lines that differ in their number alone."""
    onset = rng.randint(300, 800)
    tokens = source(rng, onset + longest)
    unit = "".join(token for token in tokens[onset : onset + rng.randint(shortest, longest)] if not token.isdigit())
    label, after, by = rng.choice(_LABELS), rng.choice((": ", ". ", " - ")), rng.choice((1, 1, 1, 2, 5, -1))
    number = rng.randint(1, 20) if by > 0 else 900
    text, length = "".join(tokens[:onset]) + "\n", onset + 1
    while length < LENGTH:
        line = f"{label}{number}{after}{unit.strip()}\n"
        text, length, number = text + line, length + len(TOKEN.findall(line)), number + by
    return text


_LABELS = ("Step ", "Question ", "", "Example #", "Шаг ", "Пункт ", "Глава ")


def run(rng: random.Random, source: Source) -> str:
    """An answer that falls into one character."""
    onset = rng.randint(300, 800)
    return "".join(source(rng, onset)) + rng.choice("aaзo!?,.-_ \n0") * 1300


_SCRIPTS = {
    "Han": (0x4E00, 0x4FFF, "，"),
    "Arabic": (0x0627, 0x063A, " "),
    "Hangul": (0xAC00, 0xB000, " "),
    "Devanagari": (0x0905, 0x0939, " "),
}


def other_script(rng: random.Random, length: int) -> str:
    """Letters of another script in groups, as sentences are."""
    first, last, between = rng.choice(list(_SCRIPTS.values()))
    groups = ("".join(chr(rng.randint(first, last)) for _ in range(rng.randint(2, 9))) for _ in range(length))
    return between.join(groups)[:length]


def drift(rng: random.Random, source: Source) -> str:
    """An answer that goes over to another script in the middle of a sentence."""
    words = " ".join(token for token in source(rng, 40) if token.isalpha())
    return "".join(source(rng, rng.randint(300, 800))) + words + " " + other_script(rng, rng.randint(600, 2000))


def legitimate(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Texts that repeat by nature and are none the worse for it, by name; each call draws others."""
    for language in ("en", "ru"):
        yield f"prose {language}", "".join(prose(language)(rng, LENGTH))
    word = _words(rng)
    rows, columns = rng.randint(3, 20), rng.randint(3, 20)
    yield "times table", "\n".join(f"{a} x {b} = {a * b}" for a in range(1, rows) for b in range(1, columns))
    yield "count", rng.choice((", ", "\n", " ")).join(map(str, range(1, rng.randint(50, 600))))
    yield "numbered list", "\n".join(f"{n}. {word()} {word()}" for n in range(1, rng.randint(20, 200)))
    activity = [f"{word()} {word()}" for _ in range(rng.randint(1, 3))]
    yield "calendar", "\n".join(f"Day {n}: {rng.choice(activity)}" for n in range(1, 32))
    fields = [word() for _ in range(rng.randint(2, 5))]
    yield "form", "\n\n".join("\n".join(f"{f}: [{f}]" for f in (f"Person {n}", *fields)) for n in range(1, 9))
    yield "grid", _grid(rng, rng.randint(3, 28), rng.randint(3, 28))
    yield "fenced grid", f"Here it is:\n\n```python\n{_grid(rng, rng.randint(3, 28), rng.randint(3, 28))}\n```\n"
    constant = ",".join(rng.choices(("US", "active", "0", "n/a", word()), k=rng.randint(1, 4)))
    yield "csv", "\n".join(f"{n + 1000},{constant},{rng.choice((0, 0, 7, 31))}" for n in range(rng.randint(10, 100)))
    cell = rng.choice(("  ", " - ", " yes ", " 0 "))
    table = "\n".join("|" + f"{cell}|" * rng.randint(3, 7) for _ in range(rng.randint(3, 20)))
    yield "markdown table", f"| {word()} | {word()} |\n| --- | --- |\n{table}"
    row = "<tr>" + "<td></td>" * rng.randint(2, 10) + "</tr>\n"
    yield "html table", f"<table>\n{row * rng.randint(2, 10)}</table>"
    art = rng.choice("#*@.=")
    yield "drawing", "\n".join(" " * (20 - n) + art * (2 * n + 1) for n in range(20)) + "\n" + "-" * 120
    bytes_ = (" ".join(rng.choices(("00", "ff", "7f"), k=16)) for _ in range(40))
    yield "hex dump", "\n".join(f"{16 * n:08x}  {line}" for n, line in enumerate(bytes_))
    name = word().upper()
    entries = "\n".join(f"    {name}_{n} = {n}," for n in range(rng.randint(8, 64)))
    yield "enumeration", f"Sure:\n\n```c\nenum {{\n{entries}\n}};\n```\n"
    yield "song", _song(word, rng)
    versions = ((rng.randint(1, 3), n, word()) for n in range(40, 0, -1))
    yield "changelog", "\n\n".join(f"## {a}.{b}.0\n\n* Bump {c} to the newest version" for a, b, c in versions)
    kept = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software."
    yield "licences", "\n\n".join(f"Package: {word()}\n{kept}" for _ in range(25))
    own = "".join(prose(rng.choice(("en", "ru")))(rng, 400))
    foreign = other_script(rng, 900)
    yield "translation", f"{own}\n\n{rng.choice(('Translation:', '>', ''))} {foreign}"
    yield "quotation", f"{own} It means: «{foreign}»\n{own}"


def _words(rng: random.Random) -> Callable[[], str]:
    syllables = _SYLLABLES["en"].split()
    return lambda: "".join(rng.choices(syllables, k=rng.randint(1, 3)))


def _grid(rng: random.Random, rows: int, columns: int) -> str:
    values = rng.choice(("0", "01"))
    return "\n".join("    [" + ", ".join(rng.choices(values, k=columns)) + "]," for _ in range(rows))


def _song(word: Callable[[], str], rng: random.Random) -> str:
    def lines(count: int) -> list[str]:
        return [" ".join(word() for _ in range(rng.randint(4, 8))) for _ in range(count)]

    chorus = lines(4)
    verses = ([*lines(8), "", *chorus, *[chorus[-1]] * rng.randint(0, 4), ""] for _ in range(5))
    return "\n".join(line for verse in verses for line in verse)


def _repeated(start: Sequence[str], unit: Sequence[str]) -> list[str]:
    tokens = list(start)
    while len(tokens) < LENGTH:
        tokens += unit
    return tokens[:LENGTH]
