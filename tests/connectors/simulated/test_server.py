"""The simulated provider over HTTP: looked at as bytes, and through an unmodified OpenAI client."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import openai
import orjson
import pytest

from connectors.simulated import Call, SimulatedProvider
from connectors.simulated.calls import MAX_CALLS, Calls
from connectors.simulated.texts import STORY


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def body(model: str, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True} | fields


def events(data: bytes) -> list[Any]:
    """The JSON of an answer's events, `[DONE]` as it is."""
    found = [line[6:] for line in data.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else orjson.loads(line) for line in found]


async def ask(http: aiohttp.ClientSession, sim: SimulatedProvider, model: str, **fields: Any) -> bytes:
    async with http.post(f"{sim.url}/chat/completions", json=body(model, **fields)) as response:
        assert response.headers["x-simulated-provider"] == "sluice"
        return await response.read()


async def test_the_clock_says_when_each_delta_was_written(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    asked = time.monotonic_ns()
    chunks = events(await ask(http, sim, "clock?n=3&pace_ms=30"))
    said = [asked] + [int(chunk["choices"][0]["delta"]["content"]) for chunk in chunks[1:4]] + [time.monotonic_ns()]
    assert said == sorted(said)
    assert said[3] - said[1] > 55e6  # told as it is written, not when the answer is begun


async def test_an_answer_is_openais_and_says_that_it_is_simulated(
    http: aiohttp.ClientSession, sim: SimulatedProvider
) -> None:
    chunks = events(await ask(http, sim, "numbers?n=2", stream_options={"include_usage": True}))
    assert chunks.pop() == "[DONE]"
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"simulated"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk["choices"] and chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "1 "},
        {"content": "2 "},
        {},
        [],
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert [chunk["usage"] and chunk["usage"]["completion_tokens"] for chunk in chunks] == [None, None, None, None, 2]


