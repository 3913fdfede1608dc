"""What the text classifier sees of a text: its words, their pieces and their pairs, as numbers of hash buckets.

Training and serving share this code, for a model is worth nothing on other features than it was trained on. Pieces are
character n-grams inside the word, its ends marked (Bojanowski et al. 2017, doi:10.1162/tacl_a_00051), so that inflected
and misspelt forms share most of them, and words can be remembered: most words of a text have been seen shortly before.
Buckets come from hashing, without a vocabulary (Weinberger et al. 2009, doi:10.1145/1553374.1553516).
"""

import re
import unicodedata
from array import array
from collections.abc import Callable, Mapping
from typing import TypeVar
from zlib import crc32

import numpy as np

BUCKETS = 1 << 19
"""Buckets are numbered from 1; 0 is free to pad with."""
PARAMETERS = {"version": 4, "buckets": BUCKETS}
"""What a model was trained on; one of others cannot be served. Any change of this file's results is a new version, and
so is one of what the model's graph is given."""

_WORD, _SIMPLE_WORD = re.compile(r"\w+(?:[*@$#]+\w+)*[@$]*"), re.compile(r"\w+")
_SPACED = re.compile(r"(?<!\w)\w(?:[ .\-_*]\w(?!\w)){3,}")
_PERHAPS_SPACED = re.compile(r"[ .\-_*]\w[ .\-_*]\w[ .\-_*]")
"""Part of each of those, and found in half the time."""
_SIGN = re.compile("[*@$#]")
_BETWEEN_SENTENCES = re.compile(r"[.!?] |\n")
"""No word and no letters that are spaced out go over it, so that it makes no difference to what is found."""
_BORDERS = re.compile(r"[\W_]+")
_REPEATS = re.compile(r"(.)\1+")
_CYRILLIC = re.compile("[а-я]")
_LATIN = re.compile("[a-z]")
_DIGIT_OR_SIGN = re.compile(r"[\d*@$#]")
_MARKS = "".join(map(chr, (0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0x300, 0x370), *range(0xFE00, 0xFE10))))
_MARK = re.compile(f"[{_MARKS}]+")
_CYRILLIC_TWINS = str.maketrans("abcehkmoptuxyr0346@", "авсенкмортихуг" + "озчба")
_LATIN_TWINS = str.maketrans("авсенкмортху013457@$", "abcehkmoptxy" + "oieastas")
_ENDS = "\x02{}\x03"
_PAIR = np.uint32(0x9E3779B1)
T = TypeVar("T")
_NONE = bytes(4)
"""What stands before the first word."""


class Features:
    """What the heads of a model see of texts. `pieces` tells by head the characters of the shortest and the longest
    pieces of words, the marks of the word's ends included.

    What was read is remembered: heads look at one end, a window of a growing text is mostly what the one before it was,
    and most words have been seen shortly before.
    """

    def __init__(self, pieces: Mapping[str, tuple[int, int]]) -> None:
        self._heads = {head: number for number, head in enumerate(pieces, 1)}
        self._sizes = [range(2 * shortest, 2 * longest + 2, 2) for shortest, longest in pieces.values()]
        self._word = _Memo(self._of_word, 1 << 17)
        self._sentence = _Memo(self._of_sentence, 1 << 20)

    def of(self, text: str, head: str) -> list[int]:
        """The buckets of its words, pieces of words and pairs of neighbouring words, each once, in order of sight.

        Case, ё, compatibility forms and characters that cannot be seen make no difference; letters of the other script
        and digits inside a word are read as the letters they stand for. Empty where the text holds no word.
        """
        return list(dict.fromkeys(array("I", self.buckets(text, head))))

    def buckets(self, text: str, head: str) -> bytes:
        """The same as an array's bytes, some more than once: for serving, which makes no Python number of each."""
        number = self._heads[head]
        read = [one for one in map(self._sentence.__getitem__, _BETWEEN_SENTENCES.split(text)) if one]
        hashes = np.frombuffer(_NONE + b"".join([hash for one in read for hash in one[0]]), np.uint32)
        pairs = (hashes[:-1] * _PAIR + hashes[1:]) % (BUCKETS - 1) + 1  # the product wraps around
        return b"".join([*dict.fromkeys([word for one in read for word in one[number]]), pairs.tobytes()])

    def _of_sentence(self, sentence: str) -> list[tuple[bytes, ...]]:
        """What `_of_word` says of its words, turned: the hashes of all, and for each head the buckets of all."""
        return [*zip(*map(self._word.__getitem__, _words(sentence)), strict=True)]

    def _of_word(self, word: str) -> tuple[bytes, ...]:
        """A word's hash, and for each head the buckets of it and its pieces: as an array's bytes, quickly joined."""
        marked = _ENDS.format(_read(word)).encode("utf-16-le", "surrogatepass")  # two bytes a letter: cheap slices
        whole = crc32(marked, 1)
        found = [array("I", [whole]).tobytes()]
        for sizes in self._sizes:
            pieces = [crc32(marked[at : at + size]) for size in sizes for at in range(0, len(marked) - size + 1, 2)]
            found.append(array("I", [one % (BUCKETS - 1) + 1 for one in (whole, *pieces)]).tobytes())
        return tuple(found)


class _Memo(dict[str, T]):
    """What a function says of strings: of so many characters, then it forgets all. A look-up is half of lru_cache's."""

    def __init__(self, of: Callable[[str], T], most: int) -> None:
        super().__init__()
        self._of, self._most = of, most
        self._left = most

    def __missing__(self, key: str) -> T:
        self._left -= len(key)
        if self._left < 0:
            self.clear()
            self._left = self._most - len(key)
        self[key] = found = self._of(key)
        return found


def _words(sentence: str) -> list[str]:
    plain = sentence if sentence.isascii() else unicodedata.normalize("NFKC", sentence)
    plain = plain.lower()
    if not plain.isascii():
        plain = _MARK.sub("", plain.replace("ё", "е"))  # str.translate takes six times as long
    if _PERHAPS_SPACED.search(plain):
        plain = _SPACED.sub(_joined, plain)
    return (_WORD if _SIGN.search(plain) else _SIMPLE_WORD).findall(plain)


def _read(word: str) -> str:
    """A word without its disguise: homoglyphs, digits and signs for letters, repeats."""
    cyrillic, latin = len(_CYRILLIC.findall(word)), len(_LATIN.findall(word))
    if cyrillic and (latin or _DIGIT_OR_SIGN.search(word)) and cyrillic >= latin:
        word = word.translate(_CYRILLIC_TWINS)
    elif latin and (cyrillic or _DIGIT_OR_SIGN.search(word)):
        word = word.translate(_LATIN_TWINS)
    return _REPEATS.sub(r"\1", word)


def _joined(spaced: re.Match[str]) -> str:
    """Letters spaced out as one word."""
    return _BORDERS.sub("", spaced[0])
