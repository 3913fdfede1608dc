"""Bytes to events and back: golden files of every past version, and nothing but BadRecord for anything else."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import codec, events
from processors.codec import DECODERS, BadRecord, check_version, decode, encode

GOLDEN = Path(__file__).parents[1] / "golden"
SAMPLES = sorted(GOLDEN.glob("v*/*/*.json"))
FREE = {"metadata", "raw_usage", "policy", "request", "scores", "rules", "actions", "granted"}
"""Maps whose keys are anybody's."""
OF_TOPICS = [path for path in SAMPLES if path.parent.name in DECODERS]


def read(path: Path) -> Any:
    """A golden file as its reader decodes it. Requests are read in two steps by admission, without a decoder here."""
    if path.parent.name != "requests":
        return decode(path.parent.name, path.read_bytes())
    kind = events.Envelope if path.stem.startswith("cancel") else events.Request
    return msgspec.json.decode(path.read_bytes(), type=kind)


def spelled(value: Any, then: Any = ...) -> Any:
    """An event as plain data with the name of every type and with every field, those at their default too.

    Against `then`, an older spelling, fields that it does not have are left out where they are at their default: a type
    may grow, but by defaults only.
    """
    if isinstance(value, msgspec.Struct):
        kind = type(value).__name__
        old = then.get(kind, {}) if isinstance(then, dict) else ...
        return {
            kind: {
                field.name: spelled(getattr(value, field.name), ... if old is ... else old.get(field.name))
                for field in msgspec.structs.fields(value)
                if old is ... or field.name in old or getattr(value, field.name) != field.default
            }
        }
    if isinstance(value, list | tuple):
        olds = then if isinstance(then, list) and len(then) == len(value) else [then] * len(value)
        return [spelled(item, old) for item, old in zip(value, olds, strict=True)]
    if isinstance(value, datetime):
        return value.isoformat()
    return json.loads(bytes(value) or b"null") if isinstance(value, msgspec.Raw) else value


def lost(wire: Any, event: Any, at: str = "") -> list[str]:
    """Where a spelled event differs from the JSON it was read from; the tag stands in the type's name."""
    if isinstance(wire, list):
        return [error for number, item in enumerate(wire) for error in lost(item, event[number], f"{at}[{number}]")]
    if not isinstance(wire, dict):
        same = datetime.fromisoformat(wire) == datetime.fromisoformat(event) if is_time(wire) else wire == event
        return [] if same else [f"{at}: {wire!r} became {event!r}"]
    [(kind, fields)] = event.items() if is_spelled(event) else [("", event)]
    tag = getattr(events, kind).__struct_config__.tag if kind else None
    return [
        error
        for name, item in wire.items()
        if not (name == "type" and item == tag)
        for error in lost(item, fields[name], f"{at}.{name}")
    ]


def is_spelled(event: Any) -> bool:
    return len(event) == 1 and next(iter(event)) in events.__all__


