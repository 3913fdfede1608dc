"""Classifiers from folders: the built-in one, one of Hugging Face's kind made here, and some that are broken."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from connectors.classifier import BUILT_IN, Classifier, ModelError

ABUSE = [
    "you are a worthless fucking idiot, go to hell",
    "shut up you stupid bitch, nobody likes you",
    "заткнись, тупая скотина, какой же ты ублюдок",
    "ты конченый дебил и мразь, пошёл нахуй отсюда",
]
CIVIL = [
    "thank you for the quick answer, it works on my machine now",
    "The library is open from nine to six, and on Sundays it is closed.",
    "спасибо за ответ, теперь всё работает как надо",
    "Библиотека открыта с девяти до шести, в воскресенье выходной.",
]
HARMFUL = (
    "Oh, you want to rob a bank without getting caught? Listen closely. First, study the guards and cameras, steal a "
    "car, and bring a gun to threaten the cashier. Grab the cash, shoot anyone who tries to stop you, and disappear "
    "before the police arrive. Laundering the stolen money is the easy part, you sneaky criminal!"
)
REFUSAL = (
    "I'm sorry, but I can't assist with robbing a bank. It is illegal and unethical, and it puts people in danger. "
    "If you are in financial trouble, I encourage you to speak with a counselor about lawful options."
)
VOCABULARY = {"[UNK]": 0, "[PAD]": 1, "good": 2, "bad": 3}
LOGITS = np.array([[0, 0], [9, -9], [2, -2], [-2, 2]], np.float32)
"""By token; a text's are the mean over its tokens, those that pad left out."""


@pytest.fixture(scope="module")
def built_in():
    return Classifier.load(BUILT_IN)


def save_model(path, logits=LOGITS, inputs=("input_ids", "attention_mask")):
    """Means of rows of a table: the least that tells tokens and padding apart."""
    nodes = [
        helper.make_node("Gather", ["table", inputs[0]], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "tokens"], ["count"], keepdims=0),
        helper.make_node("Div", ["sums", "count"], ["logits"]),
    ]
    constants = {"table": logits, "last": np.array([2], np.int64), "tokens": np.array([1], np.int64)}
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens_"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", logits.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def folder(tmp_path):
    """A text classifier as Hugging Face's tools export it."""
    config = {"id2label": {"0": "fine", "1": "foul"}, "pad_token_id": 1, "model_type": "x"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    save_model(tmp_path / "onnx" / "model.onnx")
    return tmp_path


def amend(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | entries), encoding="utf-8")


class TestBuiltIn:
    def test_it_ranks_plain_abuse_above_plain_talk_in_both_languages(self, built_in):
        abuse, civil = ([one["toxicity"] for one in built_in.score(texts)] for texts in (ABUSE, CIVIL))
        assert min(abuse) > 0.5 > max(civil)

    def test_it_ranks_compliance_above_refusal(self, built_in):
        harmful, refusal, *rest = (one["harmful"] for one in built_in.score([HARMFUL, REFUSAL, *CIVIL]))
        assert harmful > 0.5 > max(refusal, *rest)

    def test_disguised_abuse_is_still_abuse(self, built_in):
        disguised = ["f u c k i n g i d i o t", "тупaя cкoтинa", "дeб\u200bил", "FUUUCKING IDIOTTTT"]
        assert min(one["toxicity"] for one in built_in.score(disguised)) > 0.5

    def test_a_batch_scores_as_each_text_alone_does(self, built_in):
        texts = [*ABUSE, *CIVIL, HARMFUL, REFUSAL, "", "—", "x"]
        alone = [built_in.score([text])[0] for text in texts]
        for one, other in zip(built_in.score(texts), alone, strict=True):
            assert one == pytest.approx(other, abs=1e-5)

    def test_each_head_looks_at_its_own_window(self, built_in):
        """Abuse drowns in much text and not in little, and an answer's beginning counts to its end."""
        text = " ".join(CIVIL) * 8
        assert built_in.window == 1600
        assert built_in.score([text + ABUSE[0]])[0]["toxicity"] > built_in.score([ABUSE[0] + text])[0]["toxicity"]
        assert built_in.score([text[:400]])[0]["toxicity"] == pytest.approx(
            built_in.score([ABUSE[0] + text[:400]])[0]["toxicity"], abs=1e-5
        )
        assert built_in.score([HARMFUL + CIVIL[2] * 9])[0]["harmful"] > built_in.score([CIVIL[2] * 9])[0]["harmful"]

    def test_nothing_is_scored_nothing(self, built_in):
        assert built_in.score([]) == []

    def test_it_says_what_it_is(self, built_in):
        assert built_in.labels == ("toxicity", "harmful")
        assert built_in.thresholds.keys() == {"toxicity", "harmful"}
        assert (BUILT_IN / "MODEL_CARD.md").read_text(encoding="utf-8").startswith("# The guard's built-in classifier")


