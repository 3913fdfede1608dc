"""Phrases in whatever disguise: which words a text may be read as, and whether such a reading is believed.

Letters are compared folded (NFKD, case, marks and invisible characters gone), everything else is a word border; a
phrase is found as whole words with any borders between them, each CJK character being a word of its own. A character
may also stand for another: a homoglyph of the other script, a digit or sign for a letter, a repeated letter, or letters
spaced out. Reading is generous and belief is not: `genuine` looks at the words found and refuses what ordinary text
holds by chance.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

from processors.guard.seen import unseen

BORDER = " "
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_TWINS = ("aа", "bв", "cс", "eе", "hн", "iі", "jј", "kк", "mм", "oо", "pр", "sѕ", "tт", "xх", "yу", "uи", "nп", "rг")
"""Latin letters and the Cyrillic ones that look like them, in either case, upright or slanted."""
_HOMOGLYPHS = {one: pair.replace(one, "") for pair in _TWINS for one in pair} | {
    "α": "aа", "ο": "oо", "ε": "eе", "ρ": "pр", "ν": "v", "τ": "tт", "κ": "kк", "ι": "iі", "χ": "xх", "υ": "yу",
    "ı": "i",
}  # fmt: skip
_LEET = {
    "0": "oо", "1": "ilі", "3": "eез", "4": "aач", "5": "s", "6": "bб", "7": "t", "8": "b", "9": "g",
    "@": "aа", "$": "s", "!": "i", "|": "il", "+": "t", "€": "e",
}  # fmt: skip
"""What digits and signs are written for; a sign may also be the border that it usually is."""
_REPEATS = 3
"""So many equal letters in a row are emphasis where the phrase has one or two: ordinary spelling has no three."""

Word = tuple[str, ...]
"""The forms of a word, folded; a plain phrase's words have one each."""


@lru_cache(maxsize=1 << 14)
def fold(character: str) -> str:
    """A character as phrases are compared: none, one or more characters, or a border.

    Composed letters are taken apart and their marks dropped, so that a letter is the same however it was composed:
    й and и, ё and е, é and e are one.
    """
    if unseen(character):
        return ""
    if not character.isalnum():
        return BORDER
    parts = unicodedata.normalize("NFKD", character).casefold()
    folded = "".join(part for part in parts if part.isalnum())
    return f" {folded} " if _CJK.match(character) else folded


def is_border(character: str) -> bool:
    """Whether a word may begin behind it; one that cannot be seen leaves that as it was."""
    return any(reading.endswith(BORDER) for reading in readings(character))


@lru_cache(maxsize=1 << 14)
def readings(character: str) -> tuple[str, ...]:
    """What a character may stand for, folded: itself first."""
    folded = fold(character)
    sign = folded if folded != BORDER else character
    return (folded, *_HOMOGLYPHS.get(sign, ""), *_LEET.get(sign, ""))


def words_of(phrase: str) -> tuple[str, ...]:
    """A phrase's words, folded."""
    return tuple("".join(map(fold, phrase)).split())


