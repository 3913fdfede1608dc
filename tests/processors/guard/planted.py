"""Personal data that is nobody's, planted in Russian and English sentences, and innocent look-alikes.

It is valid by its check digits and random otherwise; everything follows from a seed. `find_all` finds in whole texts
what the guard's automaton would, with `re`."""

import base64
import random
import re
import string
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from processors.guard import checksums
from processors.guard.personal import BEFORE, DETECTORS
from tests.processors.guard.carriers import CARRIERS, INNOCENT_CARRIERS, MATH, SNIPPETS

Rng = random.Random
ALNUM = string.ascii_letters + string.digits
PLATE_LETTERS = "АВЕКМНОРСТУХ"
LATIN = str.maketrans(PLATE_LETTERS, "ABEKMHOPCTYX")
FULL_WIDTH = str.maketrans(string.digits, "０１２３４５６７８９")


class Planted(NamedTuple):
    """`text[start:end]` is an example of what detector `name` finds."""

    text: str
    name: str
    start: int
    end: int


def digits(rng: Rng, count: int) -> str:
    """Random digits, the first not 0."""
    return str(rng.randrange(10 ** (count - 1), 10**count)) if count else ""


def letters(rng: Rng, count: int, alphabet: str = ALNUM) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _until(make: Callable[[], str], valid: Callable[[str], bool]) -> str:
    return next(value for value in iter(make, None) if valid(value))


def _email(rng: Rng) -> str:
    name = rng.choice(["ivan.petrov", "a.smirnova", "j_doe", "maria-k", "o'neil", "sales+west", "иван", "x"])
    host = rng.choice(["example.com", "mail.ru", "yandex.ru", "gmail.com", "uni.edu.au", "почта.рф", "my-firm.co.uk"])
    return f"{name}{rng.choice(['', digits(rng, 2)])}@{host}"


def _phone(rng: Rng) -> str:
    a, b, c, d = digits(rng, 3), digits(rng, 3), digits(rng, 2), digits(rng, 2)
    code = rng.choice(["903", "916", "921", "926", "950", "963", "985", "999"])
    area = _until(lambda: rng.choice("23456789") + digits(rng, 2), lambda one: one not in ("800",))
    exchange = rng.choice("23456789") + b[1:]
    return rng.choice([
        f"+7 {code} {b}-{c}-{d}", f"+7 ({code}) {b}-{c}-{d}", f"+7{code}{b}{c}{d}", f"8 ({code}) {b} {c} {d}",
        f"8-{code}-{b}-{c}-{d}", f"8{code}{b}{c}{d}", f"7 ({code}) {b}-{c}-{d}", f"8 (495) {b}-{c}-{d}",
        f"({area}) {exchange}-{c}{d}", f"+1 {area}-{exchange}-{c}{d}", f"{area}-{exchange}-{c}{d}",
        f"{area}.{exchange}.{c}{d}", f"+44 20 {a}{c[0]} {b}{d[0]}", f"+49 30 {a}{b}{c}", f"+380 44 {b} {c} {d}",
        f"+86 138 {a}{c[0]} {b}{d[0]}", f"+971 50 {a} {c}{d}", f"+375 (29) {b}-{c}-{d}",
    ])  # fmt: skip


def _grouped(number: str, sizes: Iterable[int], separator: str) -> str:
    groups, at = [], 0
    for size in sizes:
        groups.append(number[at : at + size])
        at += size
    return separator.join([*(group for group in groups if group), *([number[at:]] if number[at:] else [])])


def _card(rng: Rng) -> str:
    begins, length = rng.choice([
        ("2200", 16), ("2202", 16), ("2204", 19), ("4", 16), ("4276", 16), ("51", 16), ("55", 16), ("2221", 16),
        ("2720", 16), ("34", 15), ("37", 15), ("62", 16), ("62", 19), ("3530", 16), ("6759", 16), ("6011", 16),
    ])  # fmt: skip
    number = _until(lambda: begins + letters(rng, length - len(begins), string.digits), checksums.luhn)
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    return rng.choice(
        [number, _grouped(number, sizes, " "), _grouped(number, sizes, "-"), _grouped(number, sizes, " ")]
    )


def _inn(rng: Rng) -> str:
    return _until(lambda: digits(rng, rng.choice([10, 12])), checksums.inn)


def _snils(rng: Rng) -> str:
    number = _until(lambda: digits(rng, 11), checksums.snils)
    return rng.choice(
        [number, f"{number[:3]}-{number[3:6]}-{number[6:9]} {number[9:]}", _grouped(number, (3, 3, 3), " ")]
    )


def _ogrn(rng: Rng) -> str:
    return _until(lambda: rng.choice("15") + digits(rng, 12), checksums.ogrn)


