"""Requests to a provider that misbehaves in every way it can, drawn from a seed, and how each of them may end."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple

from connectors.simulated.texts import STORY

FIRST_TOKEN_S = BETWEEN_TOKENS_S = 1.5
"""As in `provider.yaml`."""
OVERDUE_S = 1.5
WORDS = ("river ", "lock ", "boat ", "gate ", "salt ", "barley ", "paper ", "lamp ", "rain ", "morning ", "evening ")
NUMBERS = "".join(f"{number} " for number in range(1, 2000))
"""As much of an endless answer as any limit lets through."""

Client = Literal["stream", "whole", "kafka"]
"""Chat completions streamed or whole, or a request published to Kafka and read as server-sent events."""


class Ending(NamedTuple):
    """How a stream ends, and how HTTP tells that where it can still choose its status."""

    status: str
    reason: str
    http: int


COMPLETED = Ending("completed", "stop", 200)
LIMITED = Ending("stopped", "token_limit", 200)
INTERRUPTED = Ending("failed", "interrupted", 502)


def failed(http: int, *reasons: str) -> frozenset[Ending]:
    """The ends as `failed` for one of these reasons."""
    return frozenset(Ending("failed", reason, http) for reason in reasons)


Options = dict[str, Any]


def scripted(random: Random, deltas: int, **options: Any) -> Options:
    """The fault comes instead of an answer, or has no moment of its own."""
    return options


def after(random: Random, deltas: int, **options: Any) -> Options:
    """The fault comes after some of the deltas: none, some or all but the last."""
    return options | {"after": random.choice([0, random.randrange(deltas), deltas - 1])}


def one_of(random: Random, deltas: int, **choices: Any) -> Options:
    """One of each option's values."""
    return {name: random.choice(values) for name, values in choices.items()}


def either(random: Random, deltas: int, **options: Any) -> Options:
    """In place of an answer, or after some of the deltas."""
    return random.choice([scripted, after])(random, deltas, **{"after": -1} | options)


@dataclass(frozen=True)
class Kind:
    """A way to answer. `ends`: the right ends where nothing was released and no other candidate is left; after text,
    a kind that `breaks` ends as interrupted. `within_s`: what the provider's behaviour costs by itself."""

    options: Callable[[Random, int], Options]
    ends: frozenset[Ending]
    breaks: bool = False
    within_s: float = 0.0
    route: str = "script"
    asks: dict[str, Any] = field(default_factory=dict)
    leaves: bool = False


_gone = frozenset({Ending("cancelled", "reader_gone", 0)})

