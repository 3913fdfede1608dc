"""The event-stream parser against a reading of the standard's own algorithm, and against every way to cut the bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.sse import Event, EventTooLarge, SseParser


def by_the_standard(stream: bytes) -> tuple[list[Event], Event | None]:
    """WHATWG HTML 9.2.6 on the whole stream at once, in its own words; and what its end leaves undispatched."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, rest = text.split(b"\n")
    events: list[Event] = []
    data, kind, last_id = b"", b"", b""

    def field(line: bytes) -> None:
        nonlocal data, kind, last_id
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            data += value + b"\n"
        elif name == b"event":
            kind = value
        elif name == b"id" and b"\0" not in value:
            last_id = value

    def dispatched() -> Event | None:
        nonlocal data, kind
        name = kind.decode("utf-8", "replace") or "message"
        event = Event(data[:-1], name, last_id.decode("utf-8", "replace")) if data else None
        data, kind = b"", b""
        return event

    for line in lines:
        if line:
            field(line)
        elif (event := dispatched()) is not None:
            events.append(event)
    if rest:
        field(rest)
    return events, dispatched()


def parse(*reads: bytes, limit: int = 1 << 20) -> tuple[list[Event], Event | None, bool]:
    """The events of these reads, the unfinished one, and whether the bound was passed."""
    parser = SseParser(limit)
    events: list[Event] = []
    try:
        for read in reads:
            events += parser.feed(read)
    except EventTooLarge as error:
        return events + error.events, None, True
    return events, parser.finish(), False


def datas(*reads: bytes) -> list[bytes]:
    return [event.data for event in parse(*reads)[0]]


words = ["data", "data:", "data: ", "event: ", "id: ", "id:\0", "retry: 3", ": note", "x", " ", ":", "привет", "\ufeff"]
ends = ["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", ""]
streams = st.lists(st.sampled_from(words + ends * 2)).map(lambda parts: "".join(parts).encode()) | st.binary(
    max_size=40
)


def cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]


@given(streams, st.data())
@example(b"\xef\xbb\xbfdata: x\n\n", None)
@example(b"\xef\xbb", None)
@example(b"data: x\r\r\n\n", None)
def test_any_split_gives_what_the_standard_says(stream: bytes, data: st.DataObject | None) -> None:
    expected = by_the_standard(stream)
    assert parse(stream)[:2] == expected
    assert parse(*(stream[i : i + 1] for i in range(len(stream))))[:2] == expected
    if data is not None:
        assert parse(*cut(data, stream))[:2] == expected


@given(streams, st.integers(1, 12), st.data())
def test_any_split_meets_the_bound_at_the_same_event(stream: bytes, limit: int, data: st.DataObject) -> None:
    events, _, too_large = parse(stream, limit=limit)
    assert parse(*cut(data, stream), limit=limit)[0] == events
    assert parse(*cut(data, stream), limit=limit)[2] == too_large


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata:b\n\n", [b"a", b"b"]),
        (b"data: a\ndata\ndata:  b\n\n", [b"a\n\n b"]),
        (b"data\n\n", [b""]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": hb\n\ndata: a\r\rdata: b\r\n\r\n", [b"a", b"b"]),
        (b"retry: 10\nfoo: bar\nDATA: no\n\n", []),
        (b"data: a\n", []),
    ],
)
def test_what_is_data(stream: bytes, expected: list[bytes]) -> None:
    assert datas(stream) == expected


def test_names_and_ids() -> None:
    events, _, _ = parse(b"event: e\nid: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\nevent: lost\n\ndata: d\n\n")
    assert [(event.name, event.id) for event in events] == [
        ("e", "7"),
        ("message", "7"),
        ("message", ""),
        ("message", ""),
    ]


def test_a_character_split_between_reads_is_whole() -> None:
    stream = "data: ж\n\n".encode()
    assert datas(stream[:7], stream[7:]) == ["ж".encode()]


def test_an_lf_after_a_cr_of_the_read_before_ends_no_line() -> None:
    assert datas(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]


@pytest.mark.parametrize("tail", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r"])
def test_an_unfinished_event_is_told_but_not_dispatched(tail: bytes) -> None:
    events, left, _ = parse(b"data: a\n\n" + tail)
    assert [event.data for event in events] == [b"a"]
    assert left == Event(b"[DONE]")


def test_no_newline_does_not_grow_memory() -> None:
    parser, block = SseParser(), b"x" * 65_536
    for _ in range(16):
        parser.feed(block)
    with pytest.raises(EventTooLarge):
        parser.feed(block)
    assert len(parser._partial) <= (1 << 20) + len(block)


def test_many_lines_of_one_event_are_bounded_too() -> None:
    parser = SseParser(100)
    with pytest.raises(EventTooLarge) as raised:
        parser.feed(b"data: ok\n\n" + b"data: 0123456789\n" * 20)
    assert [event.data for event in raised.value.events] == [b"ok"]


def test_a_long_line_costs_no_more_than_its_length() -> None:
    """Copying what has come so far with each read would move 64 GB here, and run into the test's time-out."""
    parser = SseParser(64 << 20)
    for _ in range(8192):
        assert parser.feed(b"x" * 2048) == []
    assert parser.feed(b"\n\n") == []
