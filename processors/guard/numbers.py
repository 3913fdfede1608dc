"""Numbers that name somebody: cards, accounts, and what states give out. See `personal.py`."""

import re
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate

from processors.guard import checksums
from processors.guard.checksums import digits_of, varied
from processors.guard.words import PERSON, Own, clean, introduced

BEFORE = 80
"""Characters before a match that a detector may look at."""
Span = tuple[int, int]
Find = Callable[[str, str, int], Span | None]
"""From a matched text, up to `BEFORE` characters before it, and how much of it was looked at before, in a match that
began earlier: the part of the match to mask, or None."""
SPACE = " \u00a0\u2000-\u200a\u202f\u3000"
HYPHEN = "\\-\u2010-\u2015\u2212\uff0d"
SEP = f"[{SPACE}{HYPHEN}]"
GAP = rf"(?:{SEP}{{0,3}}|\\[\-.])"
"""Between digits; Markdown of some messengers escapes hyphens and dots."""
_WIDE = re.compile(rf"{SEP}{SEP}|[\\\s.]\s|[^\d{SPACE}{HYPHEN}]")
"""What parts figures more often than the digits of one number: its own word must say which it is."""
_GROUPS = re.compile(r"[+＋]?\(?\d+")
GLUED = re.compile(
    rf"(?:\d[.:{HYPHEN}]|[0-9a-f]{{4}}-|://\S*|[$€£₽]\s?|[+＋]\(?\d{{1,3}}\)?[{SPACE}{HYPHEN}(]{{1,2}})\Z"
)
"""What shows that a number goes on to the left, as behind a country's code, or is an amount or part of an address."""


def digit_run(least: int, most: int) -> str:
    """A pattern of `least` to `most` digits, separated or not."""
    return rf"\d(?:{GAP}\d){{{least - 1},{most - 1}}}\b"


def _parts(matched: str, lengths: Collection[int], known: int) -> Iterator[Span]:
    """Runs of whole digit groups with so many digits, the longest first: a number may stand beside the one wanted.

    Those within the first `known` characters have been looked at, but for those that begin as the match does.
    """
    groups = [group.span() for group in _GROUPS.finditer(matched)]
    until = [0, *accumulate(sum(map(str.isdecimal, matched[start:end])) for start, end in groups)]
    first_of = {digits: first for first, digits in enumerate(until)}
    found = []
    for last, (_, end) in enumerate(groups):
        for length in lengths:
            first = first_of.get(until[last + 1] - length)
            if first is not None and (end > known or first == 0):
                found.append((last - first, first, last))
    for _, first, last in sorted(found, key=lambda one: (-one[0], one[1])):
        yield groups[first][0], groups[last][1]


def within(accept: Callable[[str, str], bool], *lengths: int) -> Find:
    """The longest part of whole digit groups, with one of these numbers of digits, that `accept(part, text before it)`
    takes. Tables of numbers hold hundreds of parts, so the lengths come first."""

    def find(matched: str, before: str, known: int = 0) -> Span | None:
        for start, end in _parts(matched, lengths, known):
            left = (before + matched[:start])[-BEFORE:]
            if not GLUED.search(left) and accept(matched[start:end], left):
                return start, end
        return None

    return find


def sizes_of(part: str) -> list[int]:
    """How many digits stand together, group by group."""
    return [len(group) for group in re.findall(r"\d+", part)]


_CARD = Own(
    r"card\w*|visa|master\s?card|amex|maestro|credit|debit|cvv|cvc|pan|pay\w*|paid|charge\w*|карт\w*|кредитк\w*|дебетов\w*|виз[аыуе]|мир|"
    r"оплат\w+|плат[её]ж\w*|перевод\w*|перевед\w+|перевести|переч\w+|спи[сш]\w+|зачисл\w+|снял|снять|банк\w*|bank\w*|юнионпэй|"
    r"деньг\w*|верн\w+|скин\w*|кин(?:ь|у|уть)|кошел\w*|сбер\w*|wallet\w*|refund\w*|transfer\w*|withdraw\w*",
    rivals="инн|кпп|огрн|огрнип|егрюл|егрип|снилс|бик|ssn",
)
_CARD_GROUPS = re.compile(r"4(?: 4){2,3}(?: [1-4])?|4 6 [45]|\d+|8 8|6 10|8 [4-9]|4 12")


