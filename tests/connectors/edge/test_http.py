"""What every endpoint is wrapped in."""

import asyncio
from collections import Counter

import orjson
import pytest
from starlette.types import Message, Receive, Scope, Send

from connectors.edge.http import EVENT_STREAM, Guarded, start


class Hanging:
    """An endpoint that never ends, its answer begun or not; and what it was counted as and sent."""

    def __init__(self, begins: bool) -> None:
        self.begins = begins
        self.entered = asyncio.Event()
        self.sent: list[Message] = []
        self.counted: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.begins:
            await send(start(200, *EVENT_STREAM))
        self.entered.set()
        await asyncio.Event().wait()

    async def cut_off(self) -> "asyncio.Task[None]":
        """Asked for, and cancelled as uvicorn does when it stops and its grace is over."""

        async def send(message: Message) -> None:
            self.sent.append(message)

        guarded = Guarded(self, lambda name, status: self.counted.update([(name, status)]), "streams")
        asking = asyncio.create_task(guarded({}, send, send))  # type: ignore[arg-type]
        await self.entered.wait()
        asking.cancel()
        await asyncio.wait({asking})
        return asking


async def test_who_still_waits_when_the_server_stops_is_told_to_come_again() -> None:
    endpoint = Hanging(begins=False)
    assert (await endpoint.cut_off()).exception() is None
    begin, body = endpoint.sent
    assert begin["status"] == 503
    assert (b"retry-after", b"1") in begin["headers"]
    assert orjson.loads(body["body"])["error"]["code"] == "shutting_down"
    assert endpoint.counted == {("streams", 503): 1}


async def test_an_answer_that_has_begun_is_broken_off_and_not_ended() -> None:
    endpoint = Hanging(begins=True)
    with pytest.raises(asyncio.CancelledError):
        (await endpoint.cut_off()).result()
    assert [message["type"] for message in endpoint.sent] == ["http.response.start"]