class TestHuggingFace:
    def test_of_labels_that_exclude_each_other_the_scores_sum_up_to_one(self, folder):
        classifier = Classifier.load(folder)
        assert classifier.score(["good", "bad bad", "good bad", "strange"]) == [
            pytest.approx({"fine": 1 / (1 + np.exp(-4)), "foul": 1 / (1 + np.exp(4))}),
            pytest.approx({"fine": 1 / (1 + np.exp(4)), "foul": 1 / (1 + np.exp(-4))}),
            pytest.approx({"fine": 0.5, "foul": 0.5}),
            pytest.approx({"fine": 0.5, "foul": 0.5}),
        ]

    def test_of_labels_that_do_not_each_has_its_own(self, folder):
        amend(folder, problem_type="multi_label_classification")
        assert Classifier.load(folder).score(["bad"]) == [
            pytest.approx({"fine": 1 / (1 + np.exp(2)), "foul": 1 / (1 + np.exp(-2))})
        ]

    def test_padding_does_not_count(self, folder):
        classifier = Classifier.load(folder)
        texts = ["good", "bad " * 40, "good good bad"]
        assert classifier.score(texts) == [pytest.approx(classifier.score([text])[0]) for text in texts]

    def test_a_long_text_is_cut_to_what_the_model_takes(self, folder):
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 2}', encoding="utf-8")
        assert Classifier.load(folder).score(["good bad bad bad"])[0] == pytest.approx({"fine": 0.5, "foul": 0.5})

    def test_one_label_has_a_chance_of_its_own(self, folder):
        amend(folder, id2label={"0": "foul"})
        save_model(folder / "onnx" / "model.onnx", LOGITS[:, 1:])
        assert Classifier.load(folder).score(["bad"])[0] == pytest.approx({"foul": 1 / (1 + np.exp(-2))})

    def test_without_the_extra_it_is_named(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[hf\]'"):
            Classifier.load(folder)


class TestBroken:
    @pytest.mark.parametrize(
        ("name", "fix"),
        [
            ("config.json", "is missing; a model's folder has one"),
            ("tokenizer.json", "is missing; export the model with its fast tokenizer"),
            ("onnx/model.onnx", r"model\.onnx.* is missing; put the ONNX model there, or into onnx/"),
        ],
    )
    def test_a_missing_file_is_named(self, folder, name, fix):
        (folder / name).unlink()
        with pytest.raises(ModelError, match=fix):
            Classifier.load(folder)

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
    def test_a_file_that_cannot_be_read_is_named(self, folder, name):
        (folder / name).write_bytes(b"\xff{")
        with pytest.raises(ModelError, match=rf"{name}.*(export it again|export the model again)"):
            Classifier.load(folder)

    def test_labels_with_a_gap(self, folder):
        amend(folder, id2label={"0": "fine", "2": "foul"})
        with pytest.raises(ModelError, match="id2label: has no '1'; number its labels from 0"):
            Classifier.load(folder)

    def test_labels_of_another_model(self, folder):
        amend(folder, id2label={"0": "a", "1": "b", "2": "c"})
        with pytest.raises(ModelError, match=r"names 3 labels, .*'logits' has shape .*; both must come from one model"):
            Classifier.load(folder)

    def test_no_labels(self, folder):
        (folder / "config.json").write_text("{}", encoding="utf-8")
        with pytest.raises(ModelError, match="id2label"):
            Classifier.load(folder)

    def test_inputs_that_are_no_tokens(self, folder):
        save_model(folder / "onnx" / "model.onnx", inputs=("pixel_values", "attention_mask"))
        with pytest.raises(ModelError, match="asks for 'pixel_values'; export it for the task text-classification"):
            Classifier.load(folder)

    def test_a_built_in_model_of_other_features(self, tmp_path):
        config = json.loads((BUILT_IN / "config.json").read_text(encoding="utf-8"))
        config["features"]["version"] = 0
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(ModelError, match=r"features: trained on .*; train it anew with `make models DATA=DIR`"):
            Classifier.load(tmp_path)