_BETWEEN_FOURS = rf"[{SPACE}{HYPHEN}\s./·*_\\]{{1,3}}"
_OPENING = " ([«“\"'*_`>|-"
"""What may open a line or sentence before its first word."""
CARD_NUMBER = rf"\b(?:{digit_run(12, 31)}|\d{{4}}(?:{_BETWEEN_FOURS}\d{{4}}){{3}}(?:{_BETWEEN_FOURS}\d{{1,3}})?\b)"


def card(part: str, before: str) -> bool:
    """A payment card. Without a card's word: an issued number in the usual groups, or introduced as a number."""
    number, sizes = digits_of(part), sizes_of(part)
    if not 12 <= len(number) <= 19 or not varied(number) or not checksums.luhn(number):
        return False
    if not _CARD_GROUPS.fullmatch(" ".join(map(str, sizes))):
        return False
    issued = checksums.issued_card(number) and len(number) >= 14
    said = _CARD.around(before)
    if said > 0:
        return True
    if _WIDE.search(part):
        return False
    if said < 0:
        return issued and re.search("card|карт", clean(before)) is not None
    return issued and (len(sizes) >= 3 or introduced(before.rstrip(_OPENING)))


_ACCOUNT = Own(
    r"р\s?/\s?с\w*|р\.\s?с\.|л\s?/\s?с|к\s?/\s?с\w*|с[чш][её]т\w*|сч|р/?сч[её]т\w*|расч[её]тн\w+|лицев\w+|корр?есп\w*|корр?сч[её]т\w*|"
    r"account\w*|acct|acc|реквизит\w*",
    names=r"р\s?/\s?с|сч[её]т|account",
)
_BIK = re.compile(r"(?:бик|bic|bik)\D{0,12}(0[124]\d{7})(?!\d)")


def account(part: str, before: str) -> bool:
    """A bank account: its key fits the BIK before it, or words or its build speak for it."""
    number = digits_of(part)
    if len(number) != 20 or not varied(number):
        return False
    biks = _BIK.findall(clean(before))
    if biks:
        return checksums.account_key(number, biks[-1])
    said = _ACCOUNT.around(before)
    return said > 0 or (said == 0 and checksums.account_built(number) and not _WIDE.search(part))


_IBAN = Own(r"iban|account\w*|transfer\w*|сч[её]т\w*|перевод\w*", names="iban")


def iban(matched: str, before: str, known: int = 0) -> Span | None:
    """An international account number; words that follow in capitals are left out."""
    length = checksums.IBAN_LENGTHS.get(matched[:2], 0)
    places = [place for place, character in enumerate(matched) if character.isalnum()]
    if not 0 < length <= len(places):
        return None
    end = places[length - 1] + 1
    whole = end == len(matched) or not matched[end].isalnum()
    number = "".join(c for c in matched[:2] if c.isascii()) + _alphanumeric(matched[2:end])
    return (0, end) if whole and checksums.iban(number) and _IBAN.around(before) >= 0 else None


def _alphanumeric(text: str) -> str:
    return "".join(digits_of(c) if c.isdecimal() else c for c in text if c.isalnum())


_INN = Own(
    r"инн|inn|tin|налог\w*|налогоплат\w*|tax\w*|самозанят\w*|физ\.?\s?лиц\w*",
    rivals=r"паспорт\w*|тел|телефон\w*|phone|снилс|бик|окпо",
    names=r"инн|inn|tin|tax",
)


def inn(part: str, before: str) -> bool:
    """A taxpayer's number, by its word; a person's also after a patronymic."""
    number = digits_of(part)
    if not checksums.inn(number):
        return False
    said = _INN.around(before)
    return said > 0 or (said == 0 and len(number) == 12 and PERSON.search(before) is not None)


