"""What a wire format has to offer, and the formats there are. A new one is a module and an entry here."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from processors.dispatch import openai
from processors.dispatch.openai import HttpRequest, Progress
from processors.events import AnswerPart, RunError
from processors.sse import Event


class Wire(Protocol):
    """A module with these three functions."""

    def make_request(
        self, request: Mapping[str, Any], model: str, *, api_key: str | None, max_tokens: int | None
    ) -> HttpRequest: ...

    def read_event(self, progress: Progress, event: Event) -> list[AnswerPart]: ...

    def read_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, secrets: tuple[str, ...]
    ) -> RunError: ...


WIRES: dict[str, Wire] = {"openai": openai}
"""By a provider's `kind`."""
