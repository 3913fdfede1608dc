"""One exchange: a script played as a stream or whole, or the fault that comes instead."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from connectors.simulated.calls import Call, Calls
from connectors.simulated.frames import Frames, error_body, whole
from connectors.simulated.script import Fault, Script
from connectors.simulated.streaming import Streaming, break_off


class Play:
    """The answer to one request."""

    def __init__(self, request: web.Request, asked: dict[str, Any], played: Script, call: Call, log: Calls) -> None:
        self._request = request
        self._asked = asked
        self._script = played
        self._options = played.options
        self._call = call
        self._log = log

    async def run(self) -> web.StreamResponse:
        options = self._options
        if options.status != 200:
            return await self._refuse()
        if options.after == -1:
            instead = await self._instead()
            if instead is not None:
                return instead
        if options.whole or not self._asked.get("stream"):
            return await self._whole()
        return await Streaming(
            self._request, Frames(self._asked, self._script), self._script, self._call, self._log
        ).run()

    async def _refuse(self) -> web.Response:
        options = self._options
        await asyncio.sleep(options.first_ms / 1000)
        headers = {} if options.retry_after is None else {"Retry-After": f"{options.retry_after:g}"}
        self._log.end(self._call, "fault")
        message = f"simulated failure {options.status}"
        return json_response(
            error_body(options.status, f"simulated_{options.status}", message), options.status, headers
        )

    async def _instead(self) -> web.StreamResponse | None:
        """What comes in place of an answer; None for a fault that is part of one."""
        fault = self._options.fault
        if fault in ("hang", "close", "reset"):
            await self._break_off(fault)
        if fault in ("html", "redirect", "error"):
            self._log.end(self._call, "fault")
        if fault == "html":
            return web.Response(text="<!doctype html><title>simulated</title>", content_type="text/html")
        if fault == "redirect":
            return web.Response(status=307, headers={"Location": "/v1/elsewhere"})
        return json_response(error_body(500, "server_error", "simulated"), 500) if fault == "error" else None

    async def _whole(self) -> web.Response:
        body, deltas = whole(self._asked, self._script)
        await asyncio.sleep((self._options.first_ms + self._options.pace_ms * deltas) / 1000)
        if self._options.fault in ("hang", "close", "reset"):
            await self._break_off(self._options.fault)
        self._call.deltas = deltas
        self._log.end(self._call, "finished")
        return json_response(body)

    async def _break_off(self, fault: Fault) -> None:
        if fault != "hang":
            self._log.end(self._call, "fault")
        await break_off(self._request, fault)


def json_response(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
