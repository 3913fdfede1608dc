"""All forms of a word, for rules that name words by lemma: убить also finds убил and убитую, bomb finds bombing.

Policy files are expanded once, as they are read, so that stages need no dictionary. Russian paradigms come from
pymorphy3 over OpenCorpora's dictionary (Korobov 2015, doi:10.1007/978-3-319-26123-2_31); it loads in 0.1 s and
keeps 30 MB. English needs no dictionary: regular spelling rules, and tables of the common exceptions.
"""

import re
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from typing import Any, Literal

Language = Literal["ru", "en"]

_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)
_AGREES = {"ADJF", "PRTF"}
"""OpenCorpora's marks of the full adjective and participle, which a phrase shows in their noun's gender."""
_FIXED = {"CONJ", "PRCL"}
"""Conjunctions and particles: the dictionary joins unlike words under them (к, как, како)."""


def phrase_forms(phrase: str) -> tuple[tuple[str, ...], ...]:
    """The forms of every word of a phrase, word by word; any combination of them is the phrase.

    Each word's script decides its language: Cyrillic is Russian, anything else English. In a phrase an adjective may
    agree with its noun: взрывчатое вещество. No form holds a border of words: a hyphened word gives several places.

    Raises:
        ValueError: a word is not given as its lemma, or the phrase holds no word.
        ModuleNotFoundError: a Russian word, and the extra `lemmas` is not installed.
    """
    words = phrase.split()
    columns: list[tuple[str, ...]] = []
    for word in words:
        russian = _CYRILLIC.search(word) is not None
        forms = _russian(word, agreeing=len(words) > 1) if russian else word_forms(word, "en")
        columns += _places(forms)
    if not columns:
        raise ValueError(f"{phrase!r} holds no word; write at least one, as its lemma")
    return tuple(columns)


def word_forms(word: str, language: Language) -> tuple[str, ...]:
    """All forms of the lemma `word` in lower case, sorted; Russian ones with ё are given with е as well.

    A Russian verb brings its participles and gerunds; its other aspect is a lemma of its own. A Russian word that the
    dictionary lacks is inflected as similar words are. English does not tell verb from noun: both are formed.

    Raises:
        ValueError: `word` is a form of another lemma, which the message names.
        ModuleNotFoundError: Russian, and the extra `lemmas` is not installed.
    """
    return _russian(word, agreeing=False) if language == "ru" else _english(word.casefold())


def _places(forms: Iterable[str]) -> list[tuple[str, ...]]:
    """Forms taken apart where the guard sees a border, so that each place of the phrase is one whole word."""
    parts = [re.split(r"[\W_]+", form) for form in forms]
    longest = max(map(len, parts), default=0)
    columns = zip(*(row for row in parts if len(row) == longest), strict=True)
    return [tuple(sorted(set(column))) for column in columns if all(column)]


@cache
def _dictionary() -> Any:
    try:
        import pymorphy3
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Russian lemmas need the extra `lemmas`: from the checkout, pip install '.[lemmas]'", name=error.name
        ) from None
    return pymorphy3.MorphAnalyzer()


def _russian(word: str, agreeing: bool) -> tuple[str, ...]:
    parses = _dictionary().parse(word)
    lemmas = [parse for parse in parses if _plain(parse.normal_form) == _plain(word)]
    if not lemmas and agreeing:
        lemmas = [parse for parse in parses if parse.tag.POS in _AGREES and parse.tag.case == "nomn"]
    if not lemmas:
        raise _no_lemma(word, (parse.normal_form for parse in parses))
    forms = {form for parse in lemmas for form in _lexeme(parse)}
    return tuple(sorted(forms | {_plain(form) for form in forms}))


def _lexeme(parse: Any) -> list[str]:
    if parse.tag.POS in _FIXED:
        return [parse.word]
    return [form.word for form in parse.lexeme]


def _plain(word: str) -> str:
    return word.casefold().replace("ё", "е")


def _no_lemma(word: str, lemmas: Iterable[str]) -> ValueError:
    named = " or ".join(repr(lemma) for lemma in dict.fromkeys(lemmas))
    return ValueError(f"{word!r} is not a lemma; write {named}, or list its forms in a rule of kind phrase")


def _english(word: str) -> tuple[str, ...]:
    if word in _INVARIABLE:
        return (word,)
    if word in _LEMMA_OF and word not in _IRREGULAR and word not in _ALSO_LEMMAS:
        raise _no_lemma(word, _LEMMA_OF[word])
    past = _PASTS.get(word) or _ed(word)
    return tuple(sorted({word, *_s(word), *_ing(word), *past, *_PLURALS.get(word, ())}))


_VOWEL_GROUPS = re.compile("(?<=q)u|[aeiouy]+")


