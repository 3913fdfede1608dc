"""What the built-in classifier learns from: texts of several sources, and what each head is told of them.

The files are listed in docs/data.md. A head learns nothing from a row whose label for it is None.
"""

import hashlib
import html
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HEADS = ("toxicity", "harmful")
OPENRAIL = "toxic_text_ru.openrail.jsonl"
"""RUSSE 2022, under a licence with restrictions of use; the only file that can be left out."""
FILES = (
    "harmful_responses.jsonl", "toxic_text_ru.jsonl", OPENRAIL, "toxic_text_en.jsonl", "benign_prompts.jsonl",
    "chat_requests.jsonl", "qa_tasks.jsonl", "routing.jsonl", "hard_negative_pairs.jsonl", "harmful_requests.jsonl",
    "lexicons/ldnoobw_en.txt",
)  # fmt: skip
_WRITTEN = {"en": Path(__file__).parent / "written_en.txt", "ru": Path(__file__).parent / "written_ru.txt"}
_KINDS = ("safe", "refusals", "topics", "harmful", "frames", "insults", "kind words",
          "exclamation frames", "swearing", "exclamations")  # fmt: skip
_SAID = (
    ("insults", "frames", True), ("kind words", "frames", False),
    ("swearing", "exclamation frames", True), ("exclamations", "exclamation frames", False),
)  # fmt: skip
_MOST_CLEAN = 1500
"""Rows taken of a source that only says what is clean, so that none outweighs the labelled ones."""

_ADDRESSES = re.compile(r"\[user\]|<url>|@\w+|https?://\S+|\bRT\b")
_SPEAKER = re.compile(
    r"(^|\n)\s*[\[(*\"]*(?:🔒|🔓|😈|💻|🤓|[A-Za-zΑ-Ωα-ω][\w.\-#]{0,20}(?: [\w.\-#]{1,12}){0,2})[\])*\"]*\s?:"
)
_PERSONA = re.compile(r"(?:^|\n)\s*[\[(*\"]*([A-Za-zΑ-Ωα-ω🔒🔓😈][\w .\-#🔒🔓]{0,28}?)[\])*\"]*\s?:|(^[^\w\s\"'\[(*]+)")
_NO_PERSONA = ("chatgpt", "gpt", "🔒", "disclaimer", "warning")


class Row(NamedTuple):
    """One text. `group` keeps together what belongs to one question; `template` what one jailbreak made write."""

    text: str
    source: str
    language: str
    group: str
    template: str = ""
    toxicity: bool | None = None
    harmful: bool | None = None

    def label(self, head: str) -> bool | None:
        """What the head of this name is told of the text."""
        label: bool | None = getattr(self, head)
        return label


def read(folder: Path, seed: int, openrail: bool = True) -> list[Row]:
    """All rows, in an order that only depends on the files and the seed.

    Raises:
        FileNotFoundError: naming the file that `folder` lacks.
    """
    clean = random.Random(seed)  # noqa: S311 (a sample, no secret)
    obscene = _lexicon(folder)
    rows = [_answer(item, obscene) for item in _items(folder, "harmful_responses.jsonl")]
    for name in ("toxic_text_ru.jsonl", "toxic_text_en.jsonl", *([OPENRAIL] if openrail else [])):
        rows += [_comment(item) for item in _items(folder, name)]
    for name in ("benign_prompts.jsonl", "chat_requests.jsonl", "qa_tasks.jsonl", "routing.jsonl"):
        rows += _sample((_clean(item, _whole(item)) for item in _items(folder, name)), clean)
    news = [
        _clean(item, item[key]) for item in _items(folder, "hard_negative_pairs.jsonl") for key in ("text", "text_b")
    ]
    rows += _sample((row for row in news if row.language == "ru"), clean)
    questions = [item["text"] for item in _items(folder, "harmful_requests.jsonl")]
    rows += [Row(text, "harmful_requests", "en", text, toxicity=False) for text in questions]
    for language, path in _WRITTEN.items():
        rows += written(path, language)
    return [row for row in rows if row.text.strip()]


def checksums(folder: Path, openrail: bool = True) -> dict[str, str]:
    """By file that is read its SHA-256."""
    names = [name for name in FILES if openrail or name != OPENRAIL]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def written(path: Path, language: str) -> list[Row]:
    """The texts written for this project: harmless and harmful answers, and refusals filled with each topic."""
    kinds: dict[str, list[str]] = {name: [] for name in _KINDS}
    kind = ""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        if block.startswith("== "):
            kind = block[3:].strip()
        elif kind:
            kinds[kind].append(block.strip())
    refusals = [text.replace("{topic}", topic) for text in kinds["refusals"] for topic in kinds["topics"]]
    texts = [(text, False) for text in kinds["safe"] + sorted(set(refusals))]
    texts += [(text, True) for text in kinds["harmful"]]
    rows = [
        Row(
            text,
            "written",
            language,
            f"written {language} {number}",
            toxicity=None if harmful else False,
            harmful=harmful,
        )
        for number, (text, harmful) in enumerate(texts)
    ]
    for kind, frames, toxic in _SAID:
        for word in kinds[kind]:
            said = [word, *(frame.replace("{word}", word) for frame in kinds[frames])]
            rows += [Row(text, "toxic_written", language, f"{kind} {word}", toxicity=toxic) for text in said]
    return rows


def _answer(item: dict[str, Any], obscene: re.Pattern[str]) -> Row:
    """An answer to a jailbreak. Who speaks is left out: names of personas tell the jailbreak, not the answer."""
    text, harmful = item["text"], item["label"] == "harmful"
    toxicity = None if harmful or obscene.search(text) else False
    group = f"question {item['meta']['question_id']}"
    return Row(_SPEAKER.sub(r"\1", text), "harmful_responses", "en", group, persona(text), toxicity, harmful)


def persona(answer: str) -> str:
    """Who an answer says is speaking: as near to its jailbreak template as the data goes, which does not name it."""
    names = [(match[1] or match[2]).strip().lower() for match in _PERSONA.finditer(answer)]
    return next((name for name in names if name not in _NO_PERSONA), names[0] if names else "none")


def _comment(item: dict[str, Any]) -> Row:
    toxic = item["label"] == "toxic"
    source = {"ru": "toxic_text_ru", "en": "toxic_text_en"}[item["lang"]]
    if item["source"].startswith("s-nlp/"):
        source = "toxic_text_ru.openrail"
    text = _ADDRESSES.sub(" ", html.unescape(item["text"])).strip(" ,:")
    return Row(text, source, item["lang"], item["id"], toxicity=toxic, harmful=None if toxic else False)


def _clean(item: dict[str, Any], text: str) -> Row:
    name = item["id"].split("-")[1]
    return Row(text, name, item["lang"], item["id"], toxicity=False, harmful=False)


def _whole(item: dict[str, Any]) -> str:
    """A task with its solution, where there is one."""
    return "\n".join(filter(None, (item["text"], item["meta"].get("solution"))))


def _sample(rows: Iterable[Row], clean: random.Random) -> list[Row]:
    found = list(rows)
    return clean.sample(found, min(len(found), _MOST_CLEAN))


def _items(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    with (folder / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _lexicon(folder: Path) -> re.Pattern[str]:
    words = (folder / "lexicons" / "ldnoobw_en.txt").read_text(encoding="utf-8").split("\n")
    return re.compile(r"\b(?:" + "|".join(re.escape(word) for word in words if word.strip()) + r")\b", re.IGNORECASE)
