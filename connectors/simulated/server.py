"""The simulated provider: an HTTP server that speaks OpenAI's wire format and plays scripts. No model is behind it."""

import asyncio
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from connectors.simulated.calls import Call, Calls
from connectors.simulated.frames import CREATED, error_body
from connectors.simulated.play import Play, json_response
from connectors.simulated.script import BEHAVIOURS, UnknownModel, script
from processors.errors import Invalid

MAX_BODY_BYTES = 16 << 20
ABOUT = (
    "This is Sluice's simulated LLM provider: scripted answers over OpenAI's wire format, no model behind it.\n"
    "POST /v1/chat/completions, GET /v1/models, GET and DELETE /_simulated/calls.\n"
    "A model is a behaviour with options, as in numbers?n=64&pace_ms=20. Behaviours:\n  "
    + ", ".join([*BEHAVIOURS, "fail-NNN"])
    + "\n"
)


class SimulatedProvider:
    """The server. `async with SimulatedProvider() as provider:` serves on `provider.url` until left."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.log = Calls()
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_label)
        app.add_routes(
            [
                web.get("/", _about),
                web.get("/v1/models", _models),
                web.post("/v1/chat/completions", self._completions),
                web.get("/_simulated/calls", self._calls),
                web.delete("/_simulated/calls", self._forget),
            ]
        )
        # A closed connection cancels its handler: that is how a call's end is known while it hangs or paces.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)

    @property
    def url(self) -> str:
        """What a provider's `base_url` is set to."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def calls(self) -> list[Call]:
        """Every call so far, the newest last."""
        return list(self.log.calls)

    async def __aenter__(self) -> "SimulatedProvider":
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _calls(self, _: web.Request) -> web.Response:
        return json_response({"simulated": True, "calls": [_plain(call) for call in self.log.calls]})

    async def _forget(self, _: web.Request) -> web.Response:
        self.log.clear()
        return web.Response(status=204)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = orjson.loads(await request.read())
            played = script(asked)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            return json_response(error_body(400, "invalid_json", "the body is not a chat completion request"), 400)
        except UnknownModel as error:
            return json_response(
                error_body(404, "model_not_found", f"the simulated provider has no model {error}"), 404
            )
        except Invalid as error:
            return json_response(error_body(400, "invalid_simulation", str(error)), 400)
        call = _call(request, asked)
        self.log.begin(call)
        try:
            return await Play(request, asked, played, call, self.log).run()
        except (asyncio.CancelledError, ConnectionError):
            self.log.end(call, "client_closed")
            raise


def _call(request: web.Request, asked: dict[str, Any]) -> Call:
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    return Call(
        request_id=request.headers.get("x-request-id"),
        model=str(asked.get("model")),
        stream=bool(asked.get("stream")),
        max_tokens=limit if isinstance(limit, int) else None,
        authorized="authorization" in request.headers,
        user_agent=request.headers.get("user-agent"),
        started=datetime.now(UTC),
        started_monotonic=time.monotonic(),
    )


def _plain(call: Call) -> dict[str, Any]:
    return {name: getattr(call, name) for name in call.__struct_fields__}


async def _label(_: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["x-simulated-provider"] = "sluice"


async def _about(_: web.Request) -> web.Response:
    return web.Response(text=ABOUT)


async def _models(_: web.Request) -> web.Response:
    models = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulated"} for name in BEHAVIOURS]
    return json_response({"object": "list", "data": models})
