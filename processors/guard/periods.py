"""Periods of a text's end: from which distance on it repeats itself, and how far back.

Texts stand backwards, their last character first, so that find() meets the nearest place first.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_PROBE = 32
"""Characters at the end whose earlier places suggest a period. The shortest loop repeats three times as many."""
_MOST = 8
"""Periods followed at a time, those that cover most."""
_NUMBER_OR_NOT = re.compile(r"(\d+)|\D+")


class Followed(NamedTuple):
    """A period, and how many characters it covers: of what is compared, and of the text itself."""

    period: int
    covered: int
    length: int


def followed(
    before: tuple[Followed, ...], backwards: str, new: int, longest: int, whole: str = "", grown: int = 0
) -> tuple[Followed, ...]:
    """The periods that the end of a text has, now that it has grown by `new` characters; none above `longest`.

    `whole` is the text itself, grown by `grown`, where each number is one character of what is compared.
    """
    known = {
        one.period: Followed(one.period, one.covered + new, one.length + (grown or new))
        for one in before
        if backwards.startswith(backwards[one.period : one.period + new])
    }
    for period, covered in periods(backwards, longest):
        if period not in known:
            length = _length_with_numbers(whole, covered) if whole else covered
            known[period] = Followed(period, covered, length)
    if len(known) <= _MOST:
        return (*known.values(),)
    return (*sorted(known.values(), key=lambda one: -one.covered)[:_MOST],)


def periods(backwards: str, longest: int) -> Iterator[tuple[int, int]]:
    """Periods that the end of a text has, and how many characters each covers: at least `_PROBE` beside a period.

    Shortest first, and of those in four copies and more none is missed that covers more than `_PROBE` characters beside
    a period: a probe of two to three periods has its nearest earlier place one period back (Fine and Wilf, 1965), and
    growing by half it comes by such a length. A multiple of a period found is none of its own.
    """
    probe = _PROBE
    while probe < len(backwards):
        period = backwards.find(backwards[:probe], 1, longest + probe)
        if period < 0:
            return
        covered = _covered(backwards, period, probe)
        yield period, covered
        probe = max(probe, covered - period)  # any shorter one is found one period back again
        probe += probe // 2


def _covered(backwards: str, period: int, known: int) -> int:
    """Characters at the end that are periodic, of which `known` beside a period are known to be."""
    low, high = known, len(backwards) - period
    while low < high:
        middle = (low + high + 1) // 2
        if backwards[low:middle] == backwards[low + period : middle + period]:
            low = middle
        else:
            high = middle - 1
    return low + period


def _length_with_numbers(backwards: str, covered: int) -> int:
    """The characters that were `covered` while each number was one, as far as they are remembered."""
    length = 0
    for part in _NUMBER_OR_NOT.finditer(backwards):
        size = part.end() - part.start()
        if part[1]:
            length, covered = length + size, covered - 1
        else:
            length, covered = length + min(size, covered), covered - min(size, covered)
        if covered <= 0:
            break
    return length