KINDS = {
    "good": Kind(scripted, frozenset({COMPLETED})),
    "refuses": Kind(scripted, failed(502, "connect"), route="refusing"),
    "closes first": Kind(partial(scripted, fault="close", after=-1), failed(502, "connect")),
    "resets first": Kind(partial(scripted, fault="reset", after=-1), failed(502, "connect")),
    "resets": Kind(partial(after, fault="reset"), failed(502, "truncated", "connect"), breaks=True),
    "closes": Kind(partial(after, fault="close"), failed(502, "truncated"), breaks=True),
    "torn": Kind(partial(after, fault="torn"), failed(502, "truncated"), breaks=True),
    "unfinished": Kind(partial(after, fault="no-finish"), failed(502, "truncated"), breaks=True),
    "hangs first": Kind(
        partial(scripted, fault="hang", after=-1), failed(504, "timeout_first_token"), within_s=FIRST_TOKEN_S
    ),
    "hangs": Kind(
        partial(after, fault="hang"),
        failed(504, "timeout_first_token", "timeout_between_tokens"),
        breaks=True,
        within_s=BETWEEN_TOKENS_S,
    ),
    "trickles": Kind(partial(one_of, cut=[1, 2, 7]), frozenset({COMPLETED}), within_s=1.0),
    "drips": Kind(  # a byte each 20 ms: not one token in time
        partial(scripted, cut=1, gap_ms=20), failed(504, "timeout_first_token"), within_s=FIRST_TOKEN_S
    ),
    "too many": Kind(partial(one_of, status=[429], retry_after=[0, 1, 30]), failed(503, "rate_limited")),
    "fails": Kind(partial(one_of, status=[500, 502, 503, 504, 529]), failed(502, "provider_error")),
    "html": Kind(partial(scripted, fault="html", after=-1), failed(502, "bad_response")),
    "malformed": Kind(partial(after, fault="malformed"), failed(502, "bad_response"), breaks=True),
    "error inside": Kind(partial(after, fault="error"), failed(502, "provider_error"), breaks=True),
    "no done": Kind(partial(scripted, fault="no-done"), frozenset({COMPLETED})),
    "no newline": Kind(partial(either, fault="garbage", mb=100), failed(502, "bad_response"), breaks=True),
    "no newline, a brace": Kind(
        partial(scripted, fault="garbage", after=-1, mb=100, char="{"), failed(502, "bad_response")
    ),
    "endless": Kind(scripted, frozenset({LIMITED}), within_s=2.0, route="endless"),
    "endless at once": Kind(scripted, frozenset({LIMITED}), route="endless-at-once"),
    "overdue": Kind(
        scripted,
        failed(504, "timeout_total", "timeout"),
        within_s=OVERDUE_S,
        route="endless-slow",
        asks={"deadline_s": OVERDUE_S},
    ),
    "endless, its reader leaves": Kind(scripted, _gone, route="endless-slow", leaves=True),
    "hangs, its reader leaves": Kind(  # on a busy machine the time-out may stand first
        partial(scripted, fault="hang", after=-1), _gone | failed(504, "timeout_first_token"), leaves=True
    ),
}
TWO = frozenset(name for name, kind in KINDS.items() if kind.route in ("script", "refusing") and not kind.leaves)
"""The kinds that are also asked of two candidates, of which the second is good."""


@dataclass(frozen=True)
class Case:
    """One request. `said` is all that its first provider would say."""

    tag: str
    kind: str
    client: Client
    two: bool
    options: Options
    said: str

    @property
    def model(self) -> str:
        return KINDS[self.kind].route + ("-or-story" if self.two else "")

    @property
    def body(self) -> dict[str, Any]:
        """The request; its tag goes with it to its decision and its end."""
        content = json.dumps({"simulate": self.options}) if "script" in self.model else "hi"
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "user": self.tag} | KINDS[self.kind].asks

    def right(self, text: str) -> frozenset[Ending]:
        """The right ends of a stream that released `text`."""
        kind = KINDS[self.kind]
        fails = any(ending.status == "failed" for ending in kind.ends)
        if self.two and fails and text == STORY:
            return frozenset({COMPLETED})
        if kind.breaks and text:
            return frozenset({INTERRUPTED})
        return frozenset() if self.two and fails else kind.ends

    def says(self, text: str, status: str) -> bool:
        """Whether `text` is what a provider said: all of it where the answer is complete, else a beginning."""
        if status == "completed":
            return text == (STORY if self.two and text == STORY else self.said)
        return self.said.startswith(text)


def draw(seed: int, count: int) -> list[tuple[Case, Case]]:
    """`count` faults, every kind in turn and all else by chance, each with the good request that follows it."""
    random = Random(seed)
    names = [name for name in KINDS if name != "good"]
    kinds = [names[number % len(names)] for number in range(count)]
    random.shuffle(kinds)
    return [(_case(random, f"{n}", kind), _case(random, f"{n}-next", "good")) for n, kind in enumerate(kinds)]


def _case(random: Random, tag: str, name: str) -> Case:
    kind = KINDS[name]
    deltas = [random.choice(WORDS) for _ in range(random.randrange(2, 30))]
    options = kind.options(random, len(deltas))
    options = {"deltas": deltas} | options
    said = NUMBERS if kind.route.startswith("endless") else "".join(deltas)
    clients: list[Client] = ["stream"] if kind.leaves else ["stream", "whole", "kafka"]
    two = name in TWO and name != "good" and random.random() < 0.5
    return Case(tag, name, random.choice(clients), two, options, said)
