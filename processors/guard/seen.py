"""What a reader sees of a text: characters without a glyph are not there, and a wide or circled letter is the letter.

Whoever hides a number puts such characters into it, and the reader sees the number all the same.
"""

import re
import unicodedata
from functools import lru_cache

_MARKS = ("Mn", "Me")
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Without a glyph, though their category does not say so: fillers of Hangul, selectors of variants, the joiner."""
_ORDINARY = re.compile("[\0-~\u0400-\u0482\u048a-\u04ff№«»–—…]*")
"""What is seen as it is, letter by letter: most texts."""


@lru_cache(maxsize=1 << 14)
def blank(character: str) -> bool:
    """It has no glyph at all: formats, fillers, selectors."""
    return unicodedata.category(character) == "Cf" or _BLANK.match(character) is not None


@lru_cache(maxsize=1 << 14)
def unseen(character: str) -> bool:
    """It has no glyph of its own: it is blank, or a mark on the one before."""
    return blank(character) or unicodedata.category(character) in _MARKS


@lru_cache(maxsize=1 << 14)
def plain(character: str) -> str:
    """The one ordinary character that it is a form of, as ４ is of 4; itself where there is none."""
    form = unicodedata.normalize("NFKC", character)
    return form if len(form) == 1 else character


@lru_cache(maxsize=1 << 14)
def looks(character: str) -> str:
    """What is seen of it: nothing, or its plain form."""
    return "" if unseen(character) else plain(character)


def seen(text: str) -> str:
    """What is seen of a text, marked letters being one with their marks."""
    if _ORDINARY.fullmatch(text):
        return text
    return "".join(map(looks, unicodedata.normalize("NFC", text)))


def seen_with_places(text: str) -> tuple[str, list[int] | None]:
    """What is seen of a text, and for each of its characters the place in the text, where that is another."""
    if _ORDINARY.fullmatch(text):
        return text, None
    looked = [*map(looks, text)]
    return "".join(looked), [place for place, one in enumerate(looked) if one]


def is_word(character: str) -> bool:
    """Whether `\\w` means it."""
    return character.isalnum() or character == "_"