class Trie:
    """The words of all phrases as nodes, walked a folded character at a time. Node 0 stands behind a border.

    A phrase of several forms a word is a chain of small tries, so that its size is their sum and not their product.
    """

    def __init__(self) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._links: list[tuple[int, ...]] = [()]
        self._letters: list[str] = [BORDER]
        self._found: list[tuple[int, ...]] = [()]
        self._phrases = 0

    def add(self, words: Sequence[Iterable[str]]) -> int:
        """A phrase by its words and their forms; returns its number."""
        number = self._phrases
        forms = tuple(tuple(dict.fromkeys(word)) for word in words)
        self._chain(forms, number)
        if all(len(word) == 1 for word in forms):
            self._space_out("".join(word[0] for word in forms), number)
        elif len(forms) == 1:
            for form in forms[0]:
                self._space_out(form, number)
        self._phrases += 1
        return number

    def _space_out(self, letters: str, number: int) -> None:
        if len(letters) > 2:
            self._chain(tuple((letter,) for letter in letters), number)

    def _chain(self, words: tuple[Word, ...], number: int) -> None:
        roots = [0]
        for word in words:
            ends = {self._walk(root, form) for root in roots for form in word}
            roots = [self._border_behind(ends)]
        for root in roots:
            if number not in self._found[root]:
                self._found[root] += (number,)

    def _walk(self, node: int, letters: str) -> int:
        for letter in letters:
            if letter == self._letters[node]:
                continue  # a repeat stays where it is, in a phrase as in a text
            node = self._children[node].get(letter) or self._new(node, letter)
        return node

    def _border_behind(self, ends: set[int]) -> int:
        if len(ends) == 1:
            (end,) = ends
            return self._children[end].get(BORDER) or self._new(end, BORDER)
        shared = self._new(None, BORDER)
        for end in ends:
            self._links[end] += (shared,)
        return shared

    def _new(self, parent: int | None, letter: str) -> int:
        number = len(self._letters)
        self._children.append({})
        self._links.append(())
        self._letters.append(letter)
        self._found.append(())
        if parent is not None:
            self._children[parent][letter] = number
        return number

    def step(self, nodes: Iterable[int], character: str) -> tuple[set[int], set[int], set[int]]:
        """The nodes behind a character of the text, and the phrases that ended before and with it."""
        alive: set[int] = set()
        before: set[int] = set()
        behind: set[int] = set()
        for reading in readings(character):
            reached = set(nodes)
            for index, symbol in enumerate(reading):
                reached = self._next(reached, symbol, behind if index else before)
            alive |= reached
        alive.discard(0)
        return alive, before, behind

    def finish(self, nodes: Iterable[int]) -> set[int]:
        """The phrases that the end of the text completes."""
        found: set[int] = set()
        self._next(nodes, BORDER, found)
        return found

    def _next(self, nodes: Iterable[int], symbol: str, found: set[int]) -> set[int]:
        reached: set[int] = set()
        for node in nodes:
            if self._letters[node] == symbol:
                reached.add(node)
                continue
            child = self._children[node].get(symbol)
            if symbol != BORDER:
                if child is not None:
                    reached.add(child)
                continue
            for border in (child, *self._links[node]):
                if border is not None:
                    found.update(self._found[border])
                    if self._children[border]:
                        reached.add(border)
        return reached


def genuine(raw: str, forms: Sequence[Word]) -> bool:
    """Whether a text that can be read as a phrase is to be taken for it.

    A plain spelling always is. Otherwise each word must keep at least as many letters as it has digits and signs for
    letters, a letter of the other script must not merely be how an ordinary word of that script is spelt, and repeats
    are believed from three on.
    """
    words = words_of(raw)
    if len(words) == len(forms) and all(word in allowed for word, allowed in zip(words, forms, strict=True)):
        return True
    pieces = _pieces(raw)
    if len(pieces) == len(forms):
        return all(_believed(piece, word) for piece, word in zip(pieces, forms, strict=True))
    joined = "".join(pieces)
    return any(_believed(joined, (form,)) for form in _joined(forms))


def _joined(forms: Sequence[Word]) -> Word:
    return forms[0] if len(forms) == 1 else ("".join(word[0] for word in forms),)


def _pieces(raw: str) -> list[str]:
    """The words of a disguised text: signs that stand for letters are no borders."""
    kept = "".join(character if character in _LEET else fold(character) for character in raw)
    return kept.split()


def _believed(piece: str, forms: Word) -> bool:
    return any(_reads(piece, form) for form in forms)


def _reads(piece: str, form: str) -> bool:
    """Whether a piece of disguised text is this word."""
    runs = [(symbol, len([*group])) for symbol, group in groupby(piece)]
    wanted = [(letter, len([*group])) for letter, group in groupby(form)]
    if len(runs) != len(wanted):
        return piece != form and _reads_mixed(piece, form)
    for (symbol, count), (letter, least) in zip(runs, wanted, strict=True):
        emphasis = letter.isalpha() and count >= max(_REPEATS, least)
        if letter not in readings(symbol) or (count != least and not emphasis):
            return False
    return _plausible(piece, form)


def _reads_mixed(piece: str, form: str) -> bool:
    """Runs of a text that writes one letter in two ways: sSs5, аa."""
    if len(piece) != len(form):
        return False
    return all(letter in readings(symbol) for symbol, letter in zip(piece, form, strict=True)) and _plausible(
        piece, form
    )


def _plausible(piece: str, form: str) -> bool:
    for_letters = [symbol for symbol in piece if symbol in _LEET and symbol not in form]
    letters = [symbol for symbol in piece if symbol.isalpha()]
    if len(letters) < len(for_letters) or not letters:
        return False
    foreign = [letter for letter in letters if letter not in form]
    if not foreign or len(foreign) < len(letters):
        return True  # both scripts in one word
    # Wholly in the other script: Russian in Latin look-alikes is a habit, English in Cyrillic ones is a Russian word.
    return len(letters) > 3 and all("a" <= letter <= "z" for letter in letters)
