"""OpenAI's wire format as endpoints really speak it: shapes from wire-formats' cassettes, then anything at all."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.dispatch.openai import (
    MAX_MESSAGE_CHARS,
    MAX_PART_CHARS,
    Progress,
    make_request,
    read_error,
    read_event,
)
from processors.events import AnswerPart, RunError, ToolCall, Usage
from processors.sse import Event

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
ASKED = {"id": "x", "tenant": "t", "model": "public", "messages": [{"role": "user", "content": "hi"}], "user": "u"}


def read(*events: Any, progress: Progress | None = None) -> tuple[list[AnswerPart], Progress]:
    """What events say; a dict is sent as JSON."""
    progress = progress or Progress()
    parts: list[AnswerPart] = []
    for event in events:
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        parts += read_event(progress, Event(data))
    return parts, progress


def delta(finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}], "usage": None}


def error_of(status: int, body: Any = b"", **headers: str) -> RunError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_error(status, {name.replace("_", "-"): value for name, value in headers.items()}, data, now=NOW)


class TestRequest:
    def test_only_what_is_the_providers_goes_out(self) -> None:
        asked = ASKED | {
            "temperature": 0,
            "tools": [{"type": "function"}],
            "stream": False,
            "stop": None,
            "cache": "use",
        }
        made = make_request(asked, "gpt", api_key="sk-1")
        assert made.path == "/chat/completions"
        assert made.headers["authorization"] == "Bearer sk-1"
        assert orjson.loads(made.body) == {
            "model": "gpt",
            "messages": ASKED["messages"],
            "temperature": 0,
            "tools": [{"type": "function"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_no_key_no_header(self) -> None:
        assert "authorization" not in make_request(ASKED, "gpt").headers

    @pytest.mark.parametrize(
        ("asked", "cap", "sent"),
        [
            ({}, None, {}),
            ({}, 10, {"max_tokens": 10}),
            ({"max_tokens": 5}, 10, {"max_tokens": 5}),
            ({"max_tokens": 50}, 10, {"max_tokens": 10}),
            ({"max_completion_tokens": 50}, 10, {"max_completion_tokens": 10}),
            ({"max_completion_tokens": 5, "max_tokens": 50}, 10, {"max_completion_tokens": 5, "max_tokens": 10}),
            ({"max_tokens": None}, 10, {"max_tokens": 10}),
        ],
    )
    def test_the_cap(self, asked: dict[str, Any], cap: int | None, sent: dict[str, int]) -> None:
        body = orjson.loads(make_request(ASKED | asked, "gpt", max_tokens=cap).body)
        assert {name: value for name, value in body.items() if name.startswith("max_")} == sent

    def test_what_json_cannot_carry_is_said(self) -> None:
        with pytest.raises(ValueError, match="range"):
            make_request(ASKED | {"seed": 1 << 70}, "gpt")


class TestText:
    def test_openai(self) -> None:
        parts, progress = read(
            delta(role="assistant", content=""),
            delta(content="Hel"),
            delta(content="lo"),
            delta("stop"),
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}},
            b"[DONE]",
            delta(content="late"),
        )
        assert parts == [AnswerPart("content", "Hel"), AnswerPart("content", "lo")]
        assert (progress.id, progress.finish_reason, progress.done) == ("c1", "stop", True)
        assert progress.usage == Usage(5, 2, source="provider")
        assert progress.raw_usage == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_reasoning_goes_before_content(self, name: str) -> None:
        fields: dict[str, Any] = {name: "a"}
        parts, _ = read(delta(content="b", **fields))
        assert parts == [AnswerPart("reasoning", "a"), AnswerPart("content", "b")]

    def test_the_same_reasoning_under_both_names_counts_once(self) -> None:
        assert read(delta(reasoning="a", reasoning_content="a"))[0] == [AnswerPart("reasoning", "a")]

    def test_refusal_and_choice(self) -> None:
        assert read(delta(index=1, refusal="no"))[0] == [AnswerPart("refusal", "no", 1)]

    def test_gigachat(self) -> None:
        """No id, no finish_reason until the end, usage on the last event."""
        usage = {"prompt_tokens": 21, "completion_tokens": 2, "total_tokens": 23, "precached_prompt_tokens": 4}
        last = {"choices": [{"delta": {"content": ""}, "index": 0, "finish_reason": "stop"}], "usage": usage}
        parts, progress = read({"choices": [{"delta": {"content": "Пе", "role": "assistant"}, "index": 0}]}, last)
        assert parts == [AnswerPart("content", "Пе")]
        assert progress.usage == Usage(21, 2, 4, source="provider")
        assert (progress.finish_reason, progress.id) == ("stop", None)

    def test_a_whole_answer(self) -> None:
        calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "g"}}]
        choice = {"index": 0, "message": {"content": "Hi", "tool_calls": calls}, "finish_reason": "tool_calls"}
        parts, progress = read({"id": "w", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        assert parts == [
            AnswerPart("content", "Hi"),
            AnswerPart("tool_call", "{}", 0, ToolCall(0, "a", "f")),
            AnswerPart("tool_call", "", 0, ToolCall(1, "b", "g")),
        ]
        assert progress.finish_reason == "tool_calls"

    def test_a_long_text_is_cut_into_parts_that_fit_a_record(self) -> None:
        text = "ж" * (2 * MAX_PART_CHARS + 1)
        parts, _ = read(delta(content=text))
        assert [len(part.text) for part in parts] == [MAX_PART_CHARS, MAX_PART_CHARS, 1]
        assert "".join(part.text for part in parts) == text

    def test_finish_reasons_stay_as_sent(self) -> None:
        assert read(delta("blacklist"))[1].finish_reason == "blacklist"
        assert read(delta("null"))[1].finish_reason is None


class TestToolCalls:
    def test_id_and_name_stand_on_the_first_piece_only(self) -> None:
        def piece(arguments: str | None, **fields: Any) -> dict[str, Any]:
            return delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": arguments}, **fields}])

        parts, _ = read(piece("", id="c"), piece('{"a"', id=""), piece(":1}", id="c"), piece(None))
        assert [(part.text, part.tool) for part in parts] == [
            ("", ToolCall(0, "c", "f")),
            ('{"a"', ToolCall(0)),
            (":1}", ToolCall(0)),
        ]

    def test_parallel_calls_under_one_index_stay_apart_by_id(self) -> None:
        parts, _ = read(
            *(delta(tool_calls=[{"index": 0, "id": i, "function": {"name": "f", "arguments": "{}"}}]) for i in "ab")
        )
        assert [part.tool for part in parts] == [ToolCall(0, "a", "f"), ToolCall(0, "b")]

    @pytest.mark.parametrize("arguments", ['{"city": "Псков"}', {"city": "Псков"}])
    def test_legacy_function_call(self, arguments: Any) -> None:
        parts, progress = read(delta("function_call", content="", function_call={"name": "f", "arguments": arguments}))
        assert [(part.kind, part.tool) for part in parts] == [("tool_call", ToolCall(0, None, "f"))]
        assert orjson.loads(parts[0].text) == {"city": "Псков"}
        assert progress.finish_reason == "function_call"


class TestUsage:
    def test_details(self) -> None:
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 12},
        }
        assert read({"choices": [], "usage": usage})[1].usage == Usage(9, 20, 3, 12, "provider")

    @pytest.mark.parametrize("bad", [-1, 1.5, "7", True, None, 1 << 40, [], {}])
    def test_a_count_that_is_none_leaves_the_estimate(self, bad: Any) -> None:
        progress = read({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": bad}})[1]
        assert (progress.usage, progress.error) == (None, None)
        assert progress.raw_usage is not None

    @pytest.mark.parametrize("usage", [None, [], 3, "x", {}, {"prompt_tokens_details": 3}])
    def test_usage_of_another_shape_is_no_error(self, usage: Any) -> None:
        progress = read({"choices": [], "usage": usage})[1]
        assert (progress.usage, progress.error) == (None, None)

    def test_the_last_sound_one_counts(self) -> None:
        counts = [(5, 1), (5, 2), (5, None)]
        events = [delta(content="x") | {"usage": {"prompt_tokens": i, "completion_tokens": o}} for i, o in counts]
        assert read(*events)[1].usage == Usage(5, 2, source="provider")

    def test_cached_is_never_more_than_input(self) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "precached_prompt_tokens": 50}
        assert read({"choices": [], "usage": usage})[1].usage == Usage(5, 1, 5, source="provider")

    @pytest.mark.parametrize("extra", [b'"x":"%s"' % (b"y" * 5000), b'"x":123456789012345678901234567890'])
    def test_raw_usage_that_no_event_can_carry_is_left_out(self, extra: bytes) -> None:
        event = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,%s}}' % extra
        progress = read(event)[1]
        assert (progress.raw_usage, progress.usage) == (None, Usage(1, 1, source="provider"))


class TestBadEvents:
    @pytest.mark.parametrize(
        "event",
        [
            b'{"choices":[{"delta":{"con',
            b"\xff",
            b"12",
            b"[1]",
            b"[" * 100_000,
            b'{"choices":[{"delta":{"content":"\\ud800"}}]}',
            {"choices": 3},
            {"choices": [None]},
            {"choices": [{"delta": "x"}]},
            {"choices": [{"delta": {"content": 3}}]},
            {"choices": [{"delta": {"content": ["x"]}}]},
            {"choices": [{"delta": {}, "index": "0"}]},
            {"choices": [{"delta": {}, "finish_reason": 3}]},
            {"choices": [{"delta": {"tool_calls": {}}}]},
            {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": 3}}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"id": "x" * 1000}]}}]},
        ],
    )
    def test_bad_response_that_does_not_repeat_the_text(self, event: Any) -> None:
        parts, progress = read(delta(content="before"), event, delta(content="after"))
        assert [part.text for part in parts] == ["before"]
        assert progress.error is not None
        assert progress.error.kind == "bad_response"

    @pytest.mark.parametrize(
        "event",
        [
            b"",
            b" ",
            {},
            {"choices": None},
            {"choices": []},
            {"choices": [{}]},
            {"choices": [{"delta": None}]},
            {"choices": [{"delta": {"content": None, "tool_calls": None}}]},
            {"choices": [{"delta": {"audio": {}}}]},
            {"error": None, "choices": []},
            {"prompt_filter_results": [], "choices": []},
            {"type": "ping"},
        ],
    )
    def test_what_says_nothing_is_skipped(self, event: Any) -> None:
        parts, progress = read(event)
        assert (parts, progress.error) == ([], None)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([
                "choices", "delta", "message", "content", "tool_calls", "function", "arguments", "index", "usage",
                "prompt_tokens", "prompt_tokens_details", "error", "code", "type", "status", "finish_reason", "id",
                "object", "detail", "httpCode",
            ]),
            inner,
            max_size=4,
        )
    ), max_leaves=12), st.sampled_from([200, 400, 503]))  # fmt: skip
    def test_no_json_is_too_strange(self, body: Any, status: int) -> None:
        data = orjson.dumps(body) if _fits(body) else b"{}"
        progress = Progress()
        read_event(progress, Event(data))
        read_event(Progress(), Event(data, "error"))
        assert progress.error is None or progress.error.message
        assert error_of(status, data).message


def _fits(body: Any) -> bool:
    try:
        orjson.dumps(body)
    except TypeError:
        return False
    return True


class TestErrorsInside:
    @pytest.mark.parametrize(
        ("event", "kind", "status"),
        [
            ({"error": {"message": "m", "type": "server_error"}}, "provider_error", None),
            ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, "rate_limited", None),
            ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, "invalid_request", 400),
            ({"error": {"message": "m", "httpCode": 429, "grpcCode": 8}}, "rate_limited", 429),
            ({"error": "m"}, "provider_error", None),
            ({"error": {"message": "m"}, "choices": [{"delta": {}, "finish_reason": "error"}]}, "provider_error", None),
            ({"code": "DataInspectionFailed", "message": "m", "request_id": "r"}, "content_filter", None),
            ({"code": "Throttling.RateQuota", "message": "m", "request_id": "r"}, "rate_limited", None),
            ({"status": 503, "message": "m"}, "provider_error", 503),
            ({"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, "not_found", 404),
        ],
    )
    def test_shapes(self, event: dict[str, Any], kind: str, status: int | None) -> None:
        progress = read(event)[1]
        assert progress.error is not None
        assert (progress.error.kind, progress.error.message, progress.error.status) == (kind, "m", status)

    def test_an_event_named_error(self) -> None:
        progress = Progress()
        read_event(progress, Event(b'{"detail":"overloaded"}', "error"))
        assert progress.error == RunError("provider_error", "overloaded")

    def test_text_of_the_same_event_still_counts(self) -> None:
        parts, progress = read(delta(content="x") | {"error": {"message": "m"}})
        assert [part.text for part in parts] == ["x"]
        assert progress.error is not None


class TestHttpErrors:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, {"error": {"message": "m", "type": "invalid_request_error", "code": None}}, "invalid_request"),
            (400, {"error": {"message": "m", "code": "Arrearage"}}, "unauthorized"),
            (400, {"error": {"message": "m", "code": "data_inspection_failed"}}, "content_filter"),
            (400, {"error": {"message": "m", "type": "invalid_request_error", "code": "model_not_found"}}, "not_found"),
            (401, {"status": 401, "message": "m"}, "unauthorized"),
            (402, {"status": 402, "message": "m"}, "unauthorized"),
            (403, {"code": "AccessDenied", "message": "m"}, "unauthorized"),
            (404, {"detail": "m"}, "not_found"),
            (413, {"message": "m"}, "invalid_request"),
            (422, {"status": 422, "message": "m"}, "invalid_request"),
            (
                429,
                {"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}},
                "rate_limited",
            ),
            (500, {"error": {"message": "m", "type": "invalid_request_error"}}, "provider_error"),
            (503, {"error": "m"}, "provider_error"),
        ],
    )
    def test_classes(self, status: int, body: dict[str, Any], kind: str) -> None:
        assert error_of(status, body) == RunError(kind, "m", status)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"", "no body"),
            (b"<html><h1>Bad gateway</h1>", "an HTML page"),
            (b"upstream connect error", "text that is not JSON"),
            (b"\xff\xfe", "text that is not JSON"),
            (b"[]", "HTTP 502"),
            (b"null", "HTTP 502"),
            (b'{"error":{"message":""}}', "HTTP 502"),
            (b"[" * 100_000, "text that is not JSON"),
        ],
    )
    def test_bodies_that_say_nothing(self, body: bytes, said: str) -> None:
        error = error_of(502, body)
        assert error.kind == "provider_error"
        assert said in error.message

    def test_a_redirect_is_a_bad_response(self) -> None:
        assert error_of(302).kind == "bad_response"

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry_after": "2"}, 2.0),
            ({"retry_after": "0.5"}, 0.5),
            ({"retry_after": "-3"}, None),
            ({"retry_after": "nan"}, None),
            ({"retry_after": "1e12"}, 86_400.0),
            ({"retry_after": "soon"}, None),
            ({"retry_after": "22 Nov 99999999999"}, None),
            ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
            ({"retry_after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
            ({"retry_after_ms": "150", "retry_after": "2"}, 0.15),
            ({"retry_after_ms": "x", "retry_after": "2"}, 2.0),
        ],
    )
    def test_retry_after(self, headers: dict[str, str], seconds: float | None) -> None:
        assert error_of(429, **headers).retry_after_s == seconds

    @given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w+\Z"))
    def test_no_retry_after_is_too_strange(self, value: str) -> None:
        assert (error_of(429, retry_after=value).retry_after_s or 0) >= 0


class TestSecrets:
    def test_the_key_is_never_repeated(self) -> None:
        message = "Incorrect key my-own-key-123, header Bearer abcdef123456, also sk-live****99 and eyJhbGciOi.J9.abc"
        error = read_error(401, {}, orjson.dumps({"error": {"message": message}}), now=NOW, secrets=("my-own-key-123",))
        assert error.message == "Incorrect key ***, header *** also *** and ***"

    def test_nor_where_the_message_is_cut(self) -> None:
        message = "x" * (MAX_MESSAGE_CHARS - 6) + "my-own-key-123"
        progress = Progress(secrets=("my-own-key-123",))
        read({"error": {"message": message}}, progress=progress)
        assert progress.error is not None
        assert "my-" not in progress.error.message

    def test_messages_are_one_short_printable_line(self) -> None:
        error = error_of(500, {"message": "a\n\tb\x1b[31m " + "word " * 1000})
        assert error.message.startswith("a b[31m word")
        assert len(error.message) == MAX_MESSAGE_CHARS
        assert error.message.isprintable()
