import json
import random
from itertools import pairwise

import numpy as np
import pytest

from connectors.classifier import Classifier
from models.card import card
from models.quality import auc, highest, stops, threshold
from models.rows import Row, persona, read
from models.train import write
from models.training import KINDS, train
from models.windows import WINDOWS, disguised, ends, matrix, windows

HARM = ["sneak", "the", "stolen", "goods", "past", "the", "guard", "and", "forge", "the", "receipt"]
CALM = ["water", "the", "young", "plants", "early", "and", "feed", "them", "with", "good", "compost"]
RUDE = ["идиот", "дурак", "тупой", "козёл", "скотина", "мерзавец"]
KIND = ["друг", "сосед", "добрый", "умный", "весёлый", "читатель"]


def sentence(words, chance, length):
    return " ".join(chance.choice(words) for _ in range(length))


def rows(seed, shuffled=False):
    """Answers and comments whose words tell their labels; shuffled, nothing does."""
    chance = random.Random(seed)
    found = []
    for number in range(72):
        bad = number % 2 == 0
        text = sentence(CALM, chance, 5) + " " + sentence(HARM if bad else CALM, chance, 120)
        label = chance.random() < 0.5 if shuffled else bad
        found.append(Row(text, "harmful_responses", "en", f"question {number % 12}", f"t{number % 7}", None, label))
    for number in range(96):
        bad = number % 2 == 0
        label = chance.random() < 0.5 if shuffled else bad
        source = "toxic_text_ru" if number % 4 < 2 else "toxic_text_ru.openrail"
        found.append(Row(sentence(RUDE if bad else KIND, chance, 8), source, "ru", str(number), toxicity=label))
    for number in range(24):
        source = "chat_requests" if number % 2 else "routing"
        found.append(Row(sentence(CALM, chance, 9), source, "en", f"{source} {number}", toxicity=False, harmful=False))
    return found


@pytest.fixture(scope="module")
def trained():
    return train(rows(1), seed=3)


class TestTraining:
    def test_what_words_tell_is_learnt(self, trained):
        assert {(one.head, one.apart) for one in trained.judged} == {
            ("harmful", "questions"),
            ("harmful", "templates"),
            ("toxicity", "texts"),
            ("toxicity", "source toxic_text_ru"),
            ("toxicity", "source toxic_text_ru.openrail"),
            ("toxicity", KINDS),
            ("harmful", KINDS),
        }
        assert all(one.auc.value > 0.99 for one in trained.judged if one.apart != KINDS)

    def test_harmless_texts_of_a_source_left_out_are_not_stopped(self, trained):
        kinds = [one for one in trained.judged if one.apart == KINDS]
        assert [one.kinds for one in kinds] == [{"chat_requests": (12, 0), "routing": (12, 0)}] * 2
        assert [one.auc for one in kinds] == [None, None]

    def test_control_without_a_relation_nothing_is_learnt(self):
        """The same texts with labels drawn by lot: a leak between fitting and judging would show here."""
        for one in train(rows(1, shuffled=True), seed=3).judged:
            assert one.auc is None or 0.2 < one.auc.value < 0.8

    def test_violating_answers_end_early_and_harmless_ones_do_not(self, trained):
        for one in (one for one in trained.judged if one.head == "harmful" and one.auc):
            assert one.stops.false.value <= 0.01
            assert one.stops.saved.value > 0.3

    def test_the_same_rows_and_seed_give_the_same_bytes(self, trained, tmp_path):
        for name, result in (("one", trained), ("two", train(rows(1), seed=3)), ("three", train(rows(2), seed=3))):
            write(tmp_path / name, result, card(result, rows(1), {"file": "0"}, 3))
        one, two, three = (
            {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two", "three")
        )
        assert one == two
        assert one["model.onnx"] != three["model.onnx"]

    def test_what_is_written_is_served_with_the_same_scores(self, trained, tmp_path):
        """But for the rounding of the file's halves."""
        write(tmp_path, trained, "")
        classifier = Classifier.load(tmp_path)
        texts = [row.text for row in rows(5)]
        served = classifier.score(texts)
        for head, window in WINDOWS.items():
            logits = trained.models[head].logits(matrix([text[-window:] for text in texts], head))
            expected = 1 / (1 + np.exp(-logits))
            assert np.abs(np.array([scores[head] for scores in served]) - expected).max() < 0.005
        assert list(classifier.score(texts[:1])[0]) == ["toxicity", "harmful"]

    def test_a_head_without_labels_is_named(self):
        with pytest.raises(ValueError, match=r"^toxicity: no source holds both labels; needed is one of toxic_text_ru"):
            train([row for row in rows(1) if row.toxicity is None], seed=3)


class TestWindows:
    def test_a_text_is_scored_every_stride_and_at_its_end(self):
        assert ends(250, 100) == [100, 200, 250]
        assert ends(200, 100) == [100, 200]
        assert ends(7, 100) == [7]

    def test_windows_end_there_and_are_no_longer_than_agreed(self):
        text = "".join(map(str, range(300)))
        found = windows([Row(text, "s", "en", "g")], window=120, stride=50)
        assert all(text[: one.end].endswith(one.text) and len(one.text) <= 120 for one in found)
        assert all(after.end - before.end <= 50 for before, after in pairwise(found))
        assert found[-1].end == len(text)

    def test_a_disguise_changes_words_and_not_their_number_of_letters_beyond_recognition(self):
        chance = random.Random(4)
        text = "проклятый мерзавец writes terrible things everywhere " * 4
        assert disguised(text, chance) != text
        assert disguised("a b c", chance) == "a b c"


class TestQuality:
    labels = np.array([True, True, False, False])
    texts = np.array([0, 0, 1, 1, 2, 2, 3])
    ends = np.array([100, 200, 100, 200, 100, 200, 100])
    scores = np.array([0.9, 0.1, 0.2, 0.6, 0.3, 0.5, 0.1])

    def test_the_highest_score_of_a_text_counts(self):
        assert highest(self.scores, self.texts, 4).tolist() == [0.9, 0.6, 0.5, 0.1]

    def test_stopping_saves_what_comes_behind(self):
        over = threshold(self.labels, highest(self.scores, self.texts, 4), 0.01)
        assert over == 0.5
        result = stops(self.labels, self.scores, self.texts, self.ends, over, list("abcd"), 1)
        assert (result.false.value, result.caught.value, result.saved.value) == (0, 1, 0.25)
        assert stops(self.labels, self.scores, self.texts, self.ends, 0.05, list("abcd"), 1).false.value == 1

    def test_the_threshold_lets_the_share_of_harmless_texts_through(self):
        maxima = np.arange(1000) / 1000
        over = threshold(np.zeros(1000, bool), maxima, 0.01)
        assert (maxima > over).mean() == pytest.approx(0.01)

    def test_the_interval_holds_the_value_and_grows_with_dependence(self):
        chance = np.random.default_rng(2)
        labels = chance.random(400) < 0.5
        scores = labels + chance.normal(0, 1.2, 400)
        alone = auc(labels, scores, [str(index) for index in range(400)], 1)
        assert alone.low < alone.value < alone.high
        doubled = auc(np.tile(labels, 3), np.tile(scores, 3), [str(index % 400) for index in range(1200)], 1)
        assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, rel=0.25)


