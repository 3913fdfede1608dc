"""Detectors of personal data and secrets: a pattern that finds candidates, and a function that decides on each.

A pattern says what may be a card; `find` says whether it is one, by check digits, issuer, grouping, and the words in
the 80 characters before: words of its kind speak for it (карта, card), labels of other things against it (заказ, SKU).
A checksum alone never decides, as one random number in ten passes it.

Patterns are in the guard's dialect (`regex.py`). They stay alive over digits with separators or within one word; over
words of prose only behind what names a secret. `find` takes any end of a match: the automaton offers shorter ones too.
"""

import re
from typing import NamedTuple

from processors.guard import checksums, values
from processors.guard.checksums import digits_of
from processors.guard.contacts import email, ip, phone
from processors.guard.keys import PATTERN as KEY_PATTERN
from processors.guard.keys import find_key
from processors.guard.numbers import BEFORE as BEFORE
from processors.guard.numbers import (
    CARD_NUMBER,
    GAP,
    HYPHEN,
    LICENCE,
    PAPER_NUMBER,
    PASSPORT,
    SEP,
    SPACE,
    Find,
    Span,
    account,
    card,
    digit_run,
    iban,
    inn,
    ogrn,
    ogrnip,
    paper,
    snils,
    ssn,
    within,
)  # fmt: skip
from processors.guard.values import Same
from processors.guard.words import Own, clean


class Detector(NamedTuple):
    """One kind of personal data."""

    name: str
    """What a policy calls it."""
    placeholder: str
    """What stands in its place, without number and brackets."""
    pattern: str
    find: Find
    same: Same = values.digits
    """What spellings of one value have in common."""
    longest: bool = False
    """Only the longest match counts: what `find` looks for it finds anywhere in it."""


_PLATE = Own(
    r"гос\.?\s?номер\w*|г\s?/\s?н|грз|номер\w*|номерн\w+|госзнак\w*|знак\w*|машин\w*|авто\w*|автомобил\w*|тачк\w*|гибдд|штраф\w*|"
    r"парков\w*|plate\w*|car|cars|vehicle\w*|truck|registration|парк\w*|мотоцикл\w*|прицеп\w*|такси|motorcycle|trailer|taxi|cab"
)
_UNITS = frozenset(("КМ", "СМ", "ММ", "МС", "РУ", "ТР", "MM", "CM", "KM", "MC"))


def _plate(matched: str, before: str, known: int = 0) -> Span | None:
    letters = "".join(character for character in matched if character.isalpha())
    number = digits_of(matched)
    said = _PLATE.around(before)
    if len(letters) == 2:  # of a motorcycle, a trailer, a taxi; else two letters between numbers may be anything
        return (0, len(matched)) if said > 0 and _numbered(number, 3, 4) else None
    if not _numbered(number, 3):
        return None
    if said <= 0:
        spaced = len(matched) > len(letters) + len(number)
        prose = letters[1:].upper() in _UNITS or not letters.isupper()
        foreign = letters.isascii() and re.search(r"[а-яё]", before, re.I) is None
        if said < 0 or foreign or (spaced and prose):
            return None
    return 0, len(matched)


def _numbered(number: str, *lengths: int) -> bool:
    """A number of such a length, none of zeros alone, and behind it the code of a region."""
    return any(
        number[:length].strip("0") and len(number) - length in (2, 3) and checksums.plate_region(number[length:])
        for length in lengths
    )


_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "sept|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec|"
    "января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря"
)
_BIRTH = Own(
    r"родил\w+|род\.?\s*$|рожден\w*|рождён\w*|рожд|born|(?:date[\s_]?of[\s_]?)?birth\w*|dob|d\.o\.b|д\.?\s?р|г\.?\s?р",
    rivals=r"выдан\w*|выдач\w*|issued?|expir\w*|действ\w*|смерт\w*|умер\w*|died|death|hired|при[её]м\w*",
)
_YEAR = re.compile(r"(?:18[89]|19\d|20[0-3])\d")
_DATE = re.compile(r"\d[./-]\d{1,2}[./-]\d")
_OF_BIRTH = r"\s?(?:г\.?|года?)\s?р(?:\.|ожд(?:ения|\.))"


