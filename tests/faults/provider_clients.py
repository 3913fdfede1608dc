"""Clients of the mix: chat completions streamed and whole, and a Kafka producer who reads server-sent events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.e2e.pipeline import Pipeline
from tests.faults.provider_checks import Held
from tests.faults.provider_mix import Case

PATIENCE_S = 60.0
LEAVES_AFTER_S = 0.3
"""Without a first byte."""


class Clients:
    """Serves one request after the other to its end."""

    def __init__(self, pipeline: Pipeline, http: aiohttp.ClientSession) -> None:
        self._pipeline = pipeline
        self._http = http

    async def ask(self, case: Case) -> Held:
        """Send a request and read its answer, or leave."""
        held, began = Held(case, time.time()), time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            if case.client == "kafka":
                await self._publish(held)
            elif case.client == "whole":
                await self._whole(held)
            elif case.kind == "hangs, its reader leaves":
                await self._leave(held)
            else:
                await self._stream(held)
        held.seconds = time.monotonic() - began
        return held

    def _post(self, case: Case, **more: Any) -> Any:
        return self._http.post("/v1/chat/completions", json=case.body | more)

    async def _whole(self, held: Held) -> None:
        async with self._post(held.case) as answer:
            _head(held, answer)
            body = await answer.json()
        if "error" in body:
            held.code = body["error"]["code"]
            return
        (choice,) = body["choices"]
        held.text, held.finish = choice["message"]["content"] or "", choice["finish_reason"]

    async def _stream(self, held: Held) -> None:
        async with self._post(held.case, stream=True) as answer:
            _head(held, answer)
            if answer.status != 200:
                held.code = (await answer.json())["error"]["code"]
                return
            async for _, data in _events(answer):
                self._take(held, data)
                if held.text and held.case.kind == "endless, its reader leaves":
                    answer.close()
                    held.left = time.time()
                    return

    async def _leave(self, held: Held) -> None:
        try:
            async with asyncio.timeout(LEAVES_AFTER_S), self._post(held.case, stream=True) as answer:
                _head(held, answer)
        except TimeoutError:
            held.left = time.time()

    async def _publish(self, held: Held) -> None:
        held.id = await asyncio.to_thread(self._pipeline.publish, **held.case.body)
        async with self._http.get(f"/v1/streams/{held.id}", params={"wait_s": 30}) as answer:
            _head(held, answer, sent=held.id)
            async for name, data in _events(answer):
                record = json.loads(data)
                held.seqs += (record["seq"],)
                if name == "end":
                    held.end = record
                else:
                    held.text += record["text"]

    def _take(self, held: Held, data: str) -> None:
        if data == "[DONE]":
            held.done = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            held.code = chunk["error"]["code"]
            return
        for choice in chunk["choices"]:
            held.text += choice["delta"].get("content") or ""
            held.finish = choice["finish_reason"] or held.finish


def _head(held: Held, answer: aiohttp.ClientResponse, sent: str | None = None) -> None:
    held.http, held.retry_after = answer.status, answer.headers.get("retry-after")
    held.id = sent or answer.headers.get("x-request-id")


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """Name and data of each server-sent event, up to the end of the answer."""
    name = "message"
    async for line in answer.content:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value
