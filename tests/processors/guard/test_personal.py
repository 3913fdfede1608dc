"""Detectors of personal data find what is planted, and leave look-alikes alone."""

import itertools
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.guard import checksums
from processors.guard.automaton import Automaton
from processors.guard.personal import BEFORE, DETECTORS, TYPES
from processors.guard.regex import check
from tests.processors.guard.planted import INNOCENT, MAKERS, account_with_bik, digits, find_all, innocent, planted

CASES = 400


def caught(kind: str, count: int = CASES) -> float:
    """The share of planted data that is found exactly."""
    return sum((one.name, one.start, one.end) in find_all(one.text) for one in planted(kind, count)) / count


def false_alarms(kind: str, count: int = CASES) -> float:
    """The share of innocent texts in which anything is found."""
    return sum(bool(find_all(text)) for text in innocent(kind, count)) / count


def values(text: str) -> list[tuple[str, str]]:
    return [(name, text[start:end]) for name, start, end in find_all(text)]


@pytest.mark.parametrize("kind", MAKERS)
def test_planted_data_is_found(kind: str) -> None:
    assert caught(kind) >= 0.99


@pytest.mark.parametrize("kind", INNOCENT)
def test_look_alikes_are_left_alone(kind: str) -> None:
    assert false_alarms(kind) <= 0.01


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("digits_16", "card"), ("order", "card"), ("article", "phone"), ("version", "ip"), ("date", "date_of_birth")],
)
def test_control_the_patterns_alone_would_raise_alarms(kind: str, pattern: str) -> None:
    expression = re.compile(DETECTORS[pattern].pattern)
    assert sum(expression.search(text) is not None for text in innocent(kind, CASES)) / CASES > 0.3


@pytest.mark.parametrize(
    ("kind", "valid"),
    [("card", checksums.luhn), ("inn", checksums.inn), ("snils", checksums.snils), ("ogrn", checksums.ogrn)],
)
def test_control_a_wrong_digit_is_not_found(kind: str, valid: Callable[[str], bool]) -> None:
    """So the finding above comes of the check digits, not of the words alone."""
    rng = random.Random(1)
    spoilt = found = 0
    for one in planted(kind, CASES):
        place = rng.choice([place for place in range(one.start, one.end) if one.text[place].isdecimal()])
        wrong = (int(one.text[place]) + rng.randrange(1, 10)) % 10
        text = f"{one.text[:place]}{wrong}{one.text[place + 1 :]}"
        if not valid(checksums.digits_of(text[one.start : one.end])):
            spoilt += 1
            found += (one.name, one.start, one.end) in find_all(text)
    assert spoilt > CASES / 2
    assert found == 0


@pytest.mark.parametrize(
    ("valid", "number"),
    [
        (checksums.inn, "7707083893"), (checksums.inn, "123456789047"), (checksums.snils, "11223344595"),
        (checksums.ogrn, "1027700132195"), (checksums.ogrnip, "304500116000157"), (checksums.luhn, "4111111111111111"),
        (checksums.issued_card, "2200123456789010"), (checksums.iban, "GB82WEST12345698765432"),
        (checksums.iban, "DE89370400440532013000"),
    ],
)  # fmt: skip
def test_published_numbers_pass_and_their_neighbours_fail(valid: Callable[[str], bool], number: str) -> None:
    assert valid(number)
    if valid is not checksums.issued_card:
        assert not valid(number[:-1] + str((int(number[-1]) + 1) % 10))


@pytest.mark.parametrize(
    ("account", "bik"),
    [
        ("30101810400000000225", "044525225"),
        ("40602810700000000025", "049805746"),
        ("30101810800000000746", "049805000"),
    ],
)
def test_the_examples_of_the_bank_of_russia(account: str, bik: str) -> None:
    assert checksums.account_key(account, bik)
    assert not checksums.account_key(account.replace("810", "840", 1), bik)


def test_a_remainder_of_two_digits_keeps_the_last_in_an_ogrnip() -> None:
    """Where python-stdnum 2.2, which takes mod 13 alone, refuses valid numbers."""
    rng = random.Random(2)
    numbers = [number for number in ("3" + digits(rng, 13) for _ in range(200)) if int(number) % 13 >= 10]
    assert numbers
    assert all(checksums.ogrnip(f"{number}{int(number) % 13 % 10}") for number in numbers)


