"""A script played as a stream: pace, cuts, and the faults that come in the middle.

Frames go to the transport as HTTP chunks of our own, because this server shares its cores with what is measured.
"""

import asyncio
import socket
import struct

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from connectors.simulated.calls import Call, Calls, How
from connectors.simulated.frames import Frames, pieces
from connectors.simulated.script import Fault, Script

MAX_UNSENT_BYTES = 64 << 10
BREATH = 32
"""Deltas without pace after which other calls get their turn."""
BLOCK_BYTES = 65_536


class Streaming:
    """One streamed answer under way."""

    def __init__(self, request: web.Request, frames: Frames, script: Script, call: Call, log: Calls) -> None:
        self._request = request
        self._frames = frames
        self._script = script
        self._options = script.options
        self._call = call
        self._log = log
        self._writer: AbstractStreamWriter | None = None

    async def run(self) -> web.StreamResponse:
        """Play it to its end."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        if self._options.gzip:
            headers["Content-Encoding"] = "gzip"
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        self._writer = await response.prepare(self._request)
        head, cut_short = await self._deltas()
        if self._options.fault in (None, "no-done") or cut_short:
            last = head + self._frames.last(self._call.deltas, cut_short)
            how: How = "finished"
        else:
            await self._write(head)
            last = await self._fault()
            how = "fault"
        if self._options.cut:
            await self._write(last)
            last = b""
        self._log.end(self._call, how)
        await response.write_eof(last + self._frames.end())
        return response

    async def _deltas(self) -> tuple[bytes, bool]:
        """Each delta one write at its due time, which does not drift.

        Returns what has still to be written before anything else, and whether the request's limit cut the answer short.
        """
        options, frames, call = self._options, self._frames, self._call
        clock = asyncio.get_running_loop().time
        due = clock() + options.first_ms / 1000
        head = frames.first()
        for delta in self._script.deltas:
            if options.after is not None and call.deltas >= options.after:
                return head, False
            if call.deltas == self._script.limit:
                return head, True
            wait = due - clock()
            if wait > 0 or call.deltas % BREATH == BREATH - 1:
                await asyncio.sleep(wait)
            due += options.pace_ms / 1000
            await self._write(head + frames.delta(delta, call.deltas + 1))
            self._log.sent(call)
            head = b""
        return head, False

    async def _fault(self) -> bytes:
        """What is left to be written once it has happened."""
        fault = self._options.fault
        if fault == "torn":
            await self._write_now(self._frames.torn(self._call.deltas + 1))
        if fault in ("hang", "close", "reset", "torn"):
            if fault != "hang":
                self._log.end(self._call, "fault")
            await break_off(self._request, fault)
        if fault == "garbage":
            block = self._options.char.encode() * BLOCK_BYTES
            for _ in range(int(self._options.mb * (1 << 20) / BLOCK_BYTES)):
                await self._write_now(block)
        if fault == "error":
            return self._frames.error()
        return self._frames.malformed() if fault == "malformed" else b""

    async def _write(self, frame: bytes) -> None:
        if self._options.cut:
            for piece in pieces(frame, self._options.cut):
                await self._write_now(piece)
                await asyncio.sleep(self._options.gap_ms / 1000)
        elif frame:
            await self._write_now(frame)

    async def _write_now(self, data: bytes) -> None:
        transport, writer = self._request.transport, self._writer
        if transport is None or writer is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            await writer.drain()


async def break_off(request: web.Request, fault: Fault) -> None:
    """Close or reset the connection, or leave it hanging; comes back only by being cancelled."""
    transport = request.transport
    if fault == "reset" and transport is not None:
        # Closing then sends RST instead of FIN, and what is unsent is dropped.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    elif fault in ("close", "torn") and transport is not None:
        transport.close()
    await asyncio.Event().wait()
