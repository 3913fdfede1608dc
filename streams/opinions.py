"""Asking moderators for second opinions: beside the guard's loop, which waits for none of them.

A thread with an event loop of its own makes the calls. What comes of them the guard takes from `answers` and writes to
the journal; a question that gets no answer here is answered by the guard itself, when its time is over.
"""

import asyncio
import logging
import os
import time
from contextlib import aclosing
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from processors.events import Opinion, RunError
from processors.guard.moderator import Moderator
from processors.guard.opinion import MOST_CHARS, Question, opinion_on, request_of
from processors.policy import Provider, Timeouts

if TYPE_CHECKING:
    from connectors.providers import ProviderClient

log = logging.getLogger(__name__)

MOST_AT_ONCE = 32
"""Calls under way; a question that waits longer than its time is not asked any more."""
CLOSE_S = 2.0


class Asker:
    """Starts nothing before the first question. One thread asks and takes the answers."""

    def __init__(self, simulated: str) -> None:
        """`simulated` is the address of the simulated provider, if there is one."""
        self.answers: SimpleQueue[Opinion] = SimpleQueue()
        """What has come and was not taken yet."""
        self._simulated = simulated
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._client: ProviderClient | None = None
        self._failing: set[tuple[str, str]] = set()

    def ask(self, question: Question, moderator: Moderator, provider: Provider) -> None:
        """Have a question answered. Returns at once."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = Thread(target=self._loop.run_forever, name="opinions", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, question, moderator, provider)

    def take(self) -> list[Opinion]:
        """What has come since, for the journal."""
        return [self.answers.get_nowait() for _ in range(self.answers.qsize())]

    def close(self) -> None:
        """Break off every call; their questions stay open, for a successor or for the guard's own word."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).add_done_callback(self._stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _begin(self, question: Question, moderator: Moderator, provider: Provider) -> None:
        call = asyncio.create_task(self._ask(question, moderator, provider))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _end(self) -> None:
        calls = [*self._calls]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _stop(self, _: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _ask(self, question: Question, moderator: Moderator, provider: Provider) -> None:
        async with self._room:
            left_s = question.due_ms / 1000 - time.time()
            if left_s <= 0:
                return
            try:
                answer, error = await self._call(question, moderator, provider, left_s)
            except Exception as failed:  # one question's trouble, and no reason to answer no other
                log.exception("question on %s failed", question.id)
                answer, error = "", RunError("provider_error", type(failed).__name__)
        opinion = opinion_on(question, moderator, None if error else answer)
        if error is None and opinion.verdict == "silent":
            error = RunError("bad_response", "its answer is neither `unsafe` nor `safe` to the policy's patterns")
        self._tell(moderator, error)
        self.answers.put(opinion)

    async def _call(
        self, question: Question, moderator: Moderator, provider: Provider, left_s: float
    ) -> tuple[str, RunError | None]:
        from connectors.providers import CallEnded, ProviderClient  # some 15 MB that most guards do without

        if self._client is None:
            self._client = ProviderClient(limit=MOST_AT_ONCE)
        call = self._client.call(
            provider,
            provider.url(self._simulated),
            os.environ.get(provider.api_key_env) if provider.api_key_env else None,
            request_of(moderator, question.text),
            moderator.model,
            None,
            Timeouts(connect_s=left_s, first_token_s=left_s, between_tokens_s=left_s),
            left_s,
            request_id=f"opinion-{question.run}-{question.at}",
        )
        said = ""
        async with aclosing(call) as items:
            async for item in items:
                if isinstance(item, CallEnded):
                    return said, item.error
                said += "".join(part.text for part in item if part.kind == "content")
                if len(said) >= MOST_CHARS:  # no more of it is read, and it may never end
                    return said, None
        raise AssertionError("a call ends with CallEnded")

    def _tell(self, moderator: Moderator, error: RunError | None) -> None:
        """Log the first of a row of failures, and their end. An error's message holds no secret."""
        name = (moderator.provider, moderator.model)
        if error is not None and name not in self._failing:
            self._failing.add(name)
            log.warning("moderator %s of %s is silent: %s: %s", name[1], name[0], error.kind, error.message)
        elif error is None and name in self._failing:
            self._failing.discard(name)
            log.info("moderator %s of %s answers again", name[1], name[0])