_SNILS = Own(
    r"снилс\w*|snils|страхов\w+|пенсион\w+|пфр|сфр|insurance|pension",
    rivals=r"тел|телефон\w*|phone|моб\w*|инн",
    names=r"снилс|snils",
)


def snils(part: str, before: str) -> bool:
    """An insurance number, by its word or its form 112-233-445 95."""
    if not checksums.snils(digits_of(part)):
        return False
    said = _SNILS.around(before)
    alone = sizes_of(part) == [3, 3, 3, 2] and not re.search(rf"\d{SEP}\Z", before)
    return said > 0 or (said == 0 and alone)


_OGRN = Own(r"огрн\w*|ogrn\w*|егрюл|егрип|регистрац\w+|registration|psrn\w*")


def ogrn(part: str, before: str) -> bool:
    """An organisation's register number, by its word."""
    return checksums.ogrn(digits_of(part)) and _OGRN.around(before) > 0


def ogrnip(part: str, before: str) -> bool:
    """A sole trader's register number, by its word."""
    return checksums.ogrnip(digits_of(part)) and _OGRN.around(before) > 0


PASSPORT = Own(
    r"(?:загран)?паспорт\w*(?!\s+(?:проект|безопас|издел|качеств|веществ|объект|здани|прибор|оборуд|транспорт))|passport\w*|"
    r"удостоверяющ\w+\s+личность",
    names=r"(?:загран)?паспорт\w*|passport",
)
LICENCE = Own(
    r"водительск\w+|водит\w*\s+удост\w*|в\s?/\s?у|ву|прав(?:а|ами|ах)(?=(?:[\s:№*_`\"'«—–-]|no|сери\w+|номер\w*|водителя)*$)|"
    r"driv(?:er|ing)(?:['’]?s)?[\s_]*licen[cs]\w*|driving\s+permit|dl"
)
_PAPER = Own(
    r"полис\w*|осаго|каско|омс|диплом\w*|аттестат\w*|стс|птс|свидетельств\w*|билет\w*|доверенност\w*|лицензи\w*|visa|policy|инн|снилс|"
    r"тел|телефон\w*|phone|счет\w*|account"
)
"""Papers and numbers of the same look."""
_SERIES = Own(r"сери[яию]")


def paper(own: Own, rival: Own, plain: bool) -> Find:
    """The number of a paper: its own word is the nearest, and near where the number has no form of its own."""

    def find(matched: str, before: str, known: int = 0) -> Span | None:
        text, shapeless = clean(before), re.fullmatch(r"\w+", matched) is not None and len(matched) != 10
        said = own.last(text)
        series = _SERIES.last(text) if said < 0 and plain else -1
        if max(said, series) < 0:
            return None
        rivals = max(rival.last(text), _PAPER.last(text))
        if rivals < 0:
            said = max(said, series)
        if GLUED.search(before) or own.around(before) < 0 or not varied(digits_of(matched)):
            return None
        near = said > rivals and (not shapeless or len(text) - said <= 30)
        return (0, len(matched)) if near else None

    return find


_SSN = Own(r"ssn|social\s+security\w*|соц\w*\s+страх\w*", names="ssn")


def ssn(part: str, before: str) -> bool:
    """A US social security number: in hyphens unless labelled as something else, otherwise by its word."""
    number = digits_of(part)
    if len(number) != 9 or not checksums.ssn(number) or not varied(number):
        return False
    said = _SSN.around(before)
    hyphens = re.fullmatch(rf"\d+[{HYPHEN}]\d+[{HYPHEN}]\d+", part) is not None
    return sizes_of(part) in ([3, 2, 4], [9]) and (said > 0 or (said == 0 and hyphens))


_MIDDLE = rf"[{SPACE}{HYPHEN}\s,:;№*_`\"'«»|/]{{0,5}}(?:номер(?:\sпаспорта)?|number|no|№|n)?[\s.:№*_`\"'«»|]{{0,5}}"
"""Between series and number, in sentences, tables, JSON."""
PAPER_NUMBER = rf"\d{{2}}{GAP}%s{_MIDDLE}\d{{3}}{SEP}?\d{{3}}"
