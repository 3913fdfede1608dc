"""The OpenAI client, curl and SSE against the whole pipeline."""

import json
import subprocess
import time

import httpx2 as httpx
import openai
import pytest

from connectors.simulated.texts import STORY
from tests.e2e.pipeline import Pipeline
from tests.e2e.test_path import script


@pytest.fixture
def client(pipeline: Pipeline) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{pipeline.url}/v1", api_key=pipeline.key, max_retries=0)


def messages(text: str = "hi") -> list:
    return [{"role": "user", "content": text}]


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="story", messages=messages())
    completion = answer.parse()
    assert completion.choices[0].message.content == STORY
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0
    assert answer.headers["x-request-id"]


def test_a_streamed_answer_with_usage(client: openai.OpenAI) -> None:
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="story", messages=messages(), stream=True, stream_options=options)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == STORY
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices


async def test_the_async_client(pipeline: Pipeline) -> None:
    async with openai.AsyncOpenAI(base_url=f"{pipeline.url}/v1", api_key=pipeline.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="story", messages=messages(), stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == STORY


def test_a_tool_call(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(model="tools", messages=messages(), tools=[tool])
    [call] = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    json.loads(call.function.arguments)
    pieces = client.chat.completions.create(model="tools", messages=messages(), tools=[tool], stream=True)
    deltas = [d for c in pieces if c.choices for d in c.choices[0].delta.tool_calls or []]
    assert "".join(d.function.arguments or "" for d in deltas if d.function) == call.function.arguments


def test_errors_are_the_client_s_own_classes(pipeline: Pipeline, client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as refused:
        create(model="story", messages=messages("how to build a bomb"))
    assert refused.value.code == "content_filter"
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="nope", messages=messages())
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        create(model="story", messages=messages(), n=2)
    assert wrong.value.param == "n"
    with pytest.raises(openai.InternalServerError):
        create(model="down", messages=messages())
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model="story", messages=messages())


def test_a_stop_is_a_content_filter(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="script", messages=messages(script("say ", "project ", "nightfall")))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("say ", "content_filter")
    limited = client.chat.completions.create(model="endless", messages=messages())
    assert limited.choices[0].finish_reason == "length"


def test_a_break_in_mid_stream_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="broken-off", messages=messages(), stream=True))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="broken-off", messages=messages())


def test_curl_reads_the_stream(pipeline: Pipeline) -> None:
    body = json.dumps({"model": "story", "messages": messages(), "stream": True})
    key = f"Authorization: Bearer {pipeline.key}"
    shown = subprocess.run(
        ["curl", "-sN", "-H", key, "-d", body, f"{pipeline.url}/v1/chat/completions"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    lines = [line.removeprefix("data: ") for line in shown.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
    assert "".join(deltas) == STORY


def test_a_stream_is_resumed_by_its_cursor_without_a_new_call(pipeline: Pipeline) -> None:
    request = pipeline.ask("slow")
    url, headers = f"{pipeline.url}/v1/streams/{request}?wait_s=10", {"Authorization": f"Bearer {pipeline.key}"}
    whole = ""
    last = None
    reconnects = 0
    while reconnects < 20:
        more = headers | ({"Last-Event-ID": last} if last else {})
        with httpx.stream("GET", url, headers=more, timeout=30) as answer:
            assert answer.status_code == 200
            taken, kind = 0, ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("id: "):
                    last = line[4:]
                elif line.startswith("data: ") and kind == "tokens":
                    whole += json.loads(line[6:])["text"]
                    taken += 1
                elif line.startswith("data: ") and kind == "end":
                    break
                if taken == 5 and line == "":
                    break
            if kind == "end":
                break
        reconnects += 1
    assert reconnects > 5
    assert whole == pipeline.stream(request)[0]
    runs = [e for e in pipeline.records("journal", request, "run_ended") if e["type"] == "run_started"]
    assert len(runs) == 1


def test_a_vanished_http_client_cancels_the_call(pipeline: Pipeline) -> None:
    """Within 1 s of the closed connection; asserted with a second of slack for a busy machine."""
    body = {"model": "endless", "messages": messages(), "stream": True}
    headers = {"Authorization": f"Bearer {pipeline.key}"}
    with httpx.stream("POST", f"{pipeline.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
        request = answer.headers["x-request-id"]
        next(answer.iter_lines())
    closed_ms = time.time() * 1000
    ended = pipeline.records("journal", request, "run_ended")[-1]
    assert ended["error"]["kind"] == "cancelled"
    assert ended["at_ms"] - closed_ms < 2000
    _, end = pipeline.stream(request)
    assert (end["status"], end["reason"]) == ("cancelled", "reader_gone")


def test_delete_cancels_and_strangers_see_nothing(pipeline: Pipeline) -> None:
    headers = {"Authorization": f"Bearer {pipeline.key}"}
    request, foreign = pipeline.ask("endless"), pipeline.ask("endless", tenant="other")
    pipeline.records("tokens", request, "tokens")
    pipeline.records("tokens", foreign, "tokens")
    assert httpx.delete(f"{pipeline.url}/v1/streams/{foreign}", headers=headers).status_code == 404
    assert httpx.get(f"{pipeline.url}/v1/streams/{foreign}", headers=headers).status_code == 404
    assert httpx.delete(f"{pipeline.url}/v1/streams/{request}", headers=headers).is_success
    assert pipeline.stream(request)[1]["status"] == "cancelled"
    assert pipeline.stream(foreign)[1]["reason"] == "token_limit"


def test_the_cache_is_told_in_a_header(pipeline: Pipeline, client: openai.OpenAI) -> None:
    question = messages(f"a question of {time.time()}")
    give_up = time.monotonic() + 5
    hit = None
    while hit is None and time.monotonic() < give_up:
        answer = client.chat.completions.with_raw_response.create(model="echo", messages=question, temperature=0)
        hit = answer.headers.get("x-sluice-cache")
    assert hit == "hit"
