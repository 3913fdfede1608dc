"""When two texts name the same value, so that a reader of placeholders can tell who is who.

Two values under one number would tell a reader that Ann and Anne are one; one value under two numbers only hides that
they are. So each kind of data says what of a spelling does not count, and what it does not know of counts.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable

from processors.guard.checksums import digits_of
from processors.guard.phrases import words_of
from processors.guard.seen import blank

Same = Callable[[str], str]
"""From a value as it was found to what all spellings of it have in common."""
_PLATE_LETTERS = str.maketrans("ABEKMHOPCTYX", "АВЕКМНОРСТУХ")
_EXTENSION = re.compile(r"[a-zа-я][a-zа-я.\s]*(\d+)$")
_NUMBER_SIGN = re.compile(r"(?<=\d)\W*(?:номер|number|no|n)\W*(?=\d{3})")
"""What may stand between a paper's series and its number, and says no more than a space."""


def spelt(text: str) -> str:
    """All that is seen counts, but for case, width and the length of gaps: addresses, what expressions find."""
    kept = "".join(one for one in text if not blank(one))
    return " ".join(unicodedata.normalize("NFKC", kept).casefold().split())


def exact(text: str) -> str:
    """Every character counts: keys and passwords differ by case and signs."""
    return text


def digits(text: str) -> str:
    """Digits count, in whatever groups."""
    return digits_of(spelt(text))


def words(text: str) -> str:
    """A phrase, as phrases are compared, however its letters are spaced."""
    return "".join(words_of(text))


def signs(text: str) -> str:
    """Letters and digits count: account numbers of letters and digits, in groups or not."""
    return "".join(one for one in spelt(text) if one.isalnum())


def phone(text: str) -> str:
    """Digits count, with the country's code where the form tells it: 8 916 … is +7 916 …, as is 916 123-45-67."""
    text = spelt(text)
    extension = _EXTENSION.search(text)
    number = text[: extension.start()] if extension else text
    whole, sizes = digits_of(number), [len(group) for group in re.findall(r"\d+", number)]
    if len(whole) == 11 and whole[0] == "8" and "+" not in number:
        whole = "7" + whole[1:]
    elif len(whole) == 10 and sizes in ([3, 3, 2, 2], [3, 3, 4]):
        whole = ("7" if len(sizes) == 4 else "1") + whole
    return f"{whole}x{digits_of(extension[1])}" if extension else whole


def paper(text: str) -> str:
    """A passport or licence: letters and digits of series and number."""
    return signs(_NUMBER_SIGN.sub("", spelt(text)))


def plate(text: str) -> str:
    """A vehicle's plate: its letters are the same in Latin and Cyrillic."""
    return signs(text).upper().translate(_PLATE_LETTERS)


def address(text: str) -> str:
    """An address of the network, in its shortest form."""
    try:
        return str(ipaddress.ip_address(spelt(text)))
    except ValueError:
        return spelt(text)


def date(text: str) -> str:
    """Day, month and year, in whatever order they stand, without leading zeros; a month in words is no number."""
    parts = [part.lstrip("0") for part in re.findall(r"\d+|[^\W\d_]+", spelt(text))]
    return ".".join(reversed(parts) if parts and len(parts[0]) == 4 else parts)