def _ogrnip(rng: Rng) -> str:
    return _until(lambda: "3" + digits(rng, 14), checksums.ogrnip)


def _passport(rng: Rng) -> str:
    region, year, number = digits(rng, 2), f"{rng.randrange(25):02}", digits(rng, 6)
    return rng.choice([
        f"{region}{year} {number}", f"{region} {year} {number}", f"{region}{year}{number}",
        f"{region} {year} № {number}", f"{region}{year} номер {number}", f"{region}-{year} {number}",
        f"{region}{year}, № {number}",
    ])  # fmt: skip


def account_with_bik(rng: Rng) -> tuple[str, str]:
    """An account whose key fits the BIK."""
    bik = "04" + digits(rng, 4) + rng.choice(["225", "593", "746", "974"])
    account = _until(
        lambda: rng.choice(["40702", "40817", "40802", "42301"]) + rng.choice(["810", "840", "978"]) + digits(rng, 12),
        lambda one: checksums.account_key(one, bik),
    )
    return account, bik


def _account(rng: Rng) -> str:
    account, _ = account_with_bik(rng)
    return rng.choice([account, account, _grouped(account, (5, 3, 1, 4), " "), _grouped(account, (4, 4, 4, 4), " ")])


def _licence(rng: Rng) -> str:
    series = rng.choice([digits(rng, 2), letters(rng, 2, PLATE_LETTERS)])
    return rng.choice([f"{digits(rng, 2)} {series} {digits(rng, 6)}", f"{digits(rng, 2)}{series} {digits(rng, 6)}"])


def _plate(rng: Rng) -> str:
    parts = [letters(rng, 1, PLATE_LETTERS), digits(rng, 3), letters(rng, 2, PLATE_LETTERS)]
    plate = rng.choice(["", "", " "]).join([*parts, rng.choice(["77", "178", "50", "797", "02"])])
    return rng.choice([plate, plate, plate.translate(LATIN), plate.lower()])


def _other_plate(rng: Rng) -> str:
    """Of a motorcycle, a taxi, a trailer."""
    pair, region = letters(rng, 2, PLATE_LETTERS), rng.choice(["77", "178", "50", "797", "02"])
    parts = rng.choice([(digits(rng, 4), pair), (pair, digits(rng, 3)), (pair, digits(rng, 4))])
    plate = rng.choice(["", " "]).join([*parts, region])
    return rng.choice([plate, plate.translate(LATIN), plate.lower() if plate[0].isdecimal() else plate])


def _ip(rng: Rng) -> str:
    v4 = _until(lambda: str(IPv4Address(rng.getrandbits(32))), checksums.address)
    v6 = IPv6Address(0x2A020000 << 96 | rng.getrandbits(64))
    return rng.choice([v4, v4, str(v6), IPv6Address(0x2001 << 112 | rng.getrandbits(112)).exploded])


def _jwt(rng: Rng) -> str:
    return f"eyJhbGciOiJIUzI1NiJ9.eyJ{letters(rng, 40)}.{letters(rng, 43, ALNUM + '-_')}"


def _key(rng: Rng) -> str:
    urlsafe, hexadecimal = ALNUM + "-_", string.digits + "abcdef"
    pair = f"{uuid.UUID(int=rng.getrandbits(128))}:{uuid.UUID(int=rng.getrandbits(128))}"
    return rng.choice([
        f"sk-{letters(rng, 48)}", f"sk-proj-{letters(rng, 74)}", f"sk-ant-api03-{letters(rng, 80)}",
        f"AKIA{letters(rng, 16, string.ascii_uppercase + string.digits)}", f"AIza{letters(rng, 35, urlsafe)}",
        f"ghp_{letters(rng, 36)}", f"github_pat_{letters(rng, 22)}_{letters(rng, 59)}", f"glpat-{letters(rng, 20)}",
        f"xoxb-{digits(rng, 12)}-{digits(rng, 12)}-{letters(rng, 24)}", f"sk_live_{letters(rng, 24)}", _jwt(rng),
        f"{digits(rng, 10)}:AA{letters(rng, 33, urlsafe)}", f"AQVN{letters(rng, 35, urlsafe)}",
        f"t1.9e{letters(rng, 40)}.{letters(rng, 86, urlsafe)}", base64.b64encode(pair.encode()).decode(),
        f"hf_{letters(rng, 34)}", f"dop_v1_{letters(rng, 64, hexadecimal)}",
    ])  # fmt: skip


def _assigned(rng: Rng) -> str:
    return rng.choice([
        letters(rng, 32), letters(rng, 40, ALNUM + "+/"), letters(rng, 24) + digits(rng, 4),
        str(uuid.UUID(int=rng.getrandbits(128))),
    ])  # fmt: skip