def test_an_account_is_checked_against_the_bik_before_it() -> None:
    rng = random.Random(3)
    for _ in range(50):
        account, bik = account_with_bik(rng)
        other = account[:8] + str((int(account[8]) + 1) % 10) + account[9:]
        assert ("account", account) in values(f"БИК {bik}, р/с {account}")
        assert ("account", other) not in values(f"БИК {bik}, р/с {other}")
        assert ("account", other) in values(f"р/с {other}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Звоните 8 800 555-35-35 бесплатно", []),
        ("тел. 8 (800) 555-35-35", []),
        ("1-800-555-0199 phone", []),
        ("телефон 8 (4852) 12-34-56", [("phone", "8 (4852) 12-34-56")]),
        ("1. 415-555-0132", [("phone", "415-555-0132")]),
        ("Fax: 259.735.7502x459", [("phone", "259.735.7502x459")]),
        ("Артикул 8-916-123-45-67", []),
        ("build a. +7 916 123-45-67", [("phone", "+7 916 123-45-67")]),
        ("ИНН: заказ +44 916 123-45-67", []),
        ("Заказ 12345, звоните 89161234567", [("phone", "89161234567")]),
        ("12 4111 1111 1111 1111 12/28 123", [("card", "4111 1111 1111 1111")]),
        ("карта 0000 0000 0000 0000", []),
        ("карта 4111 1111 1111 1112", []),
        ("Visa 4222222222222", [("card", "4222222222222")]),
        ("Номер 4222222222222", []),
        ("pi = 3.1415926535897932", []),
        ("ИНН 0000000000", []),
        ("число 7707083893", []),
        ("Иванов Иван Иванович, 500100732259", [("inn", "500100732259")]),
        ("ИНН 7707083893, заказ 7707083893", [("inn", "7707083893")]),
        ("паспорт 4510 123456, права 99 12 345678", [("passport", "4510 123456"), ("driving_licence", "99 12 345678")]),
        ("полис ОМС 4510 123456", []),
        ("127.0.0.1 0.0.0.0 255.255.255.0 224.0.0.1", []),
        ("сервер 10.0.0.5 и 203.0.113.7", [("ip", "10.0.0.5"), ("ip", "203.0.113.7")]),
        ("version 10.20.30.40", []),
        ("с 100 км 50 минут", []),
        ("А123ВС77 и о777оо799", [("plate", "А123ВС77"), ("plate", "о777оо799")]),
        ("номер мотоцикла 1234 АВ 77", [("plate", "1234 АВ 77")]),
        ("номер такси АВ 123 77", [("plate", "АВ 123 77")]),
        ("прицеп, номер АВ 1234 77", [("plate", "АВ 1234 77")]),
        ("1234 АВ 77, АВ 123 77 и АВ 1234 77", []),
        ("номер 0000 АВ 77, номер АВ 123 00", []),
        ("password: hunter2secret", [("key", "hunter2secret")]),
        ("Пароль — hunter2secret.", [("key", "hunter2secret")]),
        ("password=str2bytes, password = md5sum, password: utf8_name, password: user1, password: oauth2token", []),
        ("postgres://u:s3cr3t@db.example.com/x", [("key", "s3cr3t")]),
        ("It begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.", []),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----", []),
        (f"-----BEGIN PRIVATE KEY-----\n{'MIIEpAIB' * 8}", [("key", f"-----BEGIN PRIVATE KEY-----\n{'MIIEpAIB' * 8}")]),
        ("git@github.com:a/b.git", []),
        ("image@2x.png", []),
        ("password is incorrect", []),
        ("password=$PASSWORD", []),
        ("12.03.1985 и 12.03.1985 г.р.", [("date_of_birth", "12.03.1985")]),
        ("родился 12 марта 1985, паспорт выдан 01.02.2003", [("date_of_birth", "12 марта 1985")]),
        # Whose it is, and what for, in one phrase with the number's own name.
        ("ИНН заказчика: 7707083893", [("inn", "7707083893")]),
        ("Tax ID: 7707083893", [("inn", "7707083893")]),
        ("Паспорт заказчика: 4509 123456", [("passport", "4509 123456")]),
        ("СНИЛС по договору: 11223344595", [("snils", "11223344595")]),
        ("Расчётный счёт заказчика: 40702810500000000225", [("account", "40702810500000000225")]),
        ("IBAN for invoice: DE89370400440532013000", [("iban", "DE89370400440532013000")]),
        ("Телефон медицинского центра: +7 (812) 123-45-67", [("phone", "+7 (812) 123-45-67")]),
        ("Phone line: +44 20 7946 0958", [("phone", "+44 20 7946 0958")]),
        ("SSN on file: 219-09-9999", [("us_ssn", "219-09-9999")]),
        ("Телефон указан. Заказ 8 495 123 45 67", []),
        # Series and number in Markdown, JSON, tables.
        ("**Паспорт:** серия **4509** номер **123456**", [("passport", "4509** номер **123456")]),
        ('"passport": {"series": "4509", "number": "123456"}', [("passport", '4509", "number": "123456')]),
        ("| Паспорт | 4509 | 123456 |", [("passport", "4509 | 123456")]),
        ("Серия паспорта: 4509, номер паспорта: 123456", [("passport", "4509, номер паспорта: 123456")]),
        ('"driving_licence": "77 12 345678"', [("driving_licence", "77 12 345678")]),
        ("driverLicense: D1234567", [("driving_licence", "D1234567")]),
        ('"dateOfBirth": "1985-03-12T00:00:00Z"', [("date_of_birth", "1985-03-12T00:00:00Z")]),
        ("Phone: +44 20 7123 4000, +86 138 0013 8000", [("phone", "+44 20 7123 4000"), ("phone", "+86 138 0013 8000")]),
        ("write to ann@xn--e1aybc.xn--p1ai now", [("email", "ann@xn--e1aybc.xn--p1ai")]),
        # Amounts behind words that also name papers and phones.
        ("Население: 5 598 486 (2022), 4 879 566 (2010), 8 880 000 (1990)", []),
        ("Revenue 1 285 867 (2019), +5 000 000 000 a year", []),
        ("Права на проект проданы за 12500000 рублей. Все права защищены. 12345678", []),
        ("права № 12345678", [("driving_licence", "12345678")]),
        ("Паспорт проекта: бюджет 6288585 рублей", []),
        ("Мобильной связью пользуются 84 123 456 абонентов. Mobile users: 941469574", []),
        ("Тел-Авив, 1234567 жителей", []),
        # Secrets: all of one, or nothing.
        ("token: NRAK-AB2CDEFGH3JKLMNWCUQ7UADJIS", [("key", "NRAK-AB2CDEFGH3JKLMNWCUQ7UADJIS")]),
        ("token: c810ad4166de7168dd26398128588759", [("key", "c810ad4166de7168dd26398128588759")]),
        ("token: patAbCdEf12GhIjKl.c696a1b2c3d4e5f607", [("key", "patAbCdEf12GhIjKl.c696a1b2c3d4e5f607")]),
        ("token = settings.auth.token_value", []),
        ("ключ доступа: AbCdEf123456GhIjKl7890MnOp", [("key", "AbCdEf123456GhIjKl7890MnOp")]),
        ("os.environ['API_KEY'] = 'AbCdEf123456GhIjKl7890MnOp'", [("key", "AbCdEf123456GhIjKl7890MnOp")]),
        ("Пароль администратора базы: Zx9!kLm2", [("key", "Zx9!kLm2")]),
        ("Password (temporary): Zx9!kLm2", [("key", "Zx9!kLm2")]),
        ("Пароль должен содержать: минимум 8 символов", []),
    ],
)
def test_decisions(text: str, found: list[tuple[str, str]]) -> None:
    assert values(text) == found


