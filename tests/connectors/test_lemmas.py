"""Lemmas become the forms that texts hold, and a form given as a lemma is sent back with the lemma to write."""

import builtins
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import lemmas
from connectors.lemmas import phrase_forms, word_forms

NOUN = "бомба бомбы бомбе бомбу бомбой бомбою бомб бомбам бомбами бомбах"
VERB = """
    убить убил убила убило убили убью убьешь убьёшь убьет убьёт убьем убьём убьете убьёте убьют убей убейте
    убив убивши убивший убившая убившего убитый убитая убитую убитого убитыми убит убита убито убиты
"""


def accepted(phrase: str) -> bool:
    """Whether a phrase is expanded; refused it must be as the reader is told, and no other way."""
    with suppress(ValueError):
        return bool(phrase_forms(phrase))
    with pytest.raises(ValueError, match=r"is not a lemma; write|holds no word"):
        phrase_forms(phrase)
    return False


class TestRussian:
    def test_a_noun_has_all_its_cases(self):
        assert set(word_forms("бомба", "ru")) == set(NOUN.split())

    def test_a_verb_has_its_participles_and_gerunds(self):
        forms = set(word_forms("убить", "ru"))
        assert set(VERB.split()) <= forms
        assert not forms & {"убивать", "убивает", "убивая", "убийство", "убийца", "убиться"}

    def test_each_aspect_is_a_lemma_of_its_own(self):
        assert {"убивать", "убивает", "убивая", "убиваемый", "убивавшая"} <= set(word_forms("убивать", "ru"))

    def test_an_adjective_has_its_genders_and_degrees(self):
        assert {"опасный", "опасная", "опасное", "опасных", "опасен", "опаснее"} <= set(word_forms("опасный", "ru"))

    @pytest.mark.parametrize("written", ["ёж", "еж", "Ёж"])
    def test_yo_may_be_written_either_way_and_is_found_either_way(self, written):
        assert {"ёж", "еж", "ежа", "ежами"} <= set(word_forms(written, "ru"))

    def test_of_a_form_and_a_lemma_spelt_alike_the_lemma_counts(self):
        """стекло is also what стечь did; the glass is meant."""
        assert {"стекла", "стёкла", "стеклом"} <= set(word_forms("стекло", "ru"))
        assert "стечь" not in word_forms("стекло", "ru")

    def test_homonyms_are_both_meant(self):
        assert {"печью", "пёк", "испечь"} & set(word_forms("печь", "ru")) == {"печью", "пёк"}

    def test_conjunctions_stay_as_they_are(self):
        assert word_forms("как", "ru") == ("как",)

    def test_a_word_that_the_dictionary_lacks_is_inflected_as_similar_ones_are(self):
        assert {"криптомайнер", "криптомайнера", "криптомайнеры"} <= set(word_forms("криптомайнер", "ru"))

    @pytest.mark.parametrize(("form", "lemma"), [("убил", "убить"), ("бомбу", "бомба"), ("взрывчатое", "взрывчатый")])
    def test_a_form_is_refused_with_its_lemma(self, form, lemma):
        with pytest.raises(ValueError, match=f"^'{form}' is not a lemma; write '{lemma}',"):
            word_forms(form, "ru")

    def test_without_the_dictionary_the_extra_is_named(self, monkeypatch):
        def refused(name, *others):
            if name == "pymorphy3":
                raise ModuleNotFoundError("No module named 'pymorphy3'", name=name)
            return imported(name, *others)

        imported = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", refused)
        lemmas._dictionary.cache_clear()
        with pytest.raises(ModuleNotFoundError, match=re.escape("pip install '.[lemmas]'")):
            word_forms("бомба", "ru")
        assert word_forms("bomb", "en")