def _password(rng: Rng) -> str:
    word = rng.choice(["Qwerty", "sunshine", "Zenit", "hunter", "Моск", "dragon"])
    if rng.random() < 0.2:
        return f"{rng.choice(['hunter', 'dragon'])}{digits(rng, 1)}{rng.choice(['secret', 'house'])}"
    return word + rng.choice(["!", "_", "#", "@", ""]) + digits(rng, rng.choice([3, 4]))


def _pem(rng: Rng) -> str:
    lines = "\n".join(letters(rng, 64, ALNUM + "+/") for _ in range(rng.randrange(3, 9)))
    kind = rng.choice(["", "RSA ", "EC ", "OPENSSH "])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n{letters(rng, 30)}=\n-----END {kind}PRIVATE KEY-----"


def _iban(rng: Rng) -> str:
    country = rng.choice(["DE", "GB", "FR", "ES", "NL", "PL", "CH", "KZ", "TR"])
    length = checksums.IBAN_LENGTHS[country]
    bank = letters(rng, 4, string.ascii_uppercase) if country in ("GB", "NL") else digits(rng, 4)
    rest = bank + digits(rng, length - 8)
    number = next(one for check in range(2, 99) if checksums.iban(one := f"{country}{check:02}{rest}"))
    return rng.choice([number, _grouped(number, [4] * (length // 4), " ")])


def _ssn(rng: Rng) -> str:
    number = _until(lambda: digits(rng, 9), checksums.ssn)
    return f"{number[:3]}-{number[3:5]}-{number[5:]}"


def _birth(rng: Rng) -> str:
    day, month, year = rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(1935, 2015)
    russian, english = rng.choice([("марта", "March"), ("мая", "May"), ("декабря", "December"), ("июля", "Jul")])
    return rng.choice([
        f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}", f"{day:02}/{month:02}/{year}",
        f"{day} {russian} {year}", f"{english} {day}, {year}", f"{day} {english} {year}",
        f"{day:02}.{month:02}.{year % 100:02}",
    ])  # fmt: skip


MAKERS: dict[str, Callable[[Rng], str]] = {
    "email": _email, "phone": _phone, "card": _card, "inn": _inn, "snils": _snils, "ogrn": _ogrn, "ogrnip": _ogrnip,
    "passport": _passport, "account": _account, "driving_licence": _licence, "plate": _plate, "ip": _ip, "key": _key,
    "other_plate": _other_plate,
    "assigned": _assigned, "password": _password, "pem": _pem, "iban": _iban, "us_ssn": _ssn, "date_of_birth": _birth,
}  # fmt: skip
"""What is planted; three of them are kinds of keys, two of plates."""
FINDS = {"other_plate": "plate", "assigned": "key", "password": "key", "pem": "key"}
_SPACED = ("card", "snils", "passport", "phone", "account")


def planted(kind: str, count: int, seed: int = 0) -> Iterator[Planted]:
    """`count` sentences that each hold one of the kind."""
    rng = Rng(f"{kind}{seed}")
    for _ in range(count):
        value = _typeset(rng, MAKERS[kind](rng)) if kind in _SPACED else MAKERS[kind](rng)
        before, after = rng.choice(CARRIERS[kind]).split("{}")
        lead = rng.choice(["", "", "Добрый день! ", "Hello. ", "1. ", "Заказ 7 готов.\n"])
        start = len(lead + before)
        yield Planted(lead + before + value + after, FINDS.get(kind, kind), start, start + len(value))


def _typeset(rng: Rng, value: str) -> str:
    """As word processors and phones write it, one time in five."""
    if rng.random() < 0.8:
        return value
    return rng.choice([
        value.replace(" ", "\u00a0"), value.replace(" ", "\u2009"), value.replace(" ", "\u202f"),
        value.replace("-", "\u2011"), value.replace("-", "\u2013"), value.translate(FULL_WIDTH),
    ])  # fmt: skip


def _price(rng: Rng) -> str:
    whole = f"{rng.randrange(10, 10**8):,}"
    return rng.choice(
        [f"${whole}.99", f"{whole.replace(',', ' ')} руб.", f"{whole.replace(',', chr(160))},50 ₽", f"€{whole}"]
    )


def _article(rng: Rng) -> str:
    shapes = ["ddd-ddd-dddd", "d-ddd-ddd-dd-dd", "ddd-dd-dddd", "ddddddddddd", "dddd-dddd", "ddd.ddd.dd"]
    return re.sub("d", lambda _: rng.choice("123456789"), rng.choice(shapes))


def _version(rng: Rng) -> str:
    parts = rng.choice([3, 4, 4])
    return rng.choice(["", "v"]) + ".".join(str(rng.randrange(0, 60)) for _ in range(parts))


def _coordinates(rng: Rng) -> str:
    lat, lon = rng.uniform(-90, 90), rng.uniform(-180, 180)
    return rng.choice(
        [f"{lat:.6f}, {lon:.6f}", f"{lat:.4f} {lon:.4f}", f"{abs(int(lat))}°{rng.randrange(60)}′{rng.randrange(60)}″"]
    )


INNOCENT: dict[str, Callable[[Rng], str]] = {
    "digits": lambda rng: digits(rng, rng.randrange(5, 26)),
    "grouped_digits": lambda rng: _grouped(digits(rng, rng.randrange(9, 19)), [3] * 6, " "),
    **{f"digits_{count}": partial(digits, count=count) for count in (9, 10, 11, 12, 13, 15, 16, 20)},
    "order": lambda rng: digits(rng, rng.randrange(8, 21)),
    "article": _article,
    "date": lambda rng: f"{rng.randrange(1, 29):02}.{rng.randrange(1, 13):02}.{rng.randrange(1990, 2030)}",
    "iso_date": lambda rng: (
        f"20{rng.randrange(10, 30)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T10:20:30.123Z"
    ),
    "time": lambda rng: f"{rng.randrange(24)}:{rng.randrange(60):02}:{rng.randrange(60):02}",
    "timestamp": lambda rng: str(rng.randrange(1_500_000_000, 1_900_000_000) * rng.choice([1, 1000, 1_000_000])),
    "price": _price,
    "version": _version,
    "hash": lambda rng: letters(rng, rng.choice([7, 32, 40, 64]), "0123456789abcdef"),
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "coordinates": _coordinates,
    "float": lambda rng: repr(rng.uniform(0, 10 ** rng.randrange(1, 9))),
    "isbn": lambda rng: f"978-5-{digits(rng, 3)}-{digits(rng, 5)}-{rng.randrange(10)}",
    "money": lambda rng: f"{digits(rng, 2)} {digits(rng, 3)} {digits(rng, 3)} {digits(rng, 3)} рублей",
    "table": lambda rng: "| " + " | ".join(digits(rng, rng.randrange(3, 12)) for _ in range(6)) + " |",
    "column": lambda rng: "\n".join(str(rng.randrange(1900, 2030)) for _ in range(9)),
    "matrix": lambda rng: "\n".join(" ".join(digits(rng, 2) for _ in range(6)) for _ in range(3)),
    "log": lambda rng: (
        f"2026-11-23 10:20:{rng.randrange(10, 60)},{digits(rng, 3)} INFO [{digits(rng, 5)}] in {digits(rng, 4)} ms"
    ),
    "bytes": lambda rng: " ".join(f"{rng.randrange(256):02x}" for _ in range(16)),
    "case": lambda rng: (
        f"А40-{digits(rng, 6)}/2023, кадастровый номер 77:{digits(rng, 2)}:{digits(rng, 7)}:{digits(rng, 4)}"
    ),
    "codes": lambda rng: (
        f"ОКПО {digits(rng, 8)}, ОКТМО {digits(rng, 11)}, КБК {digits(rng, 20)}, БИК 0445{digits(rng, 5)}"
    ),
    "base64": lambda rng: letters(rng, 64, ALNUM + "+/"),
    "math": lambda rng: re.sub("n", lambda _: digits(rng, rng.randrange(1, 7)), rng.choice(MATH)),
    "code": lambda rng: re.sub("@", lambda _: digits(rng, rng.randrange(1, 12)), rng.choice(SNIPPETS)),
}
"""Look-alikes by kind."""


def innocent(kind: str, count: int, seed: int = 0) -> Iterator[str]:
    """`count` texts that hold nothing personal but the look of it."""
    rng = Rng(f"{kind}{seed}")
    carriers = INNOCENT_CARRIERS.get(kind, INNOCENT_CARRIERS["any"])
    for _ in range(count):
        yield rng.choice(carriers).replace("{}", INNOCENT[kind](rng))


@cache
def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(DETECTORS[name].pattern)


def find_all(text: str, names: Iterable[str] = tuple(DETECTORS)) -> list[tuple[str, int, int]]:
    """What detectors find in a whole text, without overlaps: the leftmost, of those the longest, of those the first."""
    found = sorted(
        ((start, -end, place, name) for place, name in enumerate(names) for start, end in _found(name, text)),
    )
    kept: list[tuple[str, int, int]] = []
    for start, end, _, name in found:
        if not kept or start >= kept[-1][2]:
            kept.append((name, start, -end))
    return kept


def _found(name: str, text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while match := _compiled(name).search(text, at):
        part = DETECTORS[name].find(match.group(), text[max(0, match.start() - BEFORE) : match.start()], 0)
        if part:
            yield match.start() + part[0], match.start() + part[1]
        at = match.start() + (part[1] if part else 1)
