"""How somebody is reached: numbers of phones, addresses of mail and of the network (see `personal.py`)."""

import re

from processors.guard import checksums
from processors.guard.checksums import digits_of, varied
from processors.guard.numbers import HYPHEN, SPACE, Span, sizes_of, within
from processors.guard.words import PERSON, Own, clean, introduced

_PHONE = Own(
    r"phone\w*|telephone\w*|tel|mobile(?!\s+(?:users?|apps?|devices?|games?))|cell\w*|fax|whatsapp|viber|sms|dial|(?:call|text|reach|ring)\s+(?:me|us|him|her|them|at|on|back)|"
    r"тел(?!-)|телеф\w*|моб|мобил\w*(?!\s+(?:связ|интернет|прилож|устройств))|сотов\w*|звон\w*|позвон\w*|перезвон\w*|набер\w*|факс\w*|ват?сап\w*|вайбер\w*|смс\w*|на\s+связи|"
    r"(?:мо[йемя]\w*|е[её]|его|их)\s+номер\w*|contact\s+(?:number|no)",
    rivals=r"инн|кпп|огрн|огрнип|снилс|бик|паспорт\w*|сери[яию]|карт\w*|card\w*|счет\w*|account\w*|ssn|iban|дата|date",
    names=r"тел|телефон|phone|telephone",
)
_ITEM = re.compile(r"\d[.)]\s")
"""The number of an item in a list."""
_FIELD = re.compile(r"\w\s?=\s?[\"']?\Z|[\"']\s?:\s?[\"']?\Z")
_DATE = re.compile(r"(?:19|20)\d\d[-./ ]\d\d[-./ ]\d\d|\d\d[./-]\d\d[./-](?:19|20)\d\d")


_RUSSIAN_GROUPS = re.compile(
    r"(?:1 3|4) (?:3 2 2|3 4|7|2 2 3|2 3 2)|1 4 (?:6|2 2 2|3 3)|1 5 (?:5|1 2 2|2 3)|1 10",
)
_FORMS = ([3, 3, 2, 2], [3, 3, 4], [1, 3, 3, 4])
_SEPARATED = re.compile(rf"\(\d+\)|[{HYPHEN}]")
"""An area's code in brackets, not a year that stands behind an amount."""
_EXTENSION = re.compile(rf"[{SPACE},]*(?:x|ext|доб)\D*\d+$", re.I)


def phone(matched: str, before: str, known: int = 0) -> Span | None:
    """A number of known form, or after a phone's words any. Free numbers (8 800, 8 804, 1 800) are firms'.

    Against a mobile number with its country's code (+7 916) no other label counts: nothing else is written so.
    """
    extension = _EXTENSION.search(matched)
    number = matched[: extension.start()] if extension else matched
    if _free(digits_of(number), sizes_of(number)):
        return None
    found = _known_phone(number, before, known)
    if found is None and _PHONE.last(clean(before[-40:])) >= 0:
        found = _said_phone(number, before, known)
    return (found[0], len(matched)) if found and found[1] == len(number) else found


def _free(number: str, sizes: list[int]) -> bool:
    if sizes[0] in (1, 4, 11):
        return number[:4] in ("8800", "8804", "7800", "7804", "1800")
    return sizes[0] in (3, 10) and number[:3] == "800"


def _known(part: str, before: str) -> bool:
    number, sizes = digits_of(part), sizes_of(part)
    russian = len(number) == 11 and number[0] in "78"
    if part[0] not in "+＋" and not russian and sizes not in _FORMS:
        return False
    said = _PHONE.around(before)
    mobile = part[0] in "+＋" and number[0] == "7" and checksums.mobile(number[1:4])
    if (said < 0 and not mobile) or not varied(number) or _ITEM.match(part):
        return False
    if part[0] in "+＋":
        return not re.search(r"(?:[^\W_]|\))\Z", before) and _international(number, part)
    if russian:
        return _russian(number, sizes, part, before, said)
    if len(number) == 10 and sizes == [3, 3, 2, 2] and number[0] in "34689":
        return "(" in part or (
            checksums.mobile(number[:3]) and (said > 0 or re.search(f"[{HYPHEN}]", part) is not None)
        )
    return _american(number, sizes, part, said)


def _international(number: str, part: str) -> bool:
    if number[0] == "7":
        return len(number) == 11 and number[1] in "346789" and number[1:4] not in ("800", "804")
    if number[0] == "1":
        return len(number) == 11 and number[1] in "23456789" and number[1:4] != "800"
    return 8 <= len(number) <= 15 and number[0] != "0" and not _amount(part)


