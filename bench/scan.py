"""Scanning a chunk: our automaton against hyperscan, the same 2,000 patterns, the same chunks, each answer a stream.

hyperscan is no dependency: `pip install hyperscan`; without it that half is left out. Its half sees no disguises and
does not tell what may be released. Ours is measured as it works, remembering the way over pieces, and without that.
"""

import re
from collections.abc import Callable
from typing import Any

from bench.answers import CASES, Answer, answers, expressions, forms, lemmas, make_policy, phrases
from bench.common import check, interleaved, report
from processors.guard.automaton import Automaton
from processors.guard.rules import CompiledRules

STREAMS, CHUNKS = 200, 100
PARTS = ("words", "expressions")

found = 0
"""Matches. hyperscan's callback has to be an object that lives on, so it and what it counts stand here."""


def count(number: int, start: int, end: int, flags: int, context: object) -> None:
    """What hyperscan calls at each match."""
    global found
    found += 1


def ours(automaton: Automaton, said: list[list[str]], remembers: bool) -> Callable[[], int]:
    """Each answer through the automaton, a piece after the other."""
    walk = automaton.walk if remembers else automaton._walk

    def run() -> int:
        matches = 0
        for pieces in said:
            state = automaton.start
            for piece in pieces:
                walked = walk(state, piece)
                state = walked.state
                matches += len(walked.ended)
        check(matches >= planted, f"{matches} matches of {planted}")
        return sum(map(len, said))

    planted = 3 * len(said)
    return run


def theirs(hyperscan: Any, said: list[list[str]]) -> Callable[[], int]:
    """Each answer through a stream of hyperscan, encoded as it takes it."""
    flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_UCP
    patterns = [pattern.replace(r"\b", "").encode() for pattern in (*_written(), *expressions())]
    database = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM)
    database.compile(expressions=patterns, ids=[*range(len(patterns))], flags=[flags] * len(patterns))
    print(f"hyperscan: {len(patterns)} patterns, {_stream_size(database)}")
    context = object()

    def run() -> int:
        global found
        found = 0
        for pieces in said:
            with database.stream(match_event_handler=count, context=context) as stream:
                for piece in pieces:
                    stream.scan(piece.encode())
        check(found >= 3 * len(said), f"{found} matches of {3 * len(said)}")
        return sum(map(len, said))

    return run


def _written() -> list[str]:
    """Phrases as expressions; hyperscan knows no word border (\\b) beside letters of Unicode, so without."""
    words = [[[word] for word in phrase.split()] for phrase in phrases()] + [forms(lemma) for lemma in lemmas()]
    return [r"\s+".join("(?:" + "|".join(map(re.escape, word)) + ")" for word in phrase) for phrase in words]


def _stream_size(database: Any) -> str:
    return str(database.info().decode() if isinstance(database.info(), bytes) else database.info())


def main() -> None:
    """Measure in turn."""
    said: list[list[str]] = [answer.pieces for answer in drawn()]
    effective = make_policy(PARTS).effective("demo")
    assert effective is not None
    automaton = CompiledRules(effective).answers["en"].automaton
    cases = {"ours": ours(automaton, said, True), "ours, nothing remembered": ours(automaton, said, False)}
    try:
        import hyperscan
    except ModuleNotFoundError:
        print("hyperscan is not installed: pip install hyperscan")
    else:
        cases["hyperscan"] = theirs(hyperscan, said)
    report("scan, CPU a chunk", interleaved(cases), "ours")


def drawn() -> list[Answer]:
    """The answers of `bench.guard`; each has a phrase, a code and a lemma."""
    check(set(PARTS) <= set(CASES["rules"]), "the rules have other parts")
    return answers(1, STREAMS, CHUNKS)


if __name__ == "__main__":
    main()
