"""The official client against a running edge: whatever it is used for, it understands what it gets."""

import asyncio
import re
import subprocess
import uuid
from typing import Any

import httpx2
import openai
import orjson
import pytest

from processors.identity import partition_of, uuid7_time
from tests.connectors.edge.conftest import KEY, LOST_KEY
from tests.connectors.edge.double import Pipeline
from tests.connectors.edge.running import RunningEdge


def ask(content: str = "hello| world") -> Any:
    return [{"role": "user", "content": content}]


def raw(edge: RunningEdge, body: Any, **headers: str) -> httpx2.Response:
    """A request without the client's help."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return httpx2.post(
        f"{edge.url}/v1/chat/completions", content=content, headers={"authorization": f"Bearer {KEY}"} | headers
    )


def test_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="echo", messages=ask())
    parsed = answer.parse()
    assert parsed.choices[0].message.content == "hello world"
    assert parsed.choices[0].finish_reason == "stop"
    assert parsed.usage is not None
    assert (parsed.usage.prompt_tokens, parsed.usage.completion_tokens) == (11, 7)
    assert answer.headers["x-request-id"] == parsed.id
    assert "x-sluice-cache" not in answer.headers


def test_streamed(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="echo", messages=ask(), stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hello", " world", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {"echo"}


async def test_the_async_client(edge: RunningEdge) -> None:
    async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=KEY, max_retries=0) as client:

        async def streamed(number: int) -> str:
            texts = []
            async for chunk in await client.chat.completions.create(
                model="echo", messages=ask(f"{number}|!"), stream=True
            ):
                texts.append(chunk.choices[0].delta.content or "")
            return "".join(texts)

        assert await asyncio.gather(*map(streamed, range(20))) == [f"{number}!" for number in range(20)]
        whole = await client.chat.completions.create(model="echo", messages=ask())
        assert whole.choices[0].message.content == "hello world"


def test_usage_is_streamed_where_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    *chunks, last = client.chat.completions.create(model="echo", messages=ask(), stream=True, stream_options=options)
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 18


def test_tool_calls(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "weather"}}]
    whole = client.chat.completions.create(model="tools", messages=ask(), tools=tools).choices[0]
    calls: Any = whole.message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "weather", '{"city": "Kazan"}'),
        ("call_2", "time", "{}"),
    ]
    assert whole.finish_reason == "tool_calls"
    arguments = ""
    for chunk in client.chat.completions.create(model="tools", messages=ask(), tools=tools, stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.index == 0 and call.function:
                arguments += call.function.arguments or ""
    assert arguments == '{"city": "Kazan"}'


def test_the_clients_own_stream_helper_gathers_the_same(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="tools", messages=ask()) as stream:
        final = stream.get_final_completion()
    calls: Any = final.choices[0].message.tool_calls
    assert [call.function.arguments for call in calls] == ['{"city": "Kazan"}', "{}"]


def test_a_models_refusal(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(model="declines", messages=ask()).choices[0].message.refusal == "I will not"


@pytest.mark.parametrize(
    ("model", "reason"), [("length", "length"), ("stopped", "content_filter"), ("limit", "length")]
)
def test_ends_that_are_answers(client: openai.OpenAI, model: str, reason: str) -> None:
    assert client.chat.completions.create(model=model, messages=ask()).choices[0].finish_reason == reason
    *_, last = client.chat.completions.create(model=model, messages=ask(), stream=True)
    assert last.choices[0].finish_reason == reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "kind", "status", "code"),
    [
        ("refused", openai.BadRequestError, 400, "content_filter"),
        ("refused-bare", openai.BadRequestError, 400, "content_filter"),
        ("limited", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("fails-502", openai.InternalServerError, 502, "provider_error"),
        ("fails-504", openai.InternalServerError, 504, "timeout"),
        ("fails-bare", openai.InternalServerError, 502, "internal_error"),
    ],
)
def test_ends_that_are_errors(
    client: openai.OpenAI, model: str, kind: type[openai.APIStatusError], status: int, code: str, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=ask(), stream=stream)
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert "our words" in error.message
    assert uuid.UUID(error.response.headers["x-request-id"]).version == 7
    assert ("retry-after" in error.response.headers) == (status == 429)


def test_a_failure_after_the_first_byte_is_an_error_in_the_stream(client: openai.OpenAI) -> None:
    texts = []
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012
        for chunk in client.chat.completions.create(model="breaks", messages=ask(), stream=True):
            texts.append(chunk.choices[0].delta.content)
    assert texts == ["half", " an"]
    assert caught.value.code == "interrupted"


def test_there_is_no_done_after_a_failure(edge: RunningEdge) -> None:
    answer = raw(edge, {"model": "breaks", "messages": ask(), "stream": True})
    assert answer.status_code == 200
    assert b"[DONE]" not in answer.content
    assert answer.content.count(b'data: {"error"') == 1


def test_a_whole_answer_that_failed_halfway_is_no_200(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="breaks", messages=ask())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["cancelled", "cancelled-late"])
def test_a_cancelled_request_is_a_closed_connection(edge: RunningEdge, model: str, stream: bool) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        raw(edge, {"model": model, "messages": ask(), "stream": stream})


def test_a_cache_hit_says_so(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="cached", messages=ask())
    assert answer.headers["x-sluice-cache"] == "hit"
    streamed = client.chat.completions.with_raw_response.create(model="cached", messages=ask(), stream=True)
    assert streamed.headers["x-sluice-cache"] == "hit"
    list(streamed.parse())


def test_the_request_in_the_log(client: openai.OpenAI, pipeline: Pipeline) -> None:
    answer = client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        temperature=0,
        user="u-1",
        metadata={"team": "blue"},
        extra_headers={"x-client-request-id": "mine", "cache-control": "no-cache"},
        extra_body={"deadline_s": 5, "session": "s"},
    )
    body, headers = pipeline.requests[answer.id], pipeline.request_headers[answer.id]
    edge = body.pop("edge")
    assert re.fullmatch("[0-9a-f]{12}", body.pop("key"))  # of the key's hash
    assert body == {
        "id": answer.id, "tenant": "demo", "model": "echo", "temperature": 0, "user": "u-1",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "metadata": {"team": "blue"}, "deadline_s": 5, "session": "s", "cache": "no-cache",
        "on_disconnect": "cancel", "client_request_id": "mine",
    }  # fmt: skip
    assert edge["instance"] == "edge-0"
    assert headers.pop("ce_time").endswith(b"Z")
    assert headers == {
        "ce_specversion": b"1.0", "ce_id": answer.id.encode(), "ce_type": b"sluice.request",
        "ce_source": b"/edge/edge-0", "v": b"1",
    }  # fmt: skip
    uuid7_time(answer.id)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"temperature": 3}, "temperature"),
        ({"tenant": "x"}, "tenant"),
        ({"messages": []}, "messages"), ({"metadata": {"k": "v" * 513}}, "metadata.k"), ({"id": "x"}, "id"),
        ({"audio": {}}, "audio"), ({"model": 3}, "model"), ({"modalities": ["audio"]}, "modalities"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_400_at_once_and_names_the_field(
    edge: RunningEdge, changes: dict[str, Any], param: str
) -> None:
    answer = raw(edge, {"model": "echo", "messages": ask()} | changes)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert param.split(".")[0] in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_json_object_is_400(edge: RunningEdge, body: bytes) -> None:
    assert raw(edge, body).status_code == 400


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=ask())
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_body_beyond_the_limit(edge: RunningEdge) -> None:
    big = {"model": "echo", "messages": ask("x" * (1 << 20))}
    assert raw(edge, big).status_code == 413

    def pieces() -> Any:
        yield from (b" " * 65536 for _ in range(17))

    chunked = httpx2.post(
        f"{edge.url}/v1/chat/completions", content=pieces(), headers={"authorization": f"Bearer {KEY}"}
    )
    assert chunked.status_code == 413
    assert chunked.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("key", ["sk-sluice-nobody", ""])
def test_a_bad_key(edge: RunningEdge, key: str) -> None:
    with openai.OpenAI(base_url=f"{edge.url}/v1", api_key=key or "x", max_retries=0) as client:
        headers: Any = {} if key else {"Authorization": openai.Omit()}
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="echo", messages=ask(), extra_headers=headers)
    assert caught.value.code == "invalid_api_key"


def test_a_key_of_a_tenant_that_the_policy_does_not_know(edge: RunningEdge) -> None:
    with (
        openai.OpenAI(base_url=f"{edge.url}/v1", api_key=LOST_KEY, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.models.list()


def test_models_are_the_tenants_routes(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"echo", "mine"} <= set(names)
    assert names == sorted(names)
    assert client.models.retrieve("mine").id == "mine"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_curl_sees_each_chunk_as_it_comes(edge: RunningEdge, pipeline: Pipeline) -> None:
    """`curl -N`: the first line is there while the stream is still open."""
    marker = uuid.uuid4().hex
    body = orjson.dumps({"model": "manual", "messages": ask(marker), "stream": True})
    curl = subprocess.Popen(
        ["curl", "-sN", f"{edge.url}/v1/chat/completions", "-H", f"authorization: Bearer {KEY}", "-d", body],
        stdout=subprocess.PIPE,
    )
    assert curl.stdout is not None
    stream = pipeline.submitted(marker)
    stream.text("first")
    assert b"first" in curl.stdout.readline()
    stream.text("second")
    stream.end()
    rest = curl.stdout.read().decode()
    assert curl.wait(5) == 0
    curl.stdout.close()
    assert "second" in rest
    assert rest.endswith("data: [DONE]\n\n")


def test_an_id_lies_in_a_partition_of_its_edge(edge: RunningEdge, start_edge: Any, pipeline: Pipeline) -> None:
    second = start_edge(member="edge-1", instance=1, instances=2)
    for _ in range(8):
        answer = raw(second, {"model": "echo", "messages": ask()}).json()
        assert partition_of(answer["id"], 4) % 2 == 1


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)]
)
def test_other_paths_and_methods(edge: RunningEdge, method: str, path: str, status: int) -> None:
    answer = httpx2.request(method, edge.url + path, headers={"authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


def test_head_does_not_wait_for_a_stream(edge: RunningEdge) -> None:
    answer = raw(edge, {"model": "echo", "messages": ask()})
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx2.head(f"{edge.url}/v1/streams/{answer.headers['x-request-id']}", headers=headers).status_code == 405
