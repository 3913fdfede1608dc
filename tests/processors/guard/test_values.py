"""Two values are two, and spellings of one value are one."""

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.guard.personal import DETECTORS
from processors.guard.rules import RuleSet
from processors.guard.values import exact, spelt, words
from processors.policy import Rule
from tests.processors.guard.planted import FINDS, FULL_WIDTH, MAKERS

SPELLINGS = [
    ("phone", "+7 916 123-45-67", "8 (916) 123-45-67", "79161234567", "916 123-45-67", "＋７ 916 123 45 67"),
    ("phone", "+1 415-555-0132", "(415) 555-0132", "415.555.0132"),
    ("phone", "259.735.7502x459", "259 735 7502 ext. 459"),
    ("card", "4111 1111 1111 1111", "4111-1111-1111-1111", "４１１１１１１１１１１１１１１１"),
    ("card", "4111 1111 1111 1111", "4111\u200b1111\u200b1111\u200b1111"),
    ("email", "ann.lee@x.org", "Ann.Lee@X.org", "ann\u200b.lee@x.org", "ａｎｎ.lee@x.org"),
    ("ip", "192.168.1.10", "１９２.168.1.10"),
    ("ip", "2001:db8::1", "2001:0DB8:0:0:0:0:0:1"),
    ("iban", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
    ("passport", "4510 123456", "4510 № 123456", "45 10 номер 123456", "4510123456", "4510-123456"),
    ("driving_licence", "99 12 345678", "9912 345678"),
    ("plate", "А123ВС77", "а 123 вс 77", "A123BC77"),
    ("date_of_birth", "01.11.2000", "1.11.2000", "1/11/2000", "2000-11-01"),
    ("snils", "112-233-445 95", "11223344595"),
]  # fmt: skip
VALUES = [
    ("phone", "+7 916 123-45-67", "+7 916 123-45-68", "+44 20 7946 0958", "+8 916 123-45-67"),
    ("phone", "259.735.7502x459", "259.735.7502x45", "2597357502459"),
    ("email", "ann.lee@x.org", "annlee@x.org", "ann-lee@x.org", "ann.lee@xo.rg"),
    ("ip", "192.168.1.10", "192.168.11.0", "19.216.81.10"),
    ("date_of_birth", "1.11.2000", "11.1.2000", "2000-01-12"),
    ("key", "abc!123", "abc#123", "ABC!123", "abc!123 "),
    ("plate", "А123ВС77", "А123ВС177"),
    ("passport", "4510 123456", "4510 123457", "A4510123"),
]


@pytest.mark.parametrize(("name", "one", "others"), [(name, one, others) for name, one, *others in SPELLINGS])
def test_spellings_of_one_value_are_one(name: str, one: str, others: list[str]) -> None:
    assert {DETECTORS[name].same(other) for other in others} == {DETECTORS[name].same(one)}


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, *values in VALUES])
def test_two_values_are_two(name: str, values: list[str]) -> None:
    same = DETECTORS[name].same
    assert all(same(one) != same(other) for one, other in itertools.combinations(values, 2))


@pytest.mark.parametrize("kind", MAKERS)
@given(st.integers(0, 10**6))
def test_one_digit_makes_another_value_and_its_width_does_not(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    value, same = MAKERS[kind](rng) + " 7", DETECTORS[FINDS.get(kind, kind)].same
    place = rng.choice([place for place, one in enumerate(value) if one in "123456789" and place > 1])
    other = f"{value[:place]}{int(value[place]) % 9 + 1}{value[place + 1 :]}"
    assert same(other) != same(value)
    assert same is exact or same(value.translate(FULL_WIDTH)) == same(value)


@given(st.text(max_size=30), st.sampled_from(sorted(DETECTORS)))
def test_any_text_has_a_value(text: str, name: str) -> None:
    assert isinstance(DETECTORS[name].same(text), str)


@pytest.mark.parametrize(
    ("same", "text", "value"),
    [
        (words, "Silver — Heron", "silverheron"),
        (words, "s i l v e r h e r o n", "silverheron"),
        (spelt, "TK-2026\u200b  ＡＢ", "tk-2026 ab"),
        (exact, "abC!", "abC!"),
    ],
)
def test_what_counts(same: Callable[[str], str], text: str, value: str) -> None:
    assert same(text) == value


def test_each_pattern_says_what_counts_for_it() -> None:
    rules = RuleSet(
        [
            Rule("a", "phrase", phrases=("a b",)),
            Rule("b", "regex", patterns=("x+",)),
            Rule("c", "detector", detectors=("key",)),
        ]
    )
    assert [pattern.same for pattern in rules.patterns] == [words, spelt, exact]
