"""Text classifiers in ONNX: many texts in, a score of 0 to 1 for each label out, in one batch.

A folder is either built by `make models` (connectors/models/guard is) or any text classifier of Hugging Face exported
to ONNX. Which of the two its config.json tells. Sessions have one thread: a stage has one core, and batches fill it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime

from processors.errors import Invalid, convert
from processors.guard.features import PARAMETERS, Features

BUILT_IN = Path(__file__).parent / "models" / "guard"
"""The model that comes with us: heads `toxicity` and `harmful`; its MODEL_CARD.md says how good they are."""

_WINDOW, _STRIDE = 1000, 500
"""Characters, for a foreign model, which was not trained on growing texts: 250 to 350 of its at most 512 tokens."""
_MOST_TOKENS = 512
_ID = np.dtype(np.int32)
"""A bucket's number, as the built-in model takes it."""
_DTYPES: dict[str, type[np.signedinteger[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

Floats = npt.NDArray[np.floating[Any]]
Inputs = dict[str, npt.NDArray[Any]]


class ModelError(Invalid):
    """A model folder that cannot be served. Shown as `FILE: fix`, or `FILE: entry: fix`."""


class BuiltIn(msgspec.Struct, frozen=True):
    """The config.json of a folder of ours."""

    labels: tuple[str, ...]
    windows: dict[str, int]
    """By label how many characters of a text's end it looks at."""
    pieces: dict[str, tuple[int, int]]
    """By label characters of the shortest and the longest pieces of words."""
    stride: int
    thresholds: dict[str, float]
    version: str


class HuggingFace(msgspec.Struct, frozen=True):
    """What we need of the config.json of a foreign folder."""

    id2label: dict[str, str]
    problem_type: str | None = None
    pad_token_id: int | None = None


class _TokenizerConfig(msgspec.Struct, frozen=True):
    model_max_length: float = float(_MOST_TOKENS)


class Classifier:
    """A loaded model.

    `window` and `stride` are characters: how much of a growing text's end to score, and after how many more to score it
    again; every label looks at the last `looks_at` of it. `thresholds` are by label what is to be exceeded; empty where
    the folder names none.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        config: BuiltIn,
        encode: Callable[[Sequence[str]], Inputs],
        scores: Callable[[Floats], Floats],
        output: str,
    ) -> None:
        """See `load`."""
        self.labels = config.labels
        self.window, self.stride = max(config.windows.values()), config.stride
        self.looks_at = min(config.windows.values())
        self.thresholds = config.thresholds
        self.version = config.version
        self._session = session
        self._encode = encode
        self._scores = scores
        self._output = output

    @classmethod
    def load(cls, folder: str | Path) -> "Classifier":
        """The model in `folder`: config.json and model.onnx (or onnx/model.onnx); of a foreign one tokenizer.json too.

        Raises:
            ModelError: a file is missing, cannot be read, or does not fit the others; it names the file and the fix.
            ModuleNotFoundError: a foreign model, and the extra `hf` is not installed.
        """
        folder = Path(folder)
        path = folder / "config.json"
        config = _decode(path, dict[str, Any])
        if "features" in config:
            return cls._built_in(folder, _ours(path, config))
        return cls._hugging_face(folder, _convert(path, config, HuggingFace))

    @classmethod
    def _built_in(cls, folder: Path, config: BuiltIn) -> "Classifier":
        session = _session(_model_file(folder))
        output = _checked_output(session, folder, len(config.labels))
        encode = partial(_buckets, Features(config.pieces), config.windows)
        return cls(session, config, encode, _as_they_are, output)

    @classmethod
    def _hugging_face(cls, folder: Path, config: HuggingFace) -> "Classifier":
        labels = _labels(folder / "config.json", config.id2label)
        session = _session(_model_file(folder))
        output = _checked_output(session, folder, len(labels))
        several = config.problem_type == "multi_label_classification" or len(labels) == 1
        return cls(
            session,
            BuiltIn(labels, dict.fromkeys(labels, _WINDOW), {}, _STRIDE, {}, folder.name),
            _tokens(folder, config, session),
            _sigmoid if several else _softmax,
            output,
        )

    def score(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text a score of 0 to 1 by label, whatever stands beside it in the batch."""
        if not texts:
            return []
        (raw,) = self._session.run([self._output], self._encode(texts))
        return [dict(zip(self.labels, row, strict=True)) for row in self._scores(raw).astype(float).tolist()]


def _buckets(features: Features, windows: Mapping[str, int], texts: Sequence[str]) -> Inputs:
    """For each label the buckets of its window, in order of size, padded with 0.

    numpy lets Python's lock go in most of its calls, and beside a busy thread each time costs this one some 120 µs of
    CPU; so there is one call for all texts, and the model itself passes over what comes twice.
    """
    inputs: Inputs = {}
    for label, window in windows.items():
        rows = [features.buckets(text[-window:], label) for text in texts]
        width = max(_ID.itemsize, *map(len, rows))
        padded = bytearray().join([row.ljust(width, b"\0") for row in rows])
        inputs[label] = ids = np.frombuffer(padded, _ID).reshape(len(rows), -1)
        ids.sort(axis=1)
    return inputs


def _tokens(
    folder: Path, config: HuggingFace, session: onnxruntime.InferenceSession
) -> Callable[[Sequence[str]], Inputs]:
    """How texts become the inputs that the model asks for."""
    try:
        from tokenizers import Tokenizer  # an extra, so only where it is needed
    except ModuleNotFoundError as error:
        message = f"{folder} needs the library tokenizers: from the checkout, pip install '.[hf]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    path = _present(folder / "tokenizer.json", "export the model with its fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises no class of its own
        raise ModelError(str(path), f"is no tokenizer ({error}); export it again") from None
    padding = config.pad_token_id or 0
    tokenizer.enable_padding(pad_id=padding, pad_token=tokenizer.id_to_token(padding) or "[PAD]")
    tokenizer.enable_truncation(_most_tokens(folder))
    wanted = {one.name: _DTYPES.get(one.type) for one in session.get_inputs()}
    for name, dtype in wanted.items():
        if name not in ("input_ids", "attention_mask", "token_type_ids") or dtype is None:
            raise ModelError(
                str(_model_file(folder)),
                f"asks for {name!r}; export it for the task text-classification, whose inputs are token numbers",
            )

    def encode(texts: Sequence[str]) -> Inputs:
        encodings = tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [one.ids for one in encodings],
            "attention_mask": [one.attention_mask for one in encodings],
            "token_type_ids": [one.type_ids for one in encodings],
        }
        return {name: np.asarray(columns[name], dtype) for name, dtype in wanted.items()}

    return encode


def _most_tokens(folder: Path) -> int:
    """Tokens a model takes. Its config's max_position_embeddings misleads, RoBERTa's 514 being 512 tokens."""
    path = folder / "tokenizer_config.json"
    named = _decode(path, _TokenizerConfig) if path.exists() else _TokenizerConfig()
    return int(min(named.model_max_length, _MOST_TOKENS))


def labels_of(folder: str | Path) -> dict[str, int]:
    """By label of the model in `folder` how many characters of a text's end it looks at, told by its config.json alone.

    Raises:
        ModelError: it cannot be read.
    """
    path = Path(folder) / "config.json"
    config = _decode(path, dict[str, Any])
    if "features" in config:
        return _ours(path, config).windows
    return dict.fromkeys(_labels(path, _convert(path, config, HuggingFace).id2label), _WINDOW)


def _ours(path: Path, config: dict[str, Any]) -> BuiltIn:
    trained_on = config["features"]
    if trained_on != PARAMETERS:
        fix = "train it anew with `make models DATA=DIR`"
        raise ModelError(str(path), f"features: trained on {trained_on}, and this version computes {PARAMETERS}; {fix}")
    found: BuiltIn = _convert(path, config, BuiltIn)
    return found


def _labels(path: Path, id2label: dict[str, str]) -> tuple[str, ...]:
    try:
        return tuple(id2label[str(number)] for number in range(len(id2label)))
    except KeyError as error:
        raise ModelError(str(path), f"id2label: has no {error}; number its labels from 0 without a gap") from None


def _model_file(folder: Path) -> Path:
    inner = folder / "onnx" / "model.onnx"
    return inner if inner.exists() else _present(folder / "model.onnx", "put the ONNX model there, or into onnx/")


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what it warns of, a served model's user cannot mend
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class per cause, none of them public
        raise ModelError(str(path), f"cannot be loaded ({str(error).strip()}); export it again") from None


def _checked_output(session: onnxruntime.InferenceSession, folder: Path, labels: int) -> str:
    """The name of the output that holds a score for each label."""
    outputs = {one.name: one.shape for one in session.get_outputs()}
    name = "logits" if "logits" in outputs else next(iter(outputs))
    shape = outputs[name]
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != labels):
        raise ModelError(
            str(folder / "config.json"),
            f"names {labels} labels, and the model's output {name!r} has shape {shape}; both must come from one model",
        )
    return name


def _present(path: Path, fix: str) -> Path:
    if not path.is_file():
        raise ModelError(str(path), f"is missing; {fix}")
    return path


def _decode(path: Path, kind: Any) -> Any:
    data = _present(path, "a model's folder has one").read_bytes()
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(str(path), f"cannot be read ({error}); export the model again") from None


def _convert(path: Path, data: Any, kind: Any) -> Any:
    try:
        return convert(data, kind)
    except Invalid as error:
        raise ModelError(str(path), str(error)) from None


def _as_they_are(scores: Floats) -> Floats:
    return scores


def _sigmoid(logits: Floats) -> Floats:
    """Half a tangent, which cannot overflow."""
    halves: Floats = (1 + np.tanh(logits.astype(np.float64) / 2)) / 2
    return halves


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares
