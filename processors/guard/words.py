"""Which words stand before a number: those of its kind, or those of something else."""

import re
import unicodedata

_OTHERS = (
    r"order\w*|заказ(?!чи)\w*|артикул\w*|арт|sku|items?|товар\w*|parts?|детал\w*|serial|серийн\w*|s/n|invoice\w*|накладн\w*|"
    r"сч[её]т-фактур\w*|чек\w*|квитанц\w*|receipt\w*|track\w*|трек\w*|посылк\w*|отправлен\w*|parcel\w*|shipment\w*|barcode\w*|"
    r"штрих-?код\w*|ean|upc|isbn|issn|doi|id|ids|ид|айди|uuid|guid|hash\w*|хеш\w*|хэш\w*|commit\w*|коммит\w*|sha\d*|md5|"
    r"version\w*|верси\w*|build|сборк\w*|ticket\w*|тикет\w*|обращени\w*|заявк\w*|договор\w*|contract\w*|timestamp\w*|"
    r"окпо|октмо|оквэд|кбк|уин|sum|сумм\w*|цен(?!тр)\w*|стоимост\w*|price\w*|cost\w*|total|итого?|seed|batch|лот|парти[яию]|model|модел\w*|imei|iccid|vin|"
    r"coordinates?|координат\w*|lat|lon|latitude|longitude|values?|значени\w*|files?|файл\w*|lines?|строк\w*|count\w*|количеств\w*|числ\w*|ports?|порт(?!ал|рет|ф|н|ье)\w*|equals?|равн\w*|result|результат\w*"
)
_LEFT, _RIGHT = r"(?<![^\W_])", r"(?![^\W_])"
"""Words end at an underscore too: user_phone is about a phone."""
_GAP = re.compile(r"[^\n,;!?\d]{0,24}")
_WHOSE = re.compile(r"[^\n.,;:!?\d]{0,40}:?[\s*_`\"'«—–-]*")


def clean(text: str) -> str:
    """Text as words are compared: compatibility forms and case folded, ё as е. May differ in length."""
    return unicodedata.normalize("NFKC", text).casefold().replace("ё", "е")


PERSON = re.compile(r"[А-ЯЁ][а-яё]+(?:вич|вна|чна)(?:[а-яё]{1,2})?\b")
"""A Russian patronymic: a person is spoken of."""
_FIRST = re.compile(r"(?:^|[\n.!?])\s*$")
_NUMBER_FOLLOWS = re.compile(r"(?:номер\w*|number|no\.?|вот|here)[\s:—–-]*(?:is|it is)?[\s:—–-]*$")


def introduced(before: str) -> bool:
    """A number stands first in its line or sentence, or after a word for a number of no particular kind."""
    return _FIRST.search(before) is not None or _NUMBER_FOLLOWS.search(clean(before)) is not None


class Own:
    """The words of one kind of data, as a pattern over cleaned text, and `rivals` of a number of the same look.

    `names` are those of them that name the number itself: what follows in one phrase with them says whose it is, or
    what for, as in «ИНН заказчика», and is no label of something else.
    """

    def __init__(self, words: str, rivals: str = "", names: str = "") -> None:
        self._words = re.compile(rf"{_LEFT}(?:{words}){_RIGHT}")
        self._names = re.compile(rf"{_LEFT}(?:{names}){_RIGHT}") if names else None
        self._others = re.compile(rf"{_LEFT}(?:{_OTHERS}{'|' * bool(rivals)}{rivals}){_RIGHT}")

    def last(self, cleaned: str) -> int:
        """Where the last own word ends; -1 where there is none."""
        return max((found.end() for found in self._words.finditer(cleaned)), default=-1)

    def around(self, before: str) -> int:
        """What the text before a number says: 1 it is of this kind, -1 it is labelled as something else, 0 nothing.

        A label stands in the same clause, at most 24 characters away and without another number between.
        """
        text = clean(before)
        own = self.last(text)
        other = max((found.end() for found in self._others.finditer(text)), default=-1)
        if other > own and _GAP.fullmatch(text, other):
            return 1 if self._named(text) else -1
        return 1 if own >= 0 else 0

    def _named(self, text: str) -> bool:
        names = self._names.finditer(text) if self._names else ()
        return any(_WHOSE.fullmatch(text, name.end()) for name in names)