def _birth(matched: str, before: str, known: int = 0) -> Span | None:
    tail = re.search(_OF_BIRTH + "$", matched, re.I)
    end = tail.start() if tail else len(matched)
    year = re.search(r"\d{4}", matched[:end])
    if year and not _YEAR.match(year.group()):
        return None
    text = clean(before)
    said = _BIRTH.around(before) > 0 and not _DATE.search(text, _BIRTH.last(text))
    return (0, end) if said or tail else None


_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_STROKE = f"[./{HYPHEN}]"
_DATE_PATTERN = (
    rf"(?:\d{{4}}{_STROKE}\d{{1,2}}{_STROKE}\d{{1,2}}|\d{{1,2}}{_STROKE}\d{{1,2}}{_STROKE}\d{{2}}(?:\d{{2}})?|"
    rf"{_DAY}[{SPACE}{HYPHEN}]{{1,2}}(?:of )?(?:{_MONTHS})[{SPACE}{HYPHEN}.,]{{1,2}}\d{{4}}|"
    rf"(?:{_MONTHS})[{SPACE}.]{{1,2}}{_DAY}[{SPACE},]{{1,2}}\d{{4}})"
)
_PLATE_LETTER = "[АВЕКМНОРСТУХABEKMHOPCTYX]"
_PLATE_FORMS = (
    rf"{_PLATE_LETTER}[{SPACE}]?\d{{3}}[{SPACE}]?{_PLATE_LETTER}{{2}}|\d{{4}}[{SPACE}]?{_PLATE_LETTER}{{2}}|"
    rf"(?-i:{_PLATE_LETTER}{{2}})[{SPACE}]?\d{{3,4}}"
)
"""Of a car; of a motorcycle; of a taxi and a trailer, in capitals, else `to` and `не` would be held back until it is
known that no number follows. The region's code follows."""
_PHONE_NUMBER = (
    rf"(?i)[+＋(]{{0,2}}\b\d(?:(?:[{SPACE}{HYPHEN}().]{{0,2}}|[{SPACE}]?\\[\-().][{SPACE}]?)\d){{6,14}}"
    rf"(?:[{SPACE},]{{0,2}}(?:x|ext|доб)\.?[{SPACE}]?\d{{1,6}})?\b"
)
_PASSPORT_NUMBER = PAPER_NUMBER % r"\d{2}"
_LICENCE_NUMBER = PAPER_NUMBER % r"(?:\d{2}|[А-ЯA-Z]{2})"


def _edged(detector: Detector) -> Detector:
    """An underscore is a border as well: it stands for emphasis in Markdown, and between the words of a name."""

    def find(matched: str, before: str, known: int = 0) -> Span | None:
        bare = matched.lstrip("_")
        start = len(matched) - len(bare)
        found = detector.find(bare.rstrip("_"), before + matched[:start], known - start)
        return (start + found[0], start + found[1]) if found else None

    return detector._replace(pattern=detector.pattern.replace(r"\b", r"(?:\b|_)"), find=find)


