"""A provider's bytes say the same however they are cut: characters, lines and events may be cut anywhere."""

import itertools

import orjson
from hypothesis import given
from hypothesis import strategies as st

from connectors.providers.answer import AnswerReader
from connectors.providers.wire import WIRES
from processors.dispatch.openai import Progress

SAID = ("Код: ", "ёжик 🦔", " 汉字", "\r\n", 'qu"ote', "e\u0301", " — ", "bad phrase")


def stream(pieces: list[str], end: bytes, bom: bool) -> bytes:
    """Chat completion chunks as server-sent events, characters beyond ASCII as they are."""
    chunks = [orjson.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    lines = [b"data: " + data + end + end for data in [*chunks, b"[DONE]"]]
    return b"\xef\xbb\xbf" * bom + b"".join(lines)


def read(reads: list[bytes]) -> str:
    """The text of a body in these reads; what could not be read is an error."""
    progress = Progress()
    reader = AnswerReader(WIRES["openai"], progress)
    parts = [part for data in reads for part in reader.feed(data)] + reader.finish()
    assert progress.error is None
    return "".join(part.text for part in parts)


pieces = st.lists(st.sampled_from(SAID) | st.text(max_size=5), min_size=1, max_size=6)


@given(pieces, st.sampled_from((b"\n", b"\r\n", b"\r")), st.booleans())
def test_cut_at_every_byte(pieces: list[str], end: bytes, bom: bool) -> None:
    body = stream(pieces, end, bom)
    text = "".join(pieces)
    assert read([body[at : at + 1] for at in range(len(body))]) == text
    for at in range(len(body)):
        assert read([body[:at], body[at:]]) == text


@given(pieces, st.lists(st.integers(0, 2000), max_size=12))
def test_cut_anywhere(pieces: list[str], places: list[int]) -> None:
    body = stream(pieces, b"\n", False)
    bounds = [0, *sorted(place % len(body) for place in places), len(body)]
    assert read([body[a:b] for a, b in itertools.pairwise(bounds)]) == "".join(pieces)


def test_control_bytes_decoded_read_by_read_would_break() -> None:
    body = stream(["ё"], b"\n", False)
    at = body.index("ё".encode()) + 1
    assert "ё" not in body[:at].decode(errors="replace") + body[at:].decode(errors="replace")
    assert read([body[:at], body[at:]]) == "ё"