class TestEnglish:
    @pytest.mark.parametrize(
        ("lemma", "forms"),
        [
            ("kill", "kill killed killing kills"),
            ("stab", "stab stabbed stabbing stabs"),
            ("poison", "poison poisoned poisoning poisons"),
            ("shoot", "shoot shooting shoots shot"),
            ("spy", "spied spies spy spying"),
            ("destroy", "destroy destroyed destroying destroys"),
            ("mix", "mix mixed mixes mixing"),
            ("smash", "smash smashed smashes smashing"),
            ("explode", "explode exploded explodes exploding"),
            ("die", "die died dies dying"),
            ("flee", "fled flee fleeing flees"),
            ("dye", "dye dyed dyeing dyes"),
            ("admit", "admit admits admitted admitting"),
            ("quit", "quit quits quitting"),
            ("panic", "panic panicked panicking panics"),
            ("hero", "hero heroes"),
            ("steal", "steal stealing steals stole stolen"),
            ("see", "saw see seeing seen sees"),
            ("knife", "knife knifed knives"),
            ("woman", "woman women"),
        ],
    )
    def test_well_known_paradigms(self, lemma, forms):
        assert set(forms.split()) <= set(word_forms(lemma, "en"))

    @pytest.mark.parametrize(
        ("lemma", "wrong"),
        [("kill", "killled"), ("stab", "stabed"), ("see", "seed"), ("spy", "spyed"), ("sing", "singed"), ("a", "as")],
    )
    def test_what_the_rules_do_not_apply_to(self, lemma, wrong):
        assert wrong not in word_forms(lemma, "en")

    @pytest.mark.parametrize(("form", "lemma"), [("went", "go"), ("women", "woman"), ("worn", "wear")])
    def test_an_irregular_form_is_refused_with_its_lemma(self, form, lemma):
        with pytest.raises(ValueError, match=f"^'{form}' is not a lemma; write '{lemma}',"):
            word_forms(form, "en")

    def test_a_form_that_is_a_word_of_its_own_is_allowed(self):
        assert {"saw", "sawed", "sawing"} <= set(word_forms("saw", "en"))


class TestPhrases:
    def test_words_keep_their_places_and_each_its_forms(self):
        places = phrase_forms("взорвать бомба")
        assert [("взорвал" in forms, "бомбу" in forms) for forms in places] == [(True, False), (False, True)]

    def test_an_adjective_may_agree_with_its_noun(self):
        assert phrase_forms("взрывчатое вещество") == phrase_forms("взрывчатый вещество")
        with pytest.raises(ValueError, match="взрывчатый"):
            phrase_forms("взрывчатое")

    def test_script_decides_the_language(self):
        english, russian = phrase_forms("hack сервер")
        assert "hacked" in english
        assert "сервера" in russian

    def test_a_hyphen_parts_words_as_it_does_in_texts(self):
        first, second = phrase_forms("человек-паук")
        assert "человека" in first
        assert "паука" in second

    @pytest.mark.parametrize("empty", ["", "  ", "—", "!!!"])
    def test_a_phrase_holds_a_word(self, empty):
        with pytest.raises(ValueError, match="holds no word"):
            phrase_forms(empty)

    @given(st.lists(st.from_regex(r"[a-z]{1,12}(-[a-z]{1,6})?", fullmatch=True), min_size=1, max_size=3))
    def test_forms_are_sorted_whole_words_and_hold_the_lemma(self, words):
        phrase = " ".join(words)
        if not accepted(phrase):
            return
        places, parts = phrase_forms(phrase), phrase.replace("-", " ").split()
        assert len(places) == len(parts)
        for part, forms in zip(parts, places, strict=True):
            assert part in forms
            assert list(forms) == sorted(set(forms))
            assert all(form.isalpha() for form in forms)

    @given(st.text(max_size=20))
    def test_any_text_is_expanded_or_refused(self, text):
        if not accepted(text):
            return
        places = phrase_forms(text)
        assert places
        assert all(forms and all(re.fullmatch(r"[^\W_]+", form) for form in forms) for forms in places)
