from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from processors.edge.cursor import Cursor, read_cursor
from processors.edge.frames import FrameWriter, accepted_frame, error_event, error_frame
from processors.edge.reader import Gap
from processors.events import Cost, End, EndError, Tokens, ToolCall, Usage

ID = "0192d2c0-0000-7000-8000-000000000001"
WRITER = FrameWriter(ID, "demo")


def parse_event(event: bytes) -> tuple[dict[str, str], Any]:
    """The fields of one server-sent event, and its data."""
    text = event.decode()
    assert text.endswith("\n\n")
    fields = dict(line.split(": ", 1) for line in text[:-2].split("\n"))
    return fields, orjson.loads(fields["data"])


@given(st.integers(0, 2**40), st.integers(0, 2**50), st.text(), st.integers(0, 3))
def test_tokens(seq: int, offset: int, text: str, choice: int) -> None:
    event = Tokens(ID, "demo", seq, text, "reasoning", choice)
    frame = orjson.loads(WRITER.frame(event, offset))
    cursor = frame.pop("cursor")
    assert frame == {"type": "tokens", "id": ID, "seq": seq, "kind": "reasoning", "text": text, "choice": choice}
    assert read_cursor(cursor, ID, "demo") == Cursor(seq, offset)
    fields, data = parse_event(WRITER.event(event, offset))
    assert (fields["id"], fields["event"], data) == (cursor, "tokens", frame | {"cursor": cursor})


def test_a_tool_call_says_which() -> None:
    frame = orjson.loads(WRITER.frame(Tokens(ID, "demo", 0, "{", "tool_call", 0, ToolCall(1, "c", "f")), 0))
    assert frame["tool"] == {"index": 1, "id": "c", "name": "f"}


def test_an_end() -> None:
    end = End(
        ID, "demo", 4, "completed", "stop", usage=Usage(1, 2, 0, 0, "provider"), cost=Cost(5, "RUB", "v")
    )  # fmt: skip
    frame = orjson.loads(WRITER.frame(end, 8))
    assert frame.pop("cursor")
    assert frame == {
        "type": "end", "id": ID, "seq": 4, "status": "completed", "reason": "stop",
        "usage": {"input": 1, "output": 2, "cached": 0, "reasoning": 0, "source": "provider"},
        "cost": {"micros": 5, "currency": "RUB", "prices": "v"},
    }  # fmt: skip
    assert parse_event(WRITER.event(end, 8))[0]["event"] == "end"


def test_an_end_with_words_and_an_error() -> None:
    end = End(ID, "demo", 0, "failed", "timeout", "ours", EndError(504, "api_error", "timeout", "x"))
    frame = orjson.loads(WRITER.frame(end, 8))
    assert frame["message"] == "ours"
    assert frame["error"] == {"code": "timeout", "param": "x", "status": 504}


def test_a_gap_has_no_cursor() -> None:
    assert orjson.loads(WRITER.gap(Gap(7))) == {"type": "gap", "id": ID, "oldest_seq": 7}
    fields, data = parse_event(WRITER.gap_event(Gap(7)))
    assert (fields.keys(), data["oldest_seq"]) == ({"event", "data"}, 7)


def test_answers_to_frames() -> None:
    assert orjson.loads(accepted_frame(3, ID)) == {"type": "accepted", "ref": 3, "id": ID}
    assert orjson.loads(error_frame("c", "m")) == {"type": "error", "code": "c", "message": "m"}
    frame = orjson.loads(error_frame("c", "m", ref="r", request_id=ID, param="p"))
    assert frame == {"type": "error", "ref": "r", "id": ID, "code": "c", "message": "m", "param": "p"}
    assert parse_event(error_event("c", "m", ID))[1]["code"] == "c"