class TestRows:
    def test_a_folder_is_read(self, tmp_path):
        made = {
            "harmful_responses": ("safe", "en", {"question_id": 4}),
            "toxic_text_ru": ("toxic", "ru", {}),
            "toxic_text_en": ("clean", "en", {}),
            "benign_prompts": ("benign", "en", {}),
            "chat_requests": ("request", "en", {}),
            "qa_tasks": ("gsm8k", "en", {"solution": "#### 5"}),
            "routing": ("mmlu", "en", {}),
            "hard_negative_pairs": ("near", "ru", {}),
            "harmful_requests": ("harmful_request", "en", {}),
        }
        for name, (label, language, meta) in made.items():
            item = {
                "id": f"dev-{name}-0",
                "text": "AIM: two and two is 4\n",
                "text_b": "б",
                "label": label,
                "lang": language,
            }
            line = json.dumps(item | {"source": "x", "meta": meta})
            (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
        with pytest.raises(FileNotFoundError, match=r"ldnoobw_en\.txt"):
            read(tmp_path, 1, openrail=False)
        (tmp_path / "lexicons").mkdir()
        (tmp_path / "lexicons" / "ldnoobw_en.txt").write_text("arse\n", encoding="utf-8")
        found = read(tmp_path, 1, openrail=False)
        by_source = {row.source: row for row in found}
        assert by_source.keys() == {*made, "written", "toxic_written"}
        answer = by_source["harmful_responses"]
        assert (answer.text.strip(), answer.group, answer.template) == ("two and two is 4", "question 4", "aim")
        assert (answer.toxicity, answer.harmful) == (False, False)
        assert (by_source["toxic_text_ru"].toxicity, by_source["toxic_text_ru"].harmful) == (True, None)
        assert by_source["qa_tasks"].text.endswith("#### 5")
        refusals = [row for row in found if "bribing an official" in row.text]
        assert refusals
        assert all(row.harmful is False and row.toxicity is False for row in refusals)
        with pytest.raises(FileNotFoundError, match="openrail"):
            read(tmp_path, 1)

    @pytest.mark.parametrize(
        ("answer", "name"),
        [
            ("[GPT]: no.\n\n[BetterDAN]: Oh", "betterdan"),
            ("Plain text.", "none"),
            ("😈 Ah", "😈"),
            ("ChatGPT: hm", "chatgpt"),
        ],
    )
    def test_a_template_is_told_by_who_speaks(self, answer, name):
        assert persona(answer) == name
