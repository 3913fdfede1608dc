"""The bytes are read back by the official client's own types, which is what a user's program does with them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from processors.edge.openai_chunks import DONE, ChunkWriter, WholeAnswer, error_object
from processors.edge.reader import Released
from processors.events import End, EndError, EndStatus, Kind, Tokens, ToolCall, Usage
from processors.identity import uuid7

ID = uuid7(1_800_000_000_123, bytes(10))
USAGE = Usage(input=11, output=7, cached=3, reasoning=2, source="provider")


def text(content: str, seq: int = 0, kind: Kind = "content", tool: ToolCall | None = None, choice: int = 0) -> Tokens:
    return Tokens(ID, "demo", seq, content, kind, choice, tool)


def end(status: EndStatus = "completed", reason: str = "stop", error: EndError | None = None) -> End:
    return End(ID, "demo", 9, status, reason, "ours", error, USAGE)


def parse(body: bytes) -> list[Any]:
    """Events of an OpenAI stream; each chunk through the client's type, strictly."""
    assert body.endswith(b"\n\n")
    events: list[Any] = []
    for line in body.decode().split("\n\n")[:-1]:
        assert line.startswith("data: ")
        assert "\n" not in line
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            events.append(data)
            continue
        parsed = orjson.loads(data)
        events.append(parsed if "error" in parsed else ChatCompletionChunk.model_validate(parsed, strict=True))
    return events


def write(*events: Released, include_usage: bool = False) -> list[Any]:
    return parse(ChunkWriter(ID, 'a "model"', include_usage).write(events))


def whole(*events: Tokens, closing: End | None = None) -> ChatCompletion:
    answer = WholeAnswer(ID, "m")
    for event in events:
        answer.take(event)
    return ChatCompletion.model_validate(orjson.loads(answer.result(closing or end())), strict=True)


@given(st.lists(st.text(), min_size=1))
def test_any_text_arrives_as_it_was_streamed_and_whole(texts: list[str]) -> None:
    events = [text(content, seq) for seq, content in enumerate(texts)]
    *chunks, last, done = write(*events, end())
    assert [chunk.choices[0].delta.content for chunk in chunks] == texts
    assert (last.choices[0].finish_reason, done) == ("stop", "[DONE]")
    assert whole(*events).choices[0].message.content == "".join(texts)


def test_a_chunk_says_what_it_belongs_to() -> None:
    first, second, *_ = write(text("a"), text("b", 1), end())
    assert (first.id, first.object, first.created, first.model) == (
        ID, "chat.completion.chunk", 1_800_000_000, 'a "model"',
    )  # fmt: skip
    assert (first.choices[0].delta.role, second.choices[0].delta.role) == ("assistant", None)


def test_kinds_have_their_own_fields() -> None:
    events = (text("why", kind="reasoning"), text("no", 1, kind="refusal"))
    reasoning, refusal, *_ = write(*events, end())
    assert reasoning.choices[0].delta.reasoning_content == "why"
    assert refusal.choices[0].delta.refusal == "no"
    message = whole(*events).choices[0].message
    assert (message.reasoning_content, message.refusal, message.content) == ("why", "no", None)  # type: ignore[attr-defined]


def test_tool_calls_are_streamed_by_index_and_gathered() -> None:
    events = (
        text('{"a"', 0, "tool_call", ToolCall(0, "call_1", "f")),
        text(": 1}", 1, "tool_call", ToolCall(0)),
        text("{}", 2, "tool_call", ToolCall(1, "call_2", "g")),
    )
    first, second, *_ = write(*events, end(reason="tool_calls"))
    call = first.choices[0].delta.tool_calls[0]
    assert (call.index, call.id, call.type, call.function.name, call.function.arguments) == (
        0, "call_1", "function", "f", '{"a"',
    )  # fmt: skip
    call = second.choices[0].delta.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == (None, None, ": 1}")
    choice = whole(*events, closing=end(reason="tool_calls")).choices[0]
    calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]  # type: ignore[union-attr]
    assert calls == [("call_1", "f", '{"a": 1}'), ("call_2", "g", "{}")]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)


def test_usage_comes_last_and_only_where_asked_for() -> None:
    *chunks, usage, done = write(text("a"), end(), include_usage=True)
    assert [chunk.usage for chunk in chunks] == [None, None]
    assert (usage.choices, usage.usage.prompt_tokens, usage.usage.completion_tokens) == ([], 11, 7)
    assert usage.usage.total_tokens == 18
    assert usage.usage.prompt_tokens_details.cached_tokens == 3
    assert usage.usage.completion_tokens_details.reasoning_tokens == 2
    assert done == "[DONE]"
    assert "usage" not in orjson.loads(ChunkWriter(ID, "m", False).write([text("a")])[6:])


def test_an_empty_answer_has_a_finish_reason_and_empty_content() -> None:
    chunk, done = write(end(reason="length"))
    assert (chunk.choices[0].finish_reason, done) == ("length", "[DONE]")
    assert whole(closing=end(reason="length")).choices[0].message.content == ""


@pytest.mark.parametrize(("reason", "told"), [("content_filter", "content_filter"), ("token_limit", "length")])
def test_a_stop_is_told_as_a_finish_reason(reason: str, told: str) -> None:
    *_, last, done = write(text("a"), end("stopped", reason))
    assert (last.choices[0].finish_reason, done) == (told, "[DONE]")
    assert whole(text("a"), closing=end("stopped", reason)).choices[0].finish_reason == told


def test_a_failure_is_an_error_without_done() -> None:
    failed = end("failed", "interrupted", EndError(502, "api_error", "interrupted", "x"))
    *_, error = write(text("a"), failed)
    assert error == {"error": {"message": "ours", "type": "api_error", "param": "x", "code": "interrupted"}}
    assert DONE not in ChunkWriter(ID, "m", True).write([failed])


def test_several_choices_keep_apart() -> None:
    *chunks, first, second, _ = write(text("a"), text("b", 1, choice=1), text("c", 2), end())
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", "assistant", None]
    assert (first.choices[0].index, second.choices[0].index) == (0, 1)
    assert [c.message.content for c in whole(text("a"), text("b", 1, choice=1), text("c", 2)).choices] == ["ac", "b"]


def test_the_error_object() -> None:
    error = orjson.loads(error_object("m", "invalid_request_error", "c"))["error"]
    assert error == {"message": "m", "type": "invalid_request_error", "param": None, "code": "c"}
