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

from processors.guard.seen import blank, unseen

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
    й and и, ё and е, é and e are one. Circled letters are letters; ™ is a border, as it stands behind names.
    """
    if unseen(character):
        return ""
    parts = unicodedata.normalize("NFKD", character).casefold()
    if not character.isalnum() and len(parts.strip("()")) != 1:
        return BORDER
    folded = "".join(part for part in parts if part.isalnum())
    return f" {folded} " if _CJK.match(folded) else folded or BORDER


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


_MODES = 7
"""How a word is read: 0 as it is spelt; odd, its letters apart, behind one; even, behind what parts them. 3 and 4 are
behind the second of equal letters, 5 and 6 behind the third."""


class Trie:
    """The words of all phrases as nodes, walked a folded character at a time. Node 0 stands behind a border.

    A phrase of several forms a word is a chain of small tries, so that its size is their sum and not their product. A
    place is a node with the mode in which its word is read, as one number: spaced letters need no nodes of their own.
    """

    def __init__(self) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._links: list[tuple[int, ...]] = [()]
        self._letters: list[str] = [BORDER]
        self._found: list[tuple[int, ...]] = [()]
        self._runs: dict[int, int] = {}
        """By node how often some word has its letter in a row, where it is more than once."""
        self._phrases = 0

    def add(self, words: Sequence[Iterable[str]]) -> int:
        """A phrase by its words and their forms; returns its number."""
        number = self._phrases
        root = 0
        for word in words:
            root = self._border_behind({self._walk(root, form) for form in word})
        self._found[root] += (number,)
        self._phrases += 1
        return number

    def _walk(self, node: int, letters: str) -> int:
        for letter, run in groupby(letters):  # a repeat stays where it is, in a phrase as in a text
            node = self._children[node].get(letter) or self._new(node, letter)
            count = len([*run])
            if count > 1:
                self._runs[node] = max(count, self._runs.get(node, 1))
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

    def step(self, places: Iterable[int], character: str) -> tuple[set[int], set[int], set[int]]:
        """The places behind a character of the text, and the phrases that ended before and with it."""
        alive: set[int] = set()
        before: set[int] = set()
        behind: set[int] = set()
        for reading in readings(character):
            reached = set(places)
            for index, symbol in enumerate(reading):
                reached = self._next(reached, symbol, behind if index else before)
            alive |= reached
        if blank(character):  # it may part two words of a phrase, but ends none: soft hyphens stand within words
            alive |= self._words_behind(places, set())
        alive.discard(0)
        return alive, before, behind

    def finish(self, places: Iterable[int]) -> set[int]:
        """The phrases that the end of the text completes."""
        found: set[int] = set()
        self._words_behind(places, found)
        return found

    def _next(self, places: Iterable[int], symbol: str, found: set[int]) -> set[int]:
        if symbol == BORDER:
            return self._parted(places) | self._words_behind(places, found)
        reached: set[int] = set()
        for place in places:
            node, mode = divmod(place, _MODES)
            apart = self._behind_border(place)
            child = self._children[node].get(symbol)
            if self._letters[node] == symbol:
                if not apart:
                    reached.add(place)
                elif mode // 2 < self._runs.get(node, 1) and mode + 1 < _MODES:
                    reached.add(place + 1)
            elif child is not None:
                if mode == 0:
                    reached.add(child * _MODES)
                if apart:
                    reached.add(child * _MODES + 1)
        return reached

    def _parted(self, places: Iterable[int]) -> set[int]:
        """Where a border leads that ends no word: behind another border, and behind a letter that stands alone."""
        stay = {place for place in places if self._behind_border(place)}
        return stay | {place + 1 for place in places if place % _MODES % 2}

    def _words_behind(self, places: Iterable[int], found: set[int]) -> set[int]:
        """Where a border leads that ends a word; the phrases that it ends are `found`."""
        ends = {place // _MODES for place in places if not self._behind_border(place)}
        reached: set[int] = set()
        for border in {border for end in ends for border in (self._children[end].get(BORDER), *self._links[end])}:
            if border is not None:
                found.update(self._found[border])
                if self._children[border]:
                    reached.add(border * _MODES)
        return reached

    def _behind_border(self, place: int) -> bool:
        node, mode = divmod(place, _MODES)
        return mode % 2 == 0 if mode else self._letters[node] == BORDER


def genuine(raw: str, forms: Sequence[Word]) -> bool:
    """Whether a text that can be read as a phrase is to be taken for it.

    A plain spelling always is. Otherwise each word must keep at least as many letters as it has digits and signs for
    letters, a letter of the other script must not merely be how an ordinary word of that script is spelt, and repeats
    are believed from three on.
    """
    words = words_of(raw)
    if len(words) == len(forms) and all(word in allowed for word, allowed in zip(words, forms, strict=True)):
        return True
    parted = "".join(BORDER if blank(character) else character for character in raw)
    return any(_aligned(pieces, forms, _apart(pieces, forms)) for pieces in (_pieces(raw), _pieces(parted)))


def _apart(pieces: list[str], forms: Sequence[Word]) -> bool:
    """Whether letters may stand apart. Two that do are initials, not a word."""
    return len(pieces) > len(forms) and len("".join(pieces)) > 2


def _aligned(pieces: list[str], forms: Sequence[Word], apart: bool) -> bool:
    """Whether pieces of a text, one after another, read as the words: each word is one of them or, where letters stand
    `apart`, several."""
    if not forms or not pieces:
        return not forms and not pieces
    return any(
        _believed("".join(pieces[:count]), forms[0]) and _aligned(pieces[count:], forms[1:], apart)
        for count in range(1, len(pieces) - len(forms) + 2 if apart else 2)
    )


def _pieces(raw: str) -> list[str]:
    """The words of a disguised text: signs that stand for letters are no borders."""
    kept = "".join(character if character in _LEET else fold(character) for character in raw)
    return kept.split()


def _believed(piece: str, forms: Word) -> bool:
    return piece in forms or any(_reads(piece, form) for form in forms)


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
    if len(letters) < len(for_letters) + (len(piece) <= 4) or not letters:  # Е6, 60MB
        return False
    foreign = [letter for letter in letters if letter not in form]
    if not foreign or len(foreign) < len(letters):
        return True  # both scripts in one word
    # Wholly in the other script: Russian in Latin look-alikes is a habit, English in Cyrillic ones is a Russian word.
    return len(letters) > 3 and all("a" <= letter <= "z" for letter in letters)