def is_time(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", value) is not None


def name_of(path: Path) -> str:
    return str(path.relative_to(GOLDEN).with_suffix(""))


@pytest.mark.parametrize("path", SAMPLES, ids=name_of)
class TestGolden:
    """tests/golden/vN/TOPIC/TYPE[-VARIANT].json as they were written, tests/golden/expected/… as they must be read."""

    def test_it_is_read_as_ever(self, path):
        file = GOLDEN / "expected" / path.relative_to(GOLDEN)
        if not file.exists():  # a new sample: check by eye what is read, then keep it
            pytest.fail(f"{file} is missing; to be:\n{json.dumps(spelled(read(path)), ensure_ascii=False, indent=2)}")
        expected = json.loads(file.read_bytes())
        assert spelled(read(path), expected) == expected

    def test_what_was_written_is_what_is_read(self, path):
        assert lost(json.loads(path.read_bytes()), spelled(read(path))) == []

    def test_it_is_written_and_read_back_the_same(self, path):
        event = read(path)
        again = msgspec.json.decode(encode(event), type=type(event))
        assert spelled(again) == spelled(event)

    def test_it_is_named_after_its_type(self, path):
        value = json.loads(path.read_bytes())
        tag = value.get("type", "cancel" if value.get("cancel") else "request")
        assert path.stem.partition("-")[0] == tag


class TestEvolution:
    """What later versions will send."""

    @pytest.mark.parametrize("path", OF_TOPICS, ids=name_of)
    def test_unknown_fields_are_ignored(self, path):
        value = json.loads(path.read_bytes())
        grown = {**value, "new": {"a": [1, None]}}
        for name, inner in value.items():
            if isinstance(inner, dict) and name not in FREE:
                grown[name] = {**inner, "new": "y"}
        assert spelled(decode(path.parent.name, json.dumps(grown).encode())) == spelled(read(path))

    @pytest.mark.parametrize("version", [b"2", b"2.0", b"10", b"one", b"", b"-1", b"1e0", b"\xff", b" 1", "²".encode()])
    def test_another_major_version_is_refused_by_name(self, version):
        with pytest.raises(BadRecord, match="this reader knows up to 1") as caught:
            decode("journal", encode(events.RunAlive("i", "t", "r")), [("v", version)])
        assert caught.value.code == "version"

    @pytest.mark.parametrize("headers", [None, [], [("v", b"1")], [("v", b"1.7")], [("V", b"9")], [("x", None)]])
    def test_this_major_version_is_accepted(self, headers):
        event = events.RunAlive("i", "t", "r")
        assert decode("journal", encode(event), headers) == event

    @pytest.mark.parametrize("version", [None, b"9" * 5000], ids=["null", "endless"])
    def test_a_version_that_is_none_is_refused_too(self, version):
        with pytest.raises(BadRecord, match="version"):
            check_version([("v", version)])


class TestBadRecords:
    """Named rejections."""

    def test_no_value(self):
        with pytest.raises(BadRecord) as caught:
            decode("journal", None)
        assert (caught.value.code, caught.value.message) == ("null_value", "the record has no value")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (b"", "truncated"),
            (b"\xff\xfe", "malformed"),
            (b"null", "Expected `object`, got `null`"),
            (b"[]", "Expected `object`, got `array`"),
            (b"{}", "missing required field `type`"),
            (b'{"type":"chonk"}', r"Invalid value 'chonk' - at `\$\.type`"),
            (b'{"type":"chunk","id":"i","tenant":"t","run":"r","text":"x"}', "missing required field `n`"),
            (b'{"type":"chunk","id":"i","tenant":"t","run":"r","n":"1","text":"x"}', r"`int`, got `str` - at `\$\.n`"),
            (b'{"type":"chunk","id":"i","tenant":"t","run":"r","n":1,"text":"\xff"}', "utf-8"),
            (b'{"type":"chunk","id":"i","tenant":"t","run":"r","n":1,"text":"x","kind":"song"}', r"at `\$\.kind`"),
            (b'{"type":"run_alive","id":"i","tenant":"t","run":"r"}!', "trailing characters"),
        ],
    )
    def test_the_field_at_fault_is_named(self, value, message):
        with pytest.raises(BadRecord, match=f"^undecodable: .*{message}") as caught:
            decode("journal", value)
        assert caught.value.code == "undecodable"

    def test_a_deep_value(self):
        deep = b'{"type":"run_ended","raw_usage":{"a":' + b"[" * 200_000
        with pytest.raises(BadRecord, match="undecodable"):
            decode("journal", deep)


def test_a_field_that_came_later_is_passed_over_only_at_its_default():
    alive = events.RunAlive("i", "t", "r")
    chunk = events.Chunk("i", "t", "r", 0, "x", choice=1)
    assert spelled(alive, {"RunAlive": {"id": "i", "tenant": "t", "run": "r"}}) == spelled(alive)
    old = {"Chunk": {"id": "i", "tenant": "t", "run": "r", "n": 0, "text": "x"}}
    assert spelled(chunk, old) == {"Chunk": {**old["Chunk"], "choice": 1}}


