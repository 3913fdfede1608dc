"""Calls to LLM providers over one pool of connections.

    async with aclosing(client.call(...)) as items:
        async for item in items:    # list[AnswerPart], …, CallEnded

Closing the iterator, or cancelling the task that iterates, breaks the provider's connection off at once.
"""

import asyncio
import select
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from connectors.providers.exchange import CURRENT, CallEnded, CallFailed, Exchange
from connectors.providers.wire import WIRES, Wire
from processors.dispatch.openai import HttpRequest
from processors.events import AnswerPart, RunError
from processors.policy import Provider, Timeouts

try:
    USER_AGENT = f"sluice/{version('sluice')}"
except PackageNotFoundError:  # run from a checkout that is not installed
    USER_AGENT = "sluice/dev"

READ_BUFFER_BYTES = 64 << 10
"""Of each call whose consumer is slow; beyond twice that its provider is no longer read."""
KEEPALIVE_S = 4.0
"""How long an idle connection is kept: less than the 5 s of uvicorn and Node, so that it is we who close it. A request
that crosses the provider's close on its way fails as `connect`: it may have been begun, so it is not sent again."""
MIN_SECRET_CHARS = 6
"""A shorter header value is no secret, and hiding it would only garble messages."""


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange which connection it got: to time the phases apart, and to abort it whatever is under way."""

    async def connect(  # the signature is aiohttp's
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        exchange = CURRENT.get()
        try:
            await exchange.before_sending()
        except BaseException:
            connection.close()
            raise
        if connection.transport is None or connection.transport.is_closing():  # meanwhile; nothing was sent on it
            connection.close()
            connection = await super().connect(req, traces, timeout)
        exchange.connected(connection.transport)
        return connection

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """A connection of the pool. One that the provider has closed, though the loop has not read that yet, is passed
        over: nothing was sent on it, so taking another is no second call."""
        while (connection := await super()._get(key, traces)) is not None and _answers_unasked(connection):
            connection.close()
        return connection


def _answers_unasked(connection: Connection) -> bool:
    """Whether something waits on an idle connection: its end, or what nobody asked for."""
    if connection.transport is None:
        return True
    waiting = select.poll()
    waiting.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(waiting.poll(0))


class ProviderClient:
    """One for each process, made inside its event loop. `limit` bounds connections; 0 means no bound.

    A call that finds none free waits as for a connection. No cookies, no proxies, no redirects, no retries.
    """

    def __init__(self, *, limit: int = 0, keepalive_s: float = KEEPALIVE_S, dns_cache_s: int = 60) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=limit, keepalive_timeout=keepalive_s, ttl_dns_cache=dns_cache_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            trust_env=False,
            read_bufsize=READ_BUFFER_BYTES,
        )
        self._tls: dict[str, ssl.SSLContext] = {}

    async def __aenter__(self) -> "ProviderClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, those in use too."""
        await self._session.close()

    async def call(
        self,
        provider: Provider,
        base_url: str,
        api_key: str | None,
        request: Mapping[str, Any],
        model: str,
        max_tokens: int | None,
        timeouts: Timeouts,
        deadline: float,
        *,
        request_id: str | None = None,
        before_sending: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[list[AnswerPart] | CallEnded, None]:
        """One provider call: the parts that each read brought, and at the end one `CallEnded`.

        `deadline` is what remains for the whole call, in seconds; of `timeouts` connect, first and between tokens
        count. `request_id` is sent as `x-request-id`. `before_sending` is awaited once there is a connection, and may
        raise CallFailed: then nothing is sent. Never raises but when cancelled: what goes wrong stands in
        `CallEnded.error`, and the connection is closed before that is yielded.
        """
        wire = WIRES[provider.kind]
        exchange = Exchange(wire, timeouts, deadline, _secrets(provider, base_url, api_key), before_sending)
        try:
            try:
                sent = _sendable(wire, request, model, api_key, max_tokens)
                headers = _headers(provider, sent, request_id)
                trust = await self._trust(provider.ca_file)
                await exchange.open(self._session, _url(base_url, sent.path), headers, sent.body, trust)
                while (parts := await exchange.read()) is not None:
                    if parts:
                        yield parts
            except CallFailed as failed:
                exchange.close()
                yield exchange.ended(failed.error)
            else:
                yield exchange.ended()
                await exchange.drain()
        finally:
            exchange.close()

    async def _trust(self, ca_file: str | None) -> ssl.SSLContext | bool:
        """What vouches for the provider: the authorities of its `ca_file` and no others, else the system's."""
        if ca_file is None:
            return True
        if ca_file not in self._tls:
            try:
                self._tls[ca_file] = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)
            except OSError as error:  # ssl.SSLError is one
                message = f"ca_file {ca_file} cannot be used: {error.strerror or 'no certificate in it'}"
                raise CallFailed(RunError("connect", message)) from None
        return self._tls[ca_file]


def _sendable(
    wire: Wire, request: Mapping[str, Any], model: str, api_key: str | None, max_tokens: int | None
) -> HttpRequest:
    try:
        return wire.make_request(request, model, api_key=api_key, max_tokens=max_tokens)
    except ValueError:
        raise CallFailed(RunError("invalid_request", "the request cannot be written as JSON")) from None


def _headers(provider: Provider, sent: HttpRequest, request_id: str | None) -> dict[str, str]:
    """The operator's headers, under ours. A compressed stream is read but not asked for: it comes in lumps."""
    headers = {"accept-encoding": "identity"} | {name.lower(): value for name, value in provider.headers.items()}
    headers |= sent.headers | {"user-agent": USER_AGENT}
    return headers | {"x-request-id": request_id} if request_id else headers


@lru_cache(maxsize=256)
def _url(base_url: str, path: str) -> URL:
    """`path` below the base URL, whose query (an API version, say) stays.

    Raises:
        CallFailed: it is no http or https URL.
    """
    try:
        base = URL(base_url)
        if base.scheme in ("http", "https") and base.host:
            return base.with_path(base.raw_path.rstrip("/") + path, encoded=True, keep_query=True)
    except ValueError:
        pass
    raise CallFailed(RunError("invalid_request", "the provider's base_url is not an http or https URL"))


def _secrets(provider: Provider, base_url: str, api_key: str | None) -> tuple[str, ...]:
    """What no message may repeat: the key, and what an operator's headers and URL may hold of that kind."""
    userinfo = base_url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    values = (api_key or "", userinfo, userinfo.partition(":")[2], *provider.headers.values())
    bare = tuple(value.rpartition(" ")[2] for value in values)  # without `Api-Key ` and the like
    return tuple(value for value in values + bare if len(value) >= MIN_SECRET_CHARS)
