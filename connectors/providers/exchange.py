"""One HTTP exchange with a provider: sending, reading, and how it ends."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from io import BytesIO
from ssl import SSLContext, SSLError
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from connectors.providers.answer import AnswerReader
from connectors.providers.deadlines import Deadlines
from connectors.providers.wire import Wire
from processors.dispatch.openai import Progress
from processors.events import AnswerPart, RunError, Usage
from processors.policy import Timeouts

DRAIN_S = 0.05
"""How long, after `[DONE]`, the end of the HTTP answer is waited for, so that its connection can be used again."""
ERROR_BODY_S = 2.0
MAX_ERROR_BYTES = 64 << 10
_LARGE_BYTES = 1 << 20  # aiohttp wants a larger body as a file, and warns otherwise

_FILTERED = RunError("content_filter", "the provider's content filter ended the answer")
_FAILED_FINISHES: dict[str, RunError] = {
    "content_filter": _FILTERED,
    "blacklist": _FILTERED,  # GigaChat's word for it
    "error": RunError("provider_error", "the provider ended the answer with finish reason `error`"),
}


class CallEnded(msgspec.Struct, frozen=True):
    """The last value of a call. It completed if `error` is None.

    `first_token_ms` and `total_ms` count from the start of the call, connecting included.
    """

    finish_reason: str | None
    error: RunError | None
    usage: Usage | None
    raw_usage: dict[str, Any] | None
    provider_request_id: str | None
    first_token_ms: float | None
    total_ms: float


class CallFailed(Exception):
    """The call is over, and why."""

    def __init__(self, error: RunError) -> None:
        super().__init__(error.message)
        self.error = error


CURRENT: ContextVar["Exchange"] = ContextVar("exchange")
"""The exchange for which a connection is being sought, so that the connector can tell it which one it got."""


class Exchange:
    """`open`, then `read` until None, then `drain` and `close`; `ended` says how it went."""

    def __init__(
        self,
        wire: Wire,
        timeouts: Timeouts,
        deadline: float,
        secrets: tuple[str, ...],
        before_sending: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._before_sending = before_sending
        self._wire = wire
        self._progress = Progress(secrets=secrets)
        self._answer = AnswerReader(wire, self._progress)
        self._deadlines = Deadlines(timeouts, deadline)
        self._scope: asyncio.Timeout | None = None  # while the head of the answer is waited for
        self._transport: asyncio.Transport | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._first_token_ms: float | None = None
        self._finishing = False
        self._eof = False

    async def open(
        self, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], body: bytes, ssl: SSLContext | bool
    ) -> None:
        """Send the request and read the head of the answer.

        Raises:
            CallFailed: no connection, no answer in time, or one that is an error.
        """
        if self._deadlines.passed():
            raise CallFailed(self._deadlines.overdue())
        token = CURRENT.set(self)
        try:
            async with asyncio.timeout_at(self._deadlines.until()) as self._scope:
                data = body if len(body) <= _LARGE_BYTES else BytesIO(body)
                response = await session.post(url, data=data, headers=headers, ssl=ssl, allow_redirects=False)
        except TimeoutError:
            raise CallFailed(self._deadlines.overdue()) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(_not_opened(error, url)) from None
        finally:
            self._scope = None
            CURRENT.reset(token)
        self._response = response
        if response.status != 200:
            raise CallFailed(await self._read_error(response))
        if response.content_type == "text/html":
            raise CallFailed(RunError("bad_response", "the provider answered with an HTML page"))

    async def before_sending(self) -> None:
        """To be awaited between connecting and sending; what the caller gave for it is not held beyond that, for a
        connection's callbacks remember their exchange for longer than it lasts. Meanwhile nothing but the whole call's
        deadline runs: it is not the provider that is waited for."""
        before, self._before_sending = self._before_sending, None
        if before is not None:
            self._deadlines.pause()
            self._reschedule()
            await before()

    def connected(self, transport: asyncio.Transport | None) -> None:
        """The connector has a connection for us: from here the provider's first token is waited for."""
        self._transport = transport
        self._deadlines.connected()
        self._reschedule()

    def _reschedule(self) -> None:
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._deadlines.until())

    async def read(self) -> list[AnswerPart] | None:
        """The text in what comes next, all that one read brought; empty where it held none; None at the end.

        Raises:
            CallFailed: the provider failed, fell silent or broke off.
        """
        if not (self._eof or self._answer.over):
            data = await self._receive()
            self._eof = not data
            parts = self._answer.feed(data) if data else self._answer.finish()
            self._note(parts)
            return parts
        if self._progress.error is not None:
            raise CallFailed(self._progress.error)
        if self._progress.finish_reason is None:
            raise CallFailed(RunError("truncated", "the provider's answer ended without a finish reason"))
        return None

    async def drain(self) -> None:
        """Read on to the end of the HTTP answer, if it comes at once: the connection then goes back to the pool."""
        response = self._response
        if response is None or response.connection is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                while await response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            return

    def close(self) -> None:
        """Break the connection off at once, unless the answer came to its end and it is back in the pool."""
        self._deadlines.stop()
        self._before_sending = None
        response, transport = self._response, self._transport
        self._transport = None
        if response is not None and response.connection is None:
            return
        if transport is not None:
            transport.abort()
        if response is not None:
            response.close()

    def ended(self, error: RunError | None = None) -> CallEnded:
        """How it went: with `error` if the call failed, else as the answer's finish reason has it."""
        progress = self._progress
        header = self._response.headers.get("x-request-id", "") if self._response is not None else ""
        header = "".join(char for char in header[:200] if char.isprintable())  # other bytes come as lone surrogates
        return CallEnded(
            finish_reason=progress.finish_reason,
            error=error or _FAILED_FINISHES.get(progress.finish_reason or ""),
            usage=progress.usage,
            raw_usage=progress.raw_usage,
            provider_request_id=header or progress.id,
            first_token_ms=self._first_token_ms,
            total_ms=self._deadlines.elapsed_ms(),
        )

    async def _read_error(self, response: aiohttp.ClientResponse) -> RunError:
        """From what there is of its body: an error that does not end is an error all the same."""
        body = bytearray()
        try:
            async with asyncio.timeout_at(self._deadlines.until()), asyncio.timeout(ERROR_BODY_S):
                while len(body) < MAX_ERROR_BYTES and (data := await response.content.readany()):
                    body += data
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        now, secrets = datetime.now(UTC), self._progress.secrets
        return self._wire.read_error(response.status, response.headers, bytes(body), now=now, secrets=secrets)

    async def _receive(self) -> bytes:
        """One read; empty at the end of the answer, or where it stops coming after the finish reason."""
        assert self._response is not None
        content = self._response.content
        try:
            if not self._deadlines.watch(self._expired):
                raise TimeoutError
            return await content.readany()
        except TimeoutError:
            error = self._deadlines.overdue()
        except (aiohttp.ClientError, OSError) as broken:
            # aiohttp raises before it gives what had come until then; that text was sent, and paid for.
            left = content._read_nowait(-1)
            if left:
                return left
            error = _broken_off(broken)
        finally:
            self._deadlines.unwatch()
        if self._finishing:
            return b""
        raise CallFailed(error)

    def _expired(self) -> None:
        if self._response is not None:
            self._response.content.set_exception(TimeoutError())

    def _note(self, parts: list[AnswerPart]) -> None:
        finishing = self._progress.finish_reason is not None
        if parts or finishing != self._finishing:
            self._deadlines.moved(finishing)
        self._finishing = finishing
        if parts and self._first_token_ms is None:
            self._first_token_ms = self._deadlines.elapsed_ms()


def _not_opened(error: Exception, url: URL) -> RunError:
    """Why there is no answer, in words of ours: an exception's own text may hold the URL or a header."""
    where = f"{url.host}:{url.port}"
    if isinstance(error, aiohttp.ClientResponseError):
        return RunError("bad_response", f"{where} does not answer in HTTP")
    if isinstance(error, aiohttp.ClientSSLError | SSLError):
        return RunError("connect", f"TLS with {where} failed")
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, aiohttp.ClientError | OSError):
        return RunError("invalid_request", "the provider's base_url or headers cannot be used for a request")
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        cause = "the connection was closed"
    else:  # the resolver's numbers are negative, and its words hold nothing of ours
        cause = os.strerror(number) if number > 0 else "the host's name cannot be resolved"
    return RunError("connect", f"{where}: {cause}")


def _broken_off(error: Exception) -> RunError:
    if isinstance(error.__cause__, ContentEncodingError):
        return RunError("bad_response", "the answer's content encoding is broken")
    return RunError("truncated", "the connection broke off in the middle of the answer")