class TestFuzz:
    """Whatever stands in a record, its reader gets an event or a BadRecord."""

    @given(st.sampled_from(sorted(DECODERS)), st.binary())
    def test_bytes(self, topic, value):
        check(topic, value)

    @given(st.data())
    def test_golden_bytes_with_something_else_inside(self, data):
        path = data.draw(st.sampled_from(OF_TOPICS), label="file")
        value = path.read_bytes()
        start = data.draw(st.integers(0, len(value)), label="from")
        end = data.draw(st.integers(start, min(len(value), start + 40)), label="to")
        check(path.parent.name, value[:start] + data.draw(st.binary(max_size=12)) + value[end:])

    @given(st.data())
    def test_golden_events_with_another_value_in_a_field(self, data):
        path = data.draw(st.sampled_from(OF_TOPICS), label="file")
        value = json.loads(path.read_bytes())
        name = data.draw(st.sampled_from(sorted(value)), label="field")
        value[name] = data.draw(JSON, label="value")
        check(path.parent.name, json.dumps(value).encode())

    @given(st.lists(st.tuples(st.sampled_from(["v", "traceparent"]), st.binary(max_size=30)), max_size=3))
    def test_headers(self, headers):
        check("journal", b'{"type":"run_alive","id":"i","tenant":"t","run":"r"}', headers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def check(topic: str, value: bytes, headers: codec.Headers = None) -> None:
    """Anything but BadRecord fails the test; what is read must be fit to be written."""
    try:
        event = decode(topic, value, headers)
    except BadRecord:
        return
    encode(event)


class TestCompleteness:
    """A new event, variant or kind of text comes with its golden file."""

    def test_every_event_has_a_file(self):
        found = {(path.parent.name, type(read(path))) for path in OF_TOPICS}
        assert found == {
            (topic, kind) for topic, decoder in DECODERS.items() for kind in get_args(decoder.type) or (decoder.type,)
        }

    def test_every_choice_has_a_file(self):
        decisions = [event for path in OF_TOPICS if isinstance(event := read(path), events.Decision)]
        kinds = {type(event.choice) for event in decisions}
        assert kinds == {events.Order, events.CachedAnswer, events.Refusal, events.Rejection}

    @pytest.mark.parametrize(
        ("kind", "field", "literal"),
        [
            (events.Chunk, "kind", events.Kind),
            (events.End, "status", events.EndStatus),
        ],
    )
    def test_every_kind_has_a_file(self, kind, field, literal):
        found = {getattr(event, field) for path in OF_TOPICS if isinstance(event := read(path), kind)}
        assert found == set(get_args(literal))

    def test_requests_have_files(self):
        assert {type(read(path)) for path in SAMPLES if path.parent.name == "requests"} == {
            events.Request,
            events.Envelope,
        }


def test_a_chunk_is_told_by_its_first_bytes():
    for path in OF_TOPICS:
        event = read(path)
        assert encode(event).startswith(codec.CHUNK_PREFIX) == isinstance(event, events.Chunk)


def test_the_hot_paths_only_header_says_our_version():
    check_version([(name, bytes(value)) for name, value in codec.VERSION_HEADERS if isinstance(value, bytes)])
    assert codec.VERSION_HEADERS == [("v", b"1")]


@pytest.mark.parametrize(("topic", "event", "field"), [
    ("journal", "decision-order", "deadline"), ("journal", "decision-order", "expires_at"),
    ("journal", "decision-order", "submitted"), ("outcomes", "outcome-failed", "deadline"),
    ("health", "health", "at"), ("keys", "api_key", "created"),
])  # fmt: skip
def test_a_time_without_a_zone_is_no_time(topic: str, event: str, field: str) -> None:
    """It can be compared with no other, so whoever tried would die of it."""
    raw = (GOLDEN / "v1" / topic / f"{event}.json").read_text()
    bare = re.sub(rf'("{field}": "[^"]+?)Z"', r'\1"', raw)
    assert bare != raw
    decode(topic, raw.encode())
    with pytest.raises(BadRecord, match=field):
        decode(topic, bare.encode())