def _amount(part: str) -> bool:
    """Thousands, grouped as such or not at all."""
    return part.endswith("000") and all(size == 3 for size in sizes_of(part)[1:])


def _russian(number: str, sizes: list[int], part: str, before: str, said: int) -> bool:
    """Eleven digits beginning with 7 or 8."""
    code = number[1:4]
    if code in ("800", "804") or code[0] not in "346789" or (code[0] == "9" and not checksums.mobile(code)):
        return False
    if said > 0:
        return True
    if sizes == [11]:
        named = introduced(before) or PERSON.search(before) is not None
        return code[0] == "9" and (named or (number[0] == "8" and not _FIELD.search(before)))
    separated = code[0] == "9" or _SEPARATED.search(part) is not None
    return separated and _RUSSIAN_GROUPS.fullmatch(" ".join(map(str, sizes))) is not None


def _american(number: str, sizes: list[int], part: str, said: int) -> bool:
    """North American numbers: neither area nor exchange begins with 0 or 1."""
    if len(number) == 11 and number[0] == "1":
        number, sizes = number[1:], sizes[1:] if sizes[0] == 1 else []
    if len(number) != 10 or number[0] in "01" or number[3] in "01" or number[:3] == "800":
        return False
    return sizes == [3, 3, 4] and (said > 0 or _SEPARATED.search(part) is not None or "." in part)


def _said(part: str, before: str) -> bool:
    number = digits_of(part)
    if not 7 <= len(number) <= 15 or not varied(number) or _PHONE.around(before[-40:]) <= 0:
        return False
    goes_on = re.search(rf"\d[{SPACE}{HYPHEN}().]{{1,2}}\Z", before)
    return not (goes_on or _ITEM.match(part) or _DATE.match(part) or _amount(part))


_known_phone = within(_known, *range(8, 16))
_said_phone = within(_said, *range(7, 16))

_NO_DOMAIN = re.compile(r"png|jpe?g|gif|svg|webp|js|ts|json|css|html|service|socket|timer|mount|target", re.I)
"""Endings of files and units, none of them a top-level domain."""


def email(matched: str, before: str, known: int = 0) -> Span | None:
    """A mail address; not a password before a host, a repository, or a file of an image for double density."""
    local, _, domain = matched.rpartition("@")
    if re.search(r"://[^\s/@]*:[^\s/@]*\Z", before) or ".." in local or local.endswith(".") or local.lower() == "git":
        return None
    bare = domain.rstrip("_")
    start = 0 if bare == domain else len(local) - len(local.lstrip("_"))  # _a@b.org_ is emphasis, _a@b.org is not
    no_domain = ".." in domain or _NO_DOMAIN.fullmatch(bare.rpartition(".")[2]) is not None
    return None if no_domain else (start, len(local) + 1 + len(bare))


_IP = Own(
    r"ip|ipv[46]|айпи|адрес\w*|address\w*|host\w*|хост\w*|server\w*|сервер\w*|ping|client\w*|клиент\w*|login\w*|вход\w*|user|dns|ssh|"
    r"gateway|шлюз\w*"
)
_VERSION = re.compile(
    r"(?:\b(?:v|ver|version\w*|release\w*|build|верси\w*|сборк\w*|релиз\w*|rev|section|раздел\w*|пункт\w*|п|гл\w*|chapter|firmware|"
    r"прошивк\w*|(?:upgrade|update|обнов\w+)\s+(?:to|from|до|с|на))\.?[\s:=#]{0,3}|§\s?|[=<>~!^]=\s?|\b[a-zа-я]+[-/])\Z"
)


def ip(matched: str, before: str, known: int = 0) -> Span | None:
    """An address of the network; not a version, the number of a section, or a fingerprint of pairs."""
    if not checksums.address(matched) or _VERSION.search(clean(before)) or re.search(r"(?:\w\.|\d:|::)\Z", before):
        return None
    said = _IP.around(before)
    if "." in matched:
        octets = [int(octet) for octet in matched.split(".")]
        like_version = max(octets) < 100 and sum(octet >= 32 for octet in octets) < 2
        return (0, len(matched)) if said > 0 or (said == 0 and not like_version) else None
    groups = re.findall(r"\w+", matched)
    if "::" not in matched and all(len(group) <= 2 for group in groups):
        return None
    telling = len(groups) >= 3 and any(c.isdecimal() for c in matched) and any(c.isalpha() for c in matched)
    return (0, len(matched)) if said > 0 or telling else None