@pytest.mark.parametrize("name", DETECTORS)
def test_patterns_are_of_the_dialect(name: str) -> None:
    check(DETECTORS[name].pattern)
    re.compile(DETECTORS[name].pattern)


def test_the_automaton_finds_what_re_finds() -> None:
    """The figures above are for `re`; the guard's own automaton takes the same parts of the same texts."""
    detectors = list(DETECTORS.values())
    automaton = Automaton([], [detector.pattern for detector in detectors])

    def find(text: str) -> set[tuple[str, int, int]]:
        def believed(pattern: int, start: int, end: int) -> tuple[int, int] | None:
            part = detectors[pattern].find(text[start:end], text[max(0, start - BEFORE) : start], 0)
            return (start + part[0], start + part[1]) if part else None

        walk = automaton.walk(automaton.start, text)
        ended = dict.fromkeys([*(pattern for pattern, _ in walk.ended), *automaton.finish(walk.state)])
        spans = automaton.spans(text, automaton.start, ended, believed, over=True)
        return {(detectors[span.pattern].name, span.start, span.end) for span in spans}

    texts = [one.text for kind in MAKERS for one in planted(kind, 8, seed=5)]
    texts += [text for kind in INNOCENT for text in innocent(kind, 4, seed=5)]
    assert all(find(text) == {one for name in DETECTORS for one in find_all(text, [name])} for text in texts)


@given(st.text(alphabet="0123456789 -+().:@/aAхХ№\u00a0０", max_size=60), st.text(max_size=20))
def test_what_is_found_lies_in_the_match_and_is_something(text: str, before: str) -> None:
    for detector in DETECTORS.values():
        for match in re.finditer(detector.pattern, text):
            part = detector.find(match.group(), before, 0)
            assert part is None or 0 <= part[0] < part[1] <= len(match.group())


def test_names_of_others_lead_to_detectors() -> None:
    assert set(TYPES.values()) == set(DETECTORS)
    assert all(name == name.upper() for name in TYPES)
    assert {TYPES[name] for name in ("EMAIL_ADDRESS", "CREDIT_CARD", "US_SSN")} == {"email", "card", "us_ssn"}


def test_each_detector_has_a_placeholder_of_its_own() -> None:
    names = [detector.placeholder for detector in DETECTORS.values()]
    assert not any(one == other for one, other in itertools.combinations(names, 2))