def _stems(word: str) -> list[str]:
    """What -ed and -ing are joined to: stab doubles its consonant, kill does not; visit and admit differ by stress
    only, which spelling does not show, so a longer word is formed both ways."""
    if re.search("[^aeiou]ic$", word):
        return [f"{word}k"]
    if not re.search("(?:[^aeiou]|qu|^)[aeiouy][^aeiouwxy]$", word):
        return [word]
    doubled = word + word[-1]
    syllables = len(_VOWEL_GROUPS.findall(word.replace("qu", "q")))
    return [doubled] if syllables == 1 else [word, doubled]


def _s(word: str) -> list[str]:
    if re.search("[^aeiou]y$", word):
        return [f"{word[:-1]}ies"]
    if re.search("[^aeiou]o$", word):  # heroes, photos
        return [f"{word}es", f"{word}s"]
    return [f"{word}es"] if re.search("(?:s|x|z|ch|sh)$", word) else [f"{word}s"]


def _ed(word: str) -> list[str]:
    if word.endswith("e"):
        return [f"{word}d"]
    if re.search("[^aeiou]y$", word):
        return [f"{word[:-1]}ied"]
    return [f"{stem}ed" for stem in _stems(word)]


def _ing(word: str) -> list[str]:
    if word.endswith("ie"):
        return [f"{word[:-2]}ying"]
    if re.search("[^eoy]e$", word) and len(word) > 2:
        return [f"{word[:-1]}ing"]
    return [f"{stem}ing" for stem in ([word] if word.endswith("e") else _stems(word))]


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """`lemma form form` between commas."""
    rows = (entry.split() for entry in text.split(","))
    return {lemma: tuple(forms) for lemma, *forms in rows}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PASTS = _table("""
    be am is are was were been, beat beat beaten, become became become, begin began begun, bend bent, bet bet,
    bind bound, bite bit bitten, bleed bled, blow blew blown, break broke broken, breed bred, bring brought,
    build built, burn burned burnt, burst burst, buy bought, catch caught, choose chose chosen, come came come,
    cost cost, cut cut, deal dealt, dig dug, do does did done, draw drew drawn, drink drank drunk, drive drove driven,
    eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, flee fled, fly flew flown,
    forbid forbade forbidden, forget forgot forgotten, freeze froze frozen, get got gotten, give gave given,
    go went gone, grind ground, grow grew grown, hang hung hanged, have has had, hear heard, hide hid hidden, hit hit,
    hold held, hurt hurt, keep kept, know knew known, lay laid, lead led, leave left, lend lent, let let,
    lie lay lain lied, light lit lighted, lose lost, make made, mean meant, meet met, pay paid, put put, quit quit,
    read read, ride rode ridden, ring rang rung, rise rose risen, run ran run, say said, see saw seen, sell sold,
    send sent, set set, shake shook shaken, shed shed, shoot shot, show showed shown, shut shut, sing sang sung,
    sink sank sunk, sit sat, slay slew slain, sleep slept, slit slit, speak spoke spoken, spend spent, spin spun,
    split split, spread spread, stand stood, steal stole stolen, stick stuck, sting stung, strike struck stricken,
    swear swore sworn, swim swam swum, take took taken, teach taught, tear tore torn, tell told, think thought,
    throw threw thrown, understand understood, wake woke woken, wear wore worn, win won, wind wound, write wrote written
""")
_PLURALS = _table("""
    calf calves, child children, crisis crises, foot feet, goose geese, half halves, knife knives, leaf leaves,
    life lives, loaf loaves, louse lice, man men, mouse mice, person people, quiz quizzes, self selves, shelf shelves,
    thief thieves, tooth teeth, wife wives, wolf wolves, woman women
""")
_IRREGULAR = _PASTS.keys() | _PLURALS.keys()
_ALSO_LEMMAS = _words("""
    bit blow bound broke drunk fell felt forbidden found ground hung left leaves lent lice lit lives lost made mean
    people rose saw shot spoke stole stuck thought wound
""")
"""Forms of one lemma that are another word too: ground glass, a shot."""
_INVARIABLE = _words("""
    a about after against all an and any as at because before but by down each every for from he her him his how i if in
    into it its me my no nor not of off on one or our out over she so some than that the their them then there these
    they this those through to under up us via we what when where which while who whom whose why with within without
    yes you your
""")
"""Words that are not inflected; `a` must not become `as`."""


def _lemmas_by_form() -> dict[str, tuple[str, ...]]:
    pairs = sorted((form, lemma) for table in (_PASTS, _PLURALS) for lemma, forms in table.items() for form in forms)
    return {form: tuple(lemma for _, lemma in group) for form, group in groupby(pairs, key=lambda pair: pair[0])}


_LEMMA_OF = _lemmas_by_form()