async def test_no_usage_unless_asked_for(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    chunks = events(await ask(http, sim, "numbers?n=2"))
    assert all("usage" not in chunk for chunk in chunks[:-1])


async def test_the_same_request_has_the_same_answer(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    assert await ask(http, sim, "reasoning") == await ask(http, sim, "reasoning")
    assert await ask(http, sim, "story") != await ask(http, sim, "story", text="other")


@pytest.mark.parametrize("options", ["cut=1", "crlf=1", "gzip=1", "comments=1", "bom=1", "cut=5&gzip=1&crlf=1"])
async def test_disguises_do_not_change_the_events(
    http: aiohttp.ClientSession, sim: SimulatedProvider, options: str
) -> None:
    deltas = [c["choices"][0]["delta"] for c in events(await ask(http, sim, f"numbers?n=3&{options}"))[:-1]]
    assert {"content": "3 "} in deltas[-2:]
    assert sum("content" in delta for delta in deltas) >= 3


async def test_disguises_are_there(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    assert (await ask(http, sim, "numbers?n=1&bom=1")).startswith(b"\xef\xbb\xbfdata")
    assert b"\r\n\r\ndata" in await ask(http, sim, "numbers?n=1&crlf=1")
    assert b": still here" in await ask(http, sim, "numbers?n=1&comments=1")
    async with http.post(f"{sim.url}/chat/completions", json=body("numbers?gzip=1"), auto_decompress=False) as response:
        assert (await response.read()).startswith(b"\x1f\x8b")


async def test_a_torn_answer_ends_within_a_delta(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    data = b""
    async with http.post(f"{sim.url}/chat/completions", json=body("torn-after?n=2")) as response:
        with contextlib.suppress(aiohttp.ClientPayloadError):
            while read := await response.content.readany():
                data += read
    *whole, torn = data.split(b"\n\n")
    assert b'"2 "' in whole[-1]
    assert torn.startswith(b"data: {")
    assert (sim.calls[0].deltas, sim.calls[0].how) == (2, "fault")


async def test_no_delta_comes_before_its_time(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    clock = asyncio.get_running_loop().time
    started, data = clock(), b""
    seen: dict[int, float] = {}
    async with http.post(f"{sim.url}/chat/completions", json=body("numbers?n=5&pace_ms=30&first_ms=60")) as response:
        while read := await response.content.readany():
            data += read
            seen |= {n: clock() - started for n in range(1, 6) if n not in seen and b'"%d "' % n in data}
    assert list(seen) == [1, 2, 3, 4, 5]
    assert all(at >= 0.055 + (n - 1) * 0.03 for n, at in seen.items())
    assert len(set(seen.values())) > 1


async def test_max_tokens(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        chunks = events(await ask(http, sim, "endless", **{field: 3}))
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    whole = orjson.loads(await ask(http, sim, "endless", max_tokens=3, stream=False))
    assert whole["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "1 2 3 "},
        "logprobs": None,
        "finish_reason": "length",
    }
    assert whole["usage"]["completion_tokens"] == 3


async def test_calls_are_recorded_and_forgotten(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    headers = {"x-request-id": "run-7", "authorization": "Bearer secret-1"}
    async with http.post(f"{sim.url}/chat/completions", json=body("numbers?n=2"), headers=headers) as response:
        await response.read()
    root = sim.url.removesuffix("/v1")
    async with http.get(f"{root}/_simulated/calls") as response:
        text = await response.text()
        (call,) = orjson.loads(text)["calls"]
    assert "secret-1" not in text
    assert (call["request_id"], call["model"], call["deltas"], call["how"]) == ("run-7", "numbers?n=2", 2, "finished")
    assert call["authorized"]
    assert call["ended_monotonic"] >= call["started_monotonic"]
    assert call["ended"] >= call["started"]
    async with http.delete(f"{root}/_simulated/calls") as response:
        assert response.status == 204
    assert sim.calls == []


async def test_the_record_is_bounded() -> None:
    log = Calls()
    for number in range(MAX_CALLS + 5):
        log.begin(Call(None, str(number), True, None, False, None, datetime.now(UTC), 0.0))
    assert (len(log.calls), log.calls[0].model) == (MAX_CALLS, "5")


@pytest.mark.parametrize("model", ["hang", "hang-after?n=1", "endless?pace_ms=10", "slow", "endless"])
async def test_a_client_that_leaves_is_noticed(http: aiohttp.ClientSession, sim: SimulatedProvider, model: str) -> None:
    task = asyncio.create_task(ask(http, sim, model))
    await sim.log.wait(lambda call: True)
    await asyncio.sleep(0)
    task.cancel()
    assert (await sim.log.wait(lambda call: call.how is not None, 2)).how == "client_closed"
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reader_that_does_not_read_holds_an_endless_answer(sim: SimulatedProvider) -> None:
    reader, writer = await asyncio.open_connection(sim.host, sim.port, limit=1024)
    data = orjson.dumps(body("endless"))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
    seen = -1
    while sim.calls == [] or sim.calls[0].deltas != seen:
        seen = sim.calls[0].deltas if sim.calls else -1
        await asyncio.sleep(0.1)
    assert 0 < seen < 1_000_000
    assert reader is not None
    writer.close()
    assert (await sim.log.wait(lambda call: call.how is not None)).how == "client_closed"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"model":"gpt-4","messages":[]}', 404, "model_not_found"),
        (b'{"model":"story?x=1","messages":[]}', 400, "invalid_simulation"),
        (b'{"model":"fail-418","messages":[]}', 418, "simulated_418"),
    ],
)
async def test_errors_are_openais(
    http: aiohttp.ClientSession, sim: SimulatedProvider, sent: bytes, status: int, code: str
) -> None:
    async with http.post(f"{sim.url}/chat/completions", data=sent) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code
        assert response.headers["x-simulated-provider"] == "sluice"


async def test_it_says_what_it_is(http: aiohttp.ClientSession, sim: SimulatedProvider) -> None:
    async with http.get(sim.url.removesuffix("v1")) as response:
        assert "simulated" in await response.text()
    async with http.get(f"{sim.url}/models") as response:
        models = (await response.json())["data"]
    assert {"story", "echo", "hang-after"} <= {model["id"] for model in models}
    assert {model["owned_by"] for model in models} == {"simulated"}


async def test_an_unmodified_client_reads_it(sim: SimulatedProvider) -> None:
    async with openai.AsyncOpenAI(base_url=sim.url, api_key="any", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "boats"}]
        whole = await client.chat.completions.create(model="story", messages=messages)
        assert whole.choices[0].message.content == STORY
        stream = await client.chat.completions.create(model="story", messages=messages, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == STORY
        called = await client.chat.completions.create(model="tool-call", messages=messages)
        assert called.choices[0].message.tool_calls is not None
        function: Any = called.choices[0].message.tool_calls[0]
        assert function.function.arguments == '{"query":"boats"}'
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="fail-429", messages=messages)
        with pytest.raises(openai.APIError, match="asked to"):
            async for _ in await client.chat.completions.create(model="error-after", messages=messages, stream=True):
                pass
