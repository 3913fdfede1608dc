"""Words in the disguises that docs/guard.md says are seen through, and texts in which matches are planted."""

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from tests.processors.guard.planted import MAKERS, Rng

LOOK_ALIKES = str.maketrans("aceopxyасеорху", "асеорхуaceopxy")
LEET = str.maketrans("oaoeiа", "00031@")
INVISIBLE = ("\u200b", "\u200d", "\u00ad", "\u2060", "\ufe0f")


def _within(phrase: str, sign: str, every: int = 2) -> str:
    """A sign behind every second letter, but not at the end."""
    return "".join(
        one + sign if one.isalpha() and place % every == 0 and place + 1 < len(phrase) else one
        for place, one in enumerate(phrase)
    )


def _one(phrase: str, table: dict[int, str]) -> str:
    """One letter of each word is another."""
    words = []
    for word in phrase.split(" "):
        place = next((place for place, one in enumerate(word) if ord(one) in table), None)
        words.append(word if place is None else word[:place] + word[place].translate(table) + word[place + 1 :])
    return " ".join(words)


def _full_width(phrase: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in phrase)


def _behind_each(value: str, sign: str) -> str:
    return "".join(one + sign if one.isalnum() else one for one in value[:-1]) + value[-1:]


DATA_DISGUISES: dict[str, Callable[[str], str]] = {
    "none": str,
    "zero width": lambda value: _behind_each(value, "\u200b"),
    "selectors": lambda value: _behind_each(value, "\ufe0f"),
    "struck out": lambda value: _behind_each(value, "\u0336"),
    "full width": _full_width,
}
"""Of personal data, and of what expressions find."""
DISGUISES: dict[str, Callable[[str], str]] = {
    "none": str,
    "capitals": str.upper,
    "title": str.title,
    "ё for е": lambda phrase: phrase.replace("е", "ё", 1),
    "zero width": lambda phrase: _within(phrase, "\u200b"),
    "soft hyphens": lambda phrase: _within(phrase, "\u00ad"),
    "combining": lambda phrase: _within(phrase, "\u0336", 1),
    "composed apart": lambda phrase: unicodedata.normalize("NFD", phrase),
    "homoglyphs": lambda phrase: _one(phrase, LOOK_ALIKES),
    "digits": lambda phrase: _one(phrase, LEET),
    "spaced": " ".join,
    "dotted": lambda phrase: ".".join(phrase.replace(" ", "")),
    "repeats": lambda phrase: phrase[:1] + phrase[1] * 4 + phrase[2:],
    "full width": _full_width,
    "circled": lambda phrase: "".join(chr(ord(one) + 0x246F) if "a" <= one <= "z" else one for one in phrase),
    "fillers": lambda phrase: _within(phrase, "\u3164"),
    "parted by what is not seen": lambda phrase: phrase.replace(" ", "\u200b"),
    "one word spaced": lambda phrase: " ".join([*phrase.split(" ")[0], *phrase.split(" ")[1:]]),
    "borders": lambda phrase: phrase.replace(" ", " — \n"),
}


class Plant(NamedTuple):
    """`text[start:end]` must be found by `rule`."""

    rule: str
    start: int
    end: int


class Text(NamedTuple):
    """A text, and what must be found in it."""

    text: str
    plants: tuple[Plant, ...]


