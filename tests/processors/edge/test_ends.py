import pytest

from processors.edge.ends import end_error, end_message, finish_reason
from processors.events import End, EndError, EndStatus


def end(status: EndStatus, reason: str, error: EndError | None = None, message: str | None = None) -> End:
    return End("i", "t", 0, status, reason, message, error)


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("completed", "stop", "stop"),
        ("completed", "tool_calls", "tool_calls"),
        ("completed", "", "stop"),
        ("stopped", "content_filter", "content_filter"),
        ("stopped", "token_limit", "length"),
        ("stopped", "budget", "length"),
        ("refused", "weapons", None),
        ("failed", "timeout", None),
        ("cancelled", "client", None),
    ],
)
def test_finish_reasons(status: EndStatus, reason: str, expected: str | None) -> None:
    assert finish_reason(end(status, reason)) == expected


def test_an_ends_own_error_is_told() -> None:
    error = EndError(429, "rate_limit_error", "rate_limit_exceeded")
    assert end_error(end("failed", "x", error)) is error


def test_an_end_without_one_is_our_error_or_a_refusal() -> None:
    assert end_error(end("failed", "idle")) == EndError(502, "api_error", "idle")
    refusal = end_error(end("refused", "weapons"))
    assert (refusal.status, refusal.type, refusal.code) == (400, "invalid_request_error", "content_filter")


def test_words() -> None:
    assert end_message(end("failed", "idle", message="ours")) == "ours"
    assert "idle" in end_message(end("failed", "idle"))