_EMAIL = Detector(
    "email",
    "EMAIL",
    r"\b\w[\w.+%'&\-]*@\w[\w.\-]*\.(?:xn--[A-Za-z0-9\-]{2,40}|[A-Za-zА-Яа-яЁё]{2,24})(?:\b|_)",
    email,
    values.spelt,
)
_KEY = Detector("key", "KEY", KEY_PATTERN, find_key, values.exact, longest=True)
_NUMBERS = (
    Detector("account", "ACCOUNT", rf"\b{digit_run(20, 20)}", within(account, 20), longest=True),
    Detector("ogrn", "OGRN", rf"(?i)(?:\bогрн|\b){digit_run(13, 13)}", within(ogrn, 13), longest=True),
    Detector("ogrnip", "OGRNIP", rf"(?i)(?:\bогрнип|\b){digit_run(15, 15)}", within(ogrnip, 15), longest=True),
    Detector("card", "CARD", CARD_NUMBER, within(card, *range(12, 20)), longest=True),
    Detector(
        "iban",
        "IBAN",
        rf"\b[A-Z]{{2}}\d{{2}}(?:{SEP}?[A-Z0-9]{{4}}){{2,7}}(?:{SEP}?[A-Z0-9]{{1,3}})?\b",
        iban,
        values.signs,
    ),
    Detector("snils", "SNILS", rf"(?i)(?:\bснилс|\b){digit_run(11, 11)}", within(snils, 11), longest=True),
    Detector("inn", "INN", rf"(?i)(?:\bинн|\b){digit_run(10, 12)}", within(inn, 10, 12), longest=True),
    Detector(
        "passport",
        "PASSPORT",
        rf"(?i)\b(?:{_PASSPORT_NUMBER}|\d{{2}}[{SPACE}№]{{0,3}}\d{{7}}|[A-Z]{{0,2}}\d{{7,9}})\b",
        paper(PASSPORT, LICENCE, plain=True),
        values.paper,
    ),
    Detector(
        "driving_licence",
        "DRIVING_LICENCE",
        rf"(?i)\b(?:{_LICENCE_NUMBER}|[A-Z]\d{{7,14}}|\d{{7,9}})\b",
        paper(LICENCE, PASSPORT, plain=False),
        values.paper,
    ),
    Detector("us_ssn", "SSN", rf"\b\d{{3}}{GAP}\d{{2}}{GAP}\d{{4}}\b", within(ssn, 9), longest=True),
    Detector("phone", "PHONE", _PHONE_NUMBER, phone, values.phone, longest=True),
    Detector(
        "plate",
        "PLATE",
        rf"(?i)\b(?:{_PLATE_FORMS})[{SPACE}]?\d{{2,3}}\b",
        _plate,
        values.plate,
    ),
    Detector(
        "ip",
        "IP",
        r"\b(?:\d{1,3}(?:\.\d{1,3}){3,7}|[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){1,7})\b",
        ip,
        values.address,
    ),
    Detector(
        "date_of_birth",
        "BIRTH_DATE",
        rf"(?i)\b{_DATE_PATTERN}(?:T\d\d:\d\d(?::\d\d(?:\.\d{{1,6}})?)?Z?)?\b(?:{_OF_BIRTH})?",
        _birth,
        values.date,
    ),
)
DETECTORS = {detector.name: detector for detector in (_EMAIL, _KEY, *map(_edged, _NUMBERS))}
"""By name. Where two find the same place, the longer find counts, and of equal ones the detector that stands first."""

_OTHER_NAMES = {
    "email": ("EMAIL_ADDRESS",),
    "phone": ("PHONE_NUMBER", "TELEPHONE", "TELEPHONE_NUMBER", "TELEPHONENUM", "PHONENUMBER"),
    "card": ("CREDIT_CARD", "CREDIT_CARD_NUMBER", "CREDITCARDNUMBER", "CREDITCARD", "PAYMENT_CARD", "BANK_CARD"),
    "account": ("BANK_ACCOUNT", "RU_ACCOUNT", "RU_BANK_ACCOUNT", "BANK_ACCOUNT_NUMBER", "ACCOUNT_NUMBER", "ACCOUNTNUM"),
    "inn": ("RU_INN", "RU_TAX_ID"),
    "snils": ("RU_SNILS",),
    "ogrn": ("RU_OGRN",),
    "ogrnip": ("RU_OGRNIP",),
    "passport": ("RU_PASSPORT", "US_PASSPORT", "PASSPORT_NUMBER", "PASSPORTNUM"),
    "driving_licence": (
        "DRIVER_LICENSE",
        "DRIVERS_LICENSE",
        "US_DRIVER_LICENSE",
        "RU_DRIVER_LICENSE",
        "DRIVERLICENSENUM",
    ),
    "plate": ("LICENSE_PLATE", "VEHICLE_PLATE", "CAR_PLATE", "RU_PLATE", "VEHICLEVRM"),
    "ip": ("IP_ADDRESS", "IPV4", "IPV6"),
    "key": ("API_KEY", "SECRET", "SECRET_KEY", "PASSWORD", "TOKEN", "JWT", "PRIVATE_KEY", "CREDENTIALS"),
    "iban": ("IBAN_CODE",),
    "us_ssn": ("SSN", "SOCIALNUM", "SOCIAL_SECURITY_NUMBER"),
    "date_of_birth": ("BIRTH_DATE", "BIRTHDATE", "DATEOFBIRTH", "DOB"),
}
TYPES = {name.upper(): name for name in DETECTORS} | {
    other: name for name, others in _OTHER_NAMES.items() for other in others
}
"""Names of types in the data of others (Presidio, ai4privacy), in capitals, to ours."""