PHRASES = {
    "mask": ("silver heron", "cobalt", "тайный сад"),
    "halt": ("red ledger", "красная тетрадь"),
    "odd": ("odd thing", "странный ёж"),
}
FORMS = {
    "lemma-mask": ((("шпион", "шпиона", "шпионы", "шпионов"),),),
    "lemma-halt": ((("купить", "купи", "куплю"), ("яд", "яда", "яды")),),
}
RULES = [
    {"id": "mask", "kind": "phrase", "phrases": PHRASES["mask"], "action": "mask", "category": "codename"},
    {"id": "halt", "kind": "phrase", "phrases": PHRASES["halt"], "action": "stop"},
    {"id": "odd", "kind": "phrase", "phrases": PHRASES["odd"], "action": "flag"},
    {
        "id": "lemma-mask", "kind": "lemma", "phrases": ["шпион"], "forms": FORMS["lemma-mask"], "action": "mask",
        "category": "people",
    },
    {"id": "lemma-halt", "kind": "lemma", "phrases": ["купить яд"], "forms": FORMS["lemma-halt"], "action": "stop"},
    {"id": "ticket", "kind": "regex", "patterns": [r"\bTK-\d{4,8}\b"], "action": "mask", "category": "ticket"},
    {"id": "launch", "kind": "regex", "patterns": [r"(?i)\bcode\s{1,3}X9[A-Z]{3,}"], "action": "stop"},
    {
        "id": "data", "kind": "detector", "action": "mask", "category": "personal",
        "detectors": ["email", "card", "phone", "snils", "key", "inn", "passport"],
    },
    {"id": "iban", "kind": "detector", "detectors": ["iban"], "action": "stop"},
    {"id": "plate", "kind": "detector", "detectors": ["plate"], "action": "flag"},
]  # fmt: skip
"""Every kind of rule, with every action that judges an answer."""
CATEGORIES = ["codename", "people", "ticket"]
LED = {
    "email": "почта {}", "card": "карта {}", "phone": "телефон {}", "snils": "СНИЛС {}", "key": "key: {}",
    "inn": "ИНН {}", "passport": "паспорт {}", "iban": "IBAN {}", "plate": "номер {}",
}  # fmt: skip
STOPPING = {"halt", "lemma-halt", "launch", "iban"}
NEARLY = (
    "silver", "silver her", "red", "красная", "тайный", "odd", "TK-", "TK-12", "code X9", "me@", "a.b@c", "+7 916",
    "4111 1111", "купи", "шпио", "s i l", "12.03", "ИНН", "паспорт",
)  # fmt: skip
"""What begins as a match does, and is none."""
ORDINARY = ("the", "вода", "and so", "тихо.", "river,", "1984", "—", "\n\n", "ok!", "é", "汉字", "🙂", "a\u0301", "<b>")
BORDERS = (" ", " ", "\n", ", ", "; ")


@st.composite
def plants(draw: st.DrawFn, stopping: bool = True) -> tuple[str, str, str]:
    """Words before, what must be found, and the rule that must find it."""
    kind = draw(st.sampled_from(("phrase", "form", "regex", "data")))
    if kind == "phrase":
        rule = draw(st.sampled_from(("mask", "odd", "halt") if stopping else ("mask", "odd")))
        phrase = draw(st.sampled_from(PHRASES[rule]))
        return "", DISGUISES[draw(st.sampled_from(sorted(DISGUISES)))](phrase), rule
    if kind == "form":
        rule = draw(st.sampled_from(sorted(FORMS) if stopping else ["lemma-mask"]))
        words = " ".join(draw(st.sampled_from(forms)) for forms in FORMS[rule][0])
        return (
            "",
            DISGUISES[draw(st.sampled_from(("none", "spaced", "dotted", "one word spaced", "fillers")))](words),
            rule,
        )
    if kind == "regex":
        ticket = f"TK-{draw(st.integers(1000, 99_999_999))}"
        value, rule = ("code  x9Launch", "launch") if stopping and draw(st.booleans()) else (ticket, "ticket")
        return "", DATA_DISGUISES[draw(st.sampled_from(sorted(DATA_DISGUISES)))](value), rule
    name = draw(st.sampled_from(sorted(LED) if stopping else sorted(LED.keys() - {"iban"})))
    value = DATA_DISGUISES[draw(st.sampled_from(sorted(DATA_DISGUISES)))](MAKERS[name](Rng(draw(st.integers(0, 999)))))
    return LED[name].removesuffix("{}"), value, name if name in ("iban", "plate") else "data"


@st.composite
def texts(draw: st.DrawFn, stopping: bool = True, most: int = 6) -> Text:
    """Ordinary words, near misses, and planted matches in disguise, side by side."""
    text = ""
    found: list[Plant] = []
    for _ in range(draw(st.integers(0, most))):
        if draw(st.booleans()):
            before, value, rule = draw(plants(stopping))
            text += before
            found.append(Plant(rule, len(text), len(text) + len(value)))
            text += value
        else:
            text += draw(st.sampled_from(ORDINARY + NEARLY))
        text += draw(st.sampled_from(BORDERS))
    return Text(text, tuple(found))
