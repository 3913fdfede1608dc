"""What the text classifier sees of a text: its words, their pieces and their pairs, as numbers of hash buckets.

Training and serving share this code, for a model is worth nothing on other features than it was trained on. Pieces are
character n-grams inside the word, its ends marked (Bojanowski et al. 2017, doi:10.1162/tacl_a_00051), so that inflected
and misspelt forms share most of them, and words can be remembered: most words of a text have been seen shortly before.
Buckets come from hashing, without a vocabulary (Weinberger et al. 2009, doi:10.1145/1553374.1553516).
"""

import re
import unicodedata
from array import array
from functools import lru_cache
from zlib import crc32

import numpy as np

BUCKETS = 1 << 19
"""Buckets are numbered from 1; 0 is free to pad with."""
SHORTEST, LONGEST = 3, 5
"""Characters of a piece, the marks of the word's ends included."""
PARAMETERS = {"version": 3, "buckets": BUCKETS, "shortest": SHORTEST, "longest": LONGEST}
"""What a model was trained on; one of others cannot be served. Any change of this file's results is a new version, and
so is one of what the model's graph is given."""

_WORD, _SIMPLE_WORD = re.compile(r"\w+(?:[*@$#]+\w+)*[@$]*"), re.compile(r"\w+")
_SPACED = re.compile(r"(?<!\w)\w(?:[ .\-_*]\w(?!\w)){3,}")
_PERHAPS_SPACED = re.compile(r"[ .\-_*]\w[ .\-_*]\w[ .\-_*]")
"""Part of each of those, and found in half the time."""
_SIGN = re.compile("[*@$#]")
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


def features(text: str) -> list[int]:
    """The buckets of a text's words, pieces of words and pairs of neighbouring words, each once, in order of sight.

    Case, ё, compatibility forms and characters that cannot be seen make no difference; letters of the other script and
    digits inside a word are read as the letters they stand for. Empty where the text holds no word.
    """
    return list(dict.fromkeys(array("I", buckets(text))))


def buckets(text: str) -> bytes:
    """The same as an array's bytes, some of them more than once: for serving, which makes no Python number of each."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    plain = plain.lower()
    if not plain.isascii():
        plain = _MARK.sub("", plain.replace("ё", "е"))  # str.translate takes six times as long
    if _PERHAPS_SPACED.search(plain):
        plain = _SPACED.sub(_joined, plain)
    words = [_of_word(word) for word in (_WORD if _SIGN.search(plain) else _SIMPLE_WORD).findall(plain)]
    numbers = np.array([0, *[number for number, _ in words]], np.uint32)
    pairs = (numbers[:-1] * _PAIR + numbers[1:]) % (BUCKETS - 1) + 1  # the product wraps around
    return b"".join([*dict.fromkeys([pieces for _, pieces in words]), pairs.tobytes()])


@lru_cache(maxsize=1 << 14)
def _of_word(word: str) -> tuple[int, bytes]:
    """A word's hash, and the buckets of it and its pieces as an array's bytes, which are small and quickly joined."""
    word = _read(word)
    marked = _ENDS.format(word).encode("utf-16-le", "surrogatepass")  # two bytes a letter of any script: cheap slices
    number = crc32(marked, 1)
    pieces = [number]
    for size in range(2 * SHORTEST, 2 * LONGEST + 2, 2):
        pieces += [crc32(marked[start : start + size]) for start in range(0, len(marked) - size + 1, 2)]
    return number, array("I", [piece % (BUCKETS - 1) + 1 for piece in pieces]).tobytes()


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
