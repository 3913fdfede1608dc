"""What the load asks for: scripted answers, varying from a seed, and what of each a reader may see.

`moderated` says it without the product's own code: a plain search over the whole text.
"""

import json
import random
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, Literal

How = Literal["ws", "kafka", "http", "whole"]
"""Submitted and read by WebSocket (later by either), published to Kafka and followed (by either), plain HTTP."""
HOWS: tuple[How, ...] = ("ws", "ws", "ws", "kafka", "kafka", "kafka", "http", "whole")

BLOCKED = re.compile(r"\b(project\W+nightfall|проект\W+полночь)\b", re.IGNORECASE)
MAX_TOKENS, EN_CHARS, RU_CHARS = 300, 4, 3
"""As in policy.yaml."""

WORDS = {
    "en": ("river", "lock", "gate", "barge", "keeper", "salt", "lamp", "rain", "evening", "grey", "honest", "water"),
    "ru": ("вода", "шлюз", "баржа", "соль", "ячмень", "лодка", "лист", "дождь", "ухо", "ворота", "вечер", "чистый"),
}
"""None begins as a blocked phrase does, or with a letter that looks so (р for p): nothing is held at a limit."""
NEARLY = {
    "en": ["project night", "project nightfalls", "projects nightfall", "nightfall project", "project"],
    "ru": ["проект полночный", "проекты полночь", "полночь проект", "проект"],
}
"""Held back for a while, and released."""
FORBIDDEN = {
    "en": ["project nightfall", "Project  Nightfall", "PROJECT-NIGHTFALL"],
    "ru": ["проект полночь", "Проект «Полночь", "ПРОЕКТ\nПОЛНОЧЬ"],
}
REPEATED = 6
"""Questions that are asked again and again, so that the cache may answer them."""


@dataclass(frozen=True)
class Asked:
    """One request: its answer as scripted, and how its client sends it and reads it."""

    key: str
    """Carried in the request's metadata, so that the log tells which script a request had."""
    how: How
    deltas: tuple[str, ...]
    first_ms: float
    pace_ms: float
    repeated: bool = False
    """Asked more than once, at temperature 0."""

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    def body(self) -> dict[str, Any]:
        """The body of a chat completion."""
        script = {"deltas": self.deltas, "first_ms": self.first_ms, "pace_ms": self.pace_ms}
        content = json.dumps({"simulate": script}, ensure_ascii=False)
        body = {"model": "script", "messages": [{"role": "user", "content": content}], "metadata": {"asked": self.key}}
        return body | ({"temperature": 0} if self.repeated else {})


def ask(
    dice: random.Random, key: str, seconds: tuple[float, float], hows: tuple[How, ...] = HOWS, repeated: float = 0.1
) -> Asked:
    """A request whose answer takes about so many seconds; `repeated` is the part of questions that come again."""
    how = dice.choice(hows)
    if dice.random() < repeated:
        number = dice.randrange(REPEATED)
        return _asked(random.Random(f"repeated {number}"), key, how, seconds, repeated=True)
    return _asked(dice, key, how, seconds)


def _asked(dice: random.Random, key: str, how: How, seconds: tuple[float, float], repeated: bool = False) -> Asked:
    language = dice.choice(("en", "ru"))
    kind = dice.choices(("plain", "nearly", "blocked", "long"), (5, 2, 2, 1))[0]
    words = dice.choices(WORDS[language], k=260 if kind == "long" else dice.randint(20, 110))
    if kind in ("nearly", "blocked"):
        phrases = NEARLY if kind == "nearly" else FORBIDDEN
        for _ in range(3 if kind == "nearly" else 1):
            words.insert(dice.randrange(len(words) + 1), dice.choice(phrases[language]))
    deltas = cut(dice, " ".join(words), 50 if kind == "long" else 30)
    pace_ms = dice.uniform(*seconds) * 1000 / len(deltas)
    return Asked(key, how, tuple(deltas), round(dice.uniform(0, 100), 1), round(pace_ms, 1), repeated)


def cut(dice: random.Random, text: str, longest: int) -> list[str]:
    """The text in pieces of 1 to `longest` characters, wherever the cuts fall."""
    pieces, at = [], 0
    while at < len(text):
        size = dice.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


@lru_cache(maxsize=4096)
def moderated(text: str) -> tuple[str, str, str]:
    """What of an answer may be read, and the status and reason of its end. No script has both a phrase and too much."""
    found = BLOCKED.search(text)
    if found:
        return text[: found.start()], "stopped", "content_filter"
    if tokens(text) <= MAX_TOKENS:
        return text, "completed", "stop"
    fits = bisect_right(range(len(text)), MAX_TOKENS, key=lambda length: tokens(text[:length])) - 1
    return text[:fits], "stopped", "token_limit"


def tokens(text: str) -> int:
    """Estimated as the policy says."""
    cyrillic = len(re.findall("[\u0400-\u04ff]", text))
    return ceil(cyrillic / RU_CHARS + (len(text) - cyrillic) / EN_CHARS)
