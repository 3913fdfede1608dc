"""The section `moderator` of a policy: a chat model that is asked for a second opinion, and what its word leads to."""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec

from processors.errors import Invalid
from processors.guard.regex import PatternError
from processors.guard.regex import check as check_pattern

TEXT = "{text}"
"""Stands in the template for the answer so far."""


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of the conversation that a moderator is shown."""

    role: Literal["system", "user", "assistant"]
    content: str


class Moderator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A chat model behind an OpenAI-compatible endpoint. Nobody waits for it but the end of an answer."""

    provider: str
    """A name under `providers`."""
    model: str
    template: str | tuple[Turn, ...] = TEXT
    """A user message, or a conversation. Models that judge the last speaker (Llama Guard 3, Qwen3Guard) want the answer
    in an assistant message after a user message."""
    ask: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] = {}
    """By label of the classifier the score above which it is asked. Without labels it never is."""
    window_chars: Annotated[int, msgspec.Meta(gt=0, le=16384)] = 4000
    """The end of a growing answer that it is shown."""
    every_chars: Annotated[int, msgspec.Meta(gt=0)] = 1000
    """It is asked again only after so many more characters."""
    max_questions: Annotated[int, msgspec.Meta(gt=0)] = 3
    """Of one request."""
    unsafe: str = r"(?i)\bunsafe\b"
    """What stands in its answer if the text is unsafe: the dialect of processors.guard.regex. Counts before `safe`."""
    safe: str = r"(?i)\bsafe\b"
    """What stands in its answer if the text is safe. With neither it is as good as silent."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """From the score that led to the question until it counts as silent."""
    silent: Literal["allow", "flag", "stop"] = "allow"
    """What is done where it gives no answer in time, or none that can be read."""
    action: Literal["flag", "stop"] = "stop"
    """What is done where it says unsafe."""
    severity: Annotated[int, msgspec.Meta(ge=0, le=10)] = 5
    category: str = "unsafe"

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The conversation, with `{text}` where the answer so far is to stand."""
        return (Turn("user", self.template),) if isinstance(self.template, str) else self.template


def check_moderator(moderator: Moderator, providers: Collection[str], path: str) -> None:
    """Whether it can be asked and understood.

    Raises:
        Invalid: with the path below `path` of the entry at fault.
    """
    if moderator.provider not in providers:
        known = ", ".join(sorted(providers)) or "none"
        raise Invalid(f"{path}.provider", f"{moderator.provider!r} is not declared under providers ({known})")
    if not moderator.model:
        raise Invalid(f"{path}.model", "is empty; name the model to ask")
    if not any(TEXT in turn.content for turn in moderator.turns):
        raise Invalid(f"{path}.template", f"must hold {TEXT}, where the answer so far is to stand")
    for field in ("unsafe", "safe"):
        try:
            check_pattern(getattr(moderator, field))
        except PatternError as error:
            raise Invalid(f"{path}.{field}", str(error)) from None
