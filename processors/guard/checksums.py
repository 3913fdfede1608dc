"""What a number must satisfy to be one of its kind: check digits, issuers, lengths, reserved ranges.

All functions take plain ASCII digits (`digits_of`), never separators, and return whether the number can be one.
A random number passes a mod 10 or mod 11 check one time in ten, so none of them is enough alone (`personal.py`).
"""

import ipaddress
import re
import unicodedata

CARD_ISSUERS: tuple[tuple[int, int, range], ...] = (
    (2200_00, 2204_99, range(16, 20)),  # Mir
    (4000_00, 4999_99, range(13, 20, 3)),  # Visa
    (5100_00, 5599_99, range(16, 17)),  # Mastercard
    (2221_00, 2720_99, range(16, 17)),
    (3400_00, 3499_99, range(15, 16)),  # American Express
    (3700_00, 3799_99, range(15, 16)),
    (6200_00, 6299_99, range(16, 20)),  # UnionPay
    (3528_00, 3589_99, range(16, 20)),  # JCB
    (5018_00, 5018_99, range(12, 20)),  # Maestro
    (5020_00, 5020_99, range(12, 20)),
    (5038_00, 5038_99, range(12, 20)),
    (5893_00, 5893_99, range(12, 20)),
    (6304_00, 6304_99, range(12, 20)),
    (6390_00, 6390_99, range(12, 20)),
    (6700_00, 6799_99, range(12, 20)),
    (6011_00, 6011_99, range(16, 20)),  # Discover
    (6440_00, 6599_99, range(16, 20)),
    (3000_00, 3059_99, range(14, 20)),  # Diners Club
    (3600_00, 3699_99, range(14, 20)),
    (3800_00, 3999_99, range(14, 20)),
)
"""First six digits from and to, and the lengths issued (ISO/IEC 7812; the networks' published ranges)."""

IBAN_LENGTHS = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for country in countries.split()
}
"""Length by country (the SWIFT IBAN registry)."""

_INN_WEIGHTS = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)
_CURRENCIES = ("810", "643", "840", "978", "156", "826", "756", "392", "398", "933", "051", "949", "784", "860", "972")
_ACCOUNT_KINDS = re.compile(r"30[123]|40[1-8]|41[0156789]|42[0-6]")
_MOBILE = re.compile(r"9(?:0[0-689]|[1-2]\d|3[0-46-9]|4[129]|5[0-3568-9]|6\d|7[0178]|8\d|9[0-79])")


def digits_of(text: str) -> str:
    """The decimal digits of a text as ASCII, whatever script or width they are written in."""
    if text.isascii():
        return "".join(filter(str.isdecimal, text))
    return "".join(str(unicodedata.decimal(character)) for character in text if character.isdecimal())


def luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def issued_card(number: str) -> bool:
    """A payment network issues cards of this beginning and length."""
    begins = int(number[:6])
    return any(low <= begins <= high and len(number) in lengths for low, high, lengths in CARD_ISSUERS)


def inn(number: str) -> bool:
    """Taxpayer's number: 10 digits of an organisation with one check digit, 12 of a person with two."""

    def check(length: int) -> bool:
        weights = _INN_WEIGHTS[-(length - 1) :]
        return sum(w * int(d) for w, d in zip(weights, number, strict=False)) % 11 % 10 == int(number[length - 1])

    if len(number) == 10:
        return varied(number) and check(10)
    return len(number) == 12 and varied(number) and check(11) and check(12)


def snils(number: str) -> bool:
    """Insurance number of 11 digits. Numbers up to 001-001-998 carry no check and are refused here."""
    if len(number) != 11 or int(number[:9]) <= 1_001_998 or not varied(number[:9]):
        return False
    total = sum(int(digit) * (9 - place) for place, digit in enumerate(number[:9]))
    return total % 101 % 100 == int(number[9:])


def ogrn(number: str) -> bool:
    """State register number of an organisation: 13 digits, kind, year, region, serial, check digit."""
    return len(number) == 13 and number[0] in "15" and int(number[:12]) % 11 % 10 == int(number[12])


def ogrnip(number: str) -> bool:
    """State register number of a sole trader: 15 digits; the remainder of 13 may have two digits, the last counts."""
    return len(number) == 15 and number[0] in "34" and int(number[:14]) % 13 % 10 == int(number[14])


def account_key(account: str, bik: str) -> bool:
    """The key (digit 9) of a 20-digit account fits the bank's BIK (Bank of Russia order 515 of 08.09.1997)."""
    of_bank = account.startswith("301") or bik[6:] in ("000", "001", "002")
    whole = ("0" + bik[4:6] if of_bank else bik[6:]) + account
    return sum(int(digit) * (7, 1, 3)[place % 3] for place, digit in enumerate(whole)) % 10 == 0


def account_built(account: str) -> bool:
    """Digits 1-3 are an account kind banks keep for others, digits 6-8 a currency: 4 random numbers in 10,000."""
    return _ACCOUNT_KINDS.match(account) is not None and account[5:8] in _CURRENCIES


def iban(number: str) -> bool:
    """Country's length and mod 97 (ISO 13616). Takes letters and digits without separators."""
    if IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1


def ssn(number: str) -> bool:
    """Ranges the US Social Security Administration never assigns are none (20 CFR 422.103; random since 2011)."""
    return number[0] != "9" and number[:3] not in ("000", "666") and number[3:5] != "00" and number[5:] != "0000"


def mobile(code: str) -> bool:
    """Three digits are a Russian mobile code that is handed out."""
    return _MOBILE.fullmatch(code) is not None


def plate_region(code: str) -> bool:
    """Region code of a Russian vehicle plate: 01-99, or three digits beginning with 1, 2, 3, 7, 8 or 9."""
    return code != "00" if len(code) == 2 else code[0] in "123789" and code[1:] != "00"


def address(text: str) -> bool:
    """An IP address that can be somebody's.

    Loopback, unspecified, multicast, reserved and broadcast addresses and network masks are nobody's. Private and
    documentation ranges count: they name a machine in somebody's network, or stand for one.
    """
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return False
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        return True
    host_bits = int(parsed) ^ 0xFFFFFFFF
    is_mask = text.startswith("255.") and host_bits & (host_bits + 1) == 0
    return not (parsed.is_reserved or is_mask or text.startswith("0."))


def varied(number: str) -> bool:
    """Not one digit over and over."""
    return len(set(number)) > 1
