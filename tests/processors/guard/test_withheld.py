"""Zero characters of a caught span are released, and the released text with the withheld spans is the provider's text.

What is checked is a whole partition of the journal: streams side by side, each with several texts, under rules of every
kind, however the provider cut them, the guard killed and rebuilt at any point. The oracle knows no automaton: it takes
what the verdicts say, cuts that out of the provider's text, and compares.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.events import Chunk, End, Event, Kind, Stop, Tokens, ToolCall, Verdict
from processors.guard.automaton import Span
from processors.guard.outputs import Out
from processors.guard.personal import DETECTORS
from processors.guard.text import _SENTENCE_ENDS, Fed, GuardedText, Placeholders
from processors.guard.values import spelt, words
from processors.record import Record
from tests.processors.guard.disguises import (
    DATA_DISGUISES,
    DISGUISES,
    FORMS,
    PHRASES,
    STOPPING,
    Plant,
    Text,
    texts,
)
from tests.processors.guard.rebuilt import Snapshots, a_policy
from tests.processors.guard.test_fold import DOWN, A, B, C
from tests.samples import decision, records, run

Lane = tuple[Kind, int]
LANES: tuple[Lane, ...] = (("content", 0), ("reasoning", 0), ("content", 1), ("tool_call", 0))


class Story(NamedTuple):
    """A request: its texts by lane, as the provider cut them; did a first attempt fail with text held back?"""

    id: str
    texts: dict[Lane, Text]
    pieces: list[tuple[Lane, str]]
    failover: bool = False

    def events(self, hold: str) -> list[Event]:
        """Its records."""
        first = decision(self.id, policy=a_policy(hold).version, cache_key="k")
        events: list[Event] = [first]
        attempt = 1
        if self.failover:
            events += run(self.id, ["silver"], "failed", error=DOWN)
            events.append(decision(self.id, policy=a_policy(hold).version, attempt=2))
            attempt = 2
        chunks: list[Event] = []
        for n, ((kind, choice), text) in enumerate(self.pieces):
            tool = ToolCall(0, "call", "look_up") if kind == "tool_call" else None
            chunks.append(Chunk(self.id, "demo", "last", n, text, kind, choice, tool))
        started, *_, ended = run(self.id, [text for _, text in self.pieces], "last", attempt=attempt)
        return [*events, started, *chunks, ended]


def written_once(outputs: Iterable[Out], story: Story) -> tuple[list[Tokens], list[Verdict], End]:
    """A request's events. A rebuilt guard may write one again, but never a number with something else."""
    tokens: dict[int, Tokens] = {}
    verdicts: dict[int, Verdict] = {}
    ends: list[End] = []
    for event in (out.event for out in outputs if out.key == story.id):
        if isinstance(event, Tokens):
            assert tokens.setdefault(event.seq, event) == event
        elif isinstance(event, Verdict):
            assert verdicts.setdefault(event.n, event) == event
        elif isinstance(event, End):
            ends.append(event)
    assert ends
    assert all(end == ends[0] for end in ends)
    assert sorted(tokens) == list(range(ends[0].seq))
    assert sorted(verdicts) == list(range(len(verdicts)))
    return [tokens[n] for n in sorted(tokens)], [verdicts[n] for n in sorted(verdicts)], ends[0]


class Expected:
    """What may be read of a request's texts, told from the verdicts alone."""

    def __init__(self, story: Story, verdicts: list[Verdict]) -> None:
        self._numbers: dict[str, list[str]] = {}
        self._parts: dict[Lane, list[tuple[int, str]]] = {lane: [] for lane in story.texts}
        self.stops = [one for one in verdicts if one.action == "stop" and one.run == "last"]
        self.masked: dict[Lane, set[int]] = {lane: set() for lane in story.texts}
        self.inside: dict[Lane, set[int]] = {lane: set() for lane in story.texts}
        ends = dict.fromkeys(story.texts, 0)
        for one in verdicts:
            lane = (one.kind, one.choice)
            start, end = one.span
            self.inside[lane] |= set(range(start + 1, end))
            if one.action != "mask" or any(
                (stop.kind, stop.choice) == lane and start >= stop.span[0] for stop in self.stops
            ):
                continue
            if start >= ends[lane]:
                self._parts[lane].append((start, self._placeholder(one, story.texts[lane].text[start:end])))
            ends[lane] = max(ends[lane], end)
            self.masked[lane] |= set(range(start, end))

    def _placeholder(self, verdict: Verdict, value: str) -> str:
        detector = DETECTORS.get(verdict.detector)
        name = detector.placeholder if detector else verdict.category.upper()
        same = detector.same if detector else spelt if verdict.rule in ("ticket", "launch") else words
        known = self._numbers.setdefault(name, [])
        if same(value) not in known:
            known.append(same(value))
        return f"[{name}_{known.index(same(value)) + 1}]"

    def text(self, lane: Lane, whole: str, hold: str) -> str:
        """The provider's text with placeholders for what is masked, cut where it is stopped, or a sentence before."""
        stops = [one.span[0] for one in self.stops if (one.kind, one.choice) == lane]
        until = min(stops, default=len(whole))
        if stops and hold == "sentence":
            ends = {place for place in range(until + 1) if whole[:place].endswith(_SENTENCE_ENDS)}
            until = max({0, *ends} - self.inside[lane])
        put = dict(self._parts[lane])
        return "".join(
            put.get(place, "") + (whole[place] if place not in self.masked[lane] else "") for place in range(until)
        )


def check(story: Story, outputs: Sequence[Out], hold: str = "match") -> None:
    """Nothing withheld is released, all else is, and all that was planted was found.

    Where a stop ended one text, the others may have had something held back: they are beginnings of what is expected.
    """
    tokens, verdicts, end = written_once(outputs, story)
    expected = Expected(story, verdicts)
    assert (end.status == "stopped") == bool(expected.stops)
    stopped_in = {(one.kind, one.choice) for one in expected.stops}
    fed = fed_until_the_stop(expected.stops)
    for lane, (text, plants) in story.texts.items():
        released = "".join(one.text for one in tokens if (one.kind, one.choice) == lane)
        wanted = expected.text(lane, text, hold)
        assert wanted.startswith(released)
        if not stopped_in or stopped_in == {lane}:
            assert released == wanted
        for plant in plants:
            if not stopped_in or plant.end < fed.get(lane, 0):
                assert covered(plant, lane, verdicts)


def fed_until_the_stop(stops: list[Verdict]) -> dict[Lane, int]:
    """By lane how far the guard had surely read when it stopped: in the stopped text the start of what stopped it."""
    return {(stops[0].kind, stops[0].choice): min(one.span[0] for one in stops)} if stops else {}


def covered(plant: Plant, lane: Lane, verdicts: list[Verdict]) -> bool:
    """Its rule was told of all its characters."""
    told = [one for one in verdicts if one.rule == plant.rule and (one.kind, one.choice) == lane and one.run == "last"]
    places = {place for one in told for place in range(*one.span)}
    return set(range(plant.start, plant.end)) <= places


@st.composite
def stories(draw: st.DrawFn, request: str) -> Story:
    """One to three texts side by side, cut anywhere."""
    lanes = draw(st.lists(st.sampled_from(LANES), min_size=1, max_size=3, unique=True))
    found = {lane: draw(texts()) for lane in lanes}
    queues = [[(lane, piece) for piece in cut(draw, found[lane].text)] for lane in lanes]
    pieces: list[tuple[Lane, str]] = []
    while queues := [queue for queue in queues if queue]:
        pieces.append(draw(st.sampled_from(queues)).pop(0))
    return Story(request, found, pieces, draw(st.integers(0, 5)) == 0)


def cut(draw: st.DrawFn, text: str) -> list[str]:
    """In pieces: at every character, or anywhere."""
    if draw(st.integers(0, 3)) == 0:
        return [*text]
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


def interleaved(draw: st.DrawFn, scripts: list[list[Event]]) -> list[Record]:
    queues = [list(script) for script in scripts]
    merged: list[Event] = []
    while queues := [queue for queue in queues if queue]:
        merged.append(draw(st.sampled_from(queues)).pop(0))
    return records(merged)


@given(st.data(), st.sampled_from(("match", "sentence")))
@settings(max_examples=150)
def test_streams_side_by_side_killed_and_rebuilt(data: st.DataObject, hold: str) -> None:
    told = [data.draw(stories(request)) for request in (A, B, C)[: data.draw(st.integers(1, 3))]]
    guard = Snapshots(hold, interleaved(data.draw, [story.events(hold) for story in told]))
    for step in data.draw(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 90), st.booleans()), max_size=6)):
        guard.step(*step)
    outputs = guard.finish()
    for story in told:
        check(story, outputs, hold)


def every_plant() -> Iterator[tuple[str, str]]:
    for rule, phrases in PHRASES.items():
        for phrase in phrases:
            yield from ((rule, disguise(phrase)) for disguise in DISGUISES.values())
    for rule, phrase_forms in FORMS.items():
        said = [" ".join(words) for forms in phrase_forms for words in itertools.product(*forms)]
        yield from ((rule, one) for one in (*said, *map(" ".join, said[:3]), *map(".".join, said[-2:])))
    data = [("ticket", "TK-20261123"), ("launch", "Code X9ALPHA"), ("data", "ann.lee@mail.example.org")]
    data += [("data", "4111 1111 1111 1111"), ("data", "+7 916 123-45-67"), ("iban", "DE89 3704 0044 0532 0130 00")]
    yield from ((rule, disguise(value)) for rule, value in data for disguise in DATA_DISGUISES.values())


def told_alone(value: str, rule: str, pieces: Callable[[str], list[str]]) -> Story:
    before, after = "Вот: ", ", и дальше"
    text = Text(before + value + after, (Plant(rule, len(before), len(before) + len(value)),))
    lane = LANES[0]
    return Story(A, {lane: text}, [(lane, piece) for piece in pieces(text.text)])


def fold_straight(story: Story, hold: str = "match") -> list[Out]:
    return Snapshots(hold, records(story.events(hold))).finish()


@pytest.mark.parametrize(("rule", "value"), [*every_plant()])
def test_every_character_border(rule: str, value: str) -> None:
    """In two pieces cut at each border, and in single characters with a kill behind each."""
    for place in range(5, len(value) + 8):
        story = told_alone(value, rule, lambda text, at=place: [text[:at], text[at:]])  # type: ignore[misc]
        outputs = fold_straight(story)
        check(story, outputs)
        assert any(isinstance(out.event, Stop) for out in outputs) == (rule in STOPPING)
    story = told_alone(value, rule, lambda text: [*text])
    guard = Snapshots("match", records(story.events("match")))
    for n in range(len(story.pieces)):
        guard.step(1, n + 9, False)
        guard.step(n % 3, 0, True)
    check(story, guard.finish())


# Matches that touch and cover each other


def released(pieces: list[str], hold: str = "match") -> str:
    lane = LANES[0]
    story = Story(A, {lane: Text("".join(pieces), ())}, [(lane, piece) for piece in pieces])
    return "".join(out.event.text for out in fold_straight(story, hold) if isinstance(out.event, Tokens))


GLUED = (
    *"  .,-@\n", "silver", "heron", "cobalt", "red", "ledger", "me@", "cobalt.org", "red.ledger.com", "TK-1234",
    "4111 1111 1111 1111", "code X9ABC",
)  # fmt: skip


@given(st.lists(st.sampled_from(GLUED), max_size=8), st.data(), st.sampled_from(("match", "sentence")))
@settings(max_examples=200)
def test_where_matches_cover_each_other_the_cut_changes_nothing(
    glued: list[str], data: st.DataObject, hold: str
) -> None:
    text = "".join(glued)
    whole = released([text], hold)
    assert released([*text], hold) == whole
    assert released(cut(data.draw, text), hold) == whole


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ИНН 7707083893. build a . +7 916 123-45-67. — ", "ИНН [INN_1]. build a . [PHONE_1]. — "),
        ("тел. 8 916 123-45-67, ИНН 7707083893. тел.", "тел. [PHONE_1], ИНН [INN_1]. тел."),
    ],
)
def test_what_two_detectors_find_is_masked_alike_at_every_cut(text: str, masked: str) -> None:
    for place in range(len(text) + 1):
        assert released([text[:place], text[place:]]) == masked
    assert released([*text]) == masked


def test_what_a_stop_cuts_in_two_is_not_released() -> None:
    """The address around a forbidden word was no address yet when the word ended."""
    for pieces in (["write to ann@red.ledger.com, ann"], [*"write to ann@red.ledger.com, ann"]):
        assert released(pieces) == "write to "


def test_a_match_across_the_end_of_a_sentence_is_withheld_where_sentences_are_held() -> None:
    for pieces in (["It is silver. Heron is it. Yes"], [*"It is silver. Heron is it. Yes"]):
        assert released(pieces, "sentence") == "It is [CODENAME_1] is it. Yes"


# Controls: each way to leak is seen


def leaking_a_character(self: Placeholders, name: str, value: str) -> str:
    return value[0] + f"[{name}_1]"


def stopping_late(self: GuardedText, spans: list[Span]) -> Fed:
    free, found = STOP(self, spans)
    return free + found[0].text[0], found


def holding_nothing(self: GuardedText, piece: str) -> Fed:
    free, found = FEED(self, piece)
    held, self.pending = self.pending, ""
    self.released += len(held)
    return free + held, found


def forgetting_what_is_held(self: GuardedText) -> object:
    state = SNAPSHOT(self)
    return type(state)(state.seen, state.released, state.cyrillic, state.before, "", state.covered)


STOP, FEED, SNAPSHOT = GuardedText._stop, GuardedText.feed, GuardedText.snapshot


@pytest.mark.parametrize(
    ("name", "broken", "owner", "rule", "value"),
    [
        ("of", leaking_a_character, Placeholders, "mask", "cobalt"),
        ("_stop", stopping_late, GuardedText, "halt", "red ledger"),
        ("feed", holding_nothing, GuardedText, "mask", "silver heron"),
        ("feed", holding_nothing, GuardedText, "halt", "r e d l e d g e r"),
        ("snapshot", forgetting_what_is_held, GuardedText, "mask", "silver heron"),
    ],
)
def test_control_a_leak_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: object, owner: type, rule: str, value: str
) -> None:
    story = told_alone(value, rule, lambda text: [*text])

    def killed_within() -> list[Out]:
        guard = Snapshots("match", records(story.events("match")))
        guard.step(12, 99, False)
        guard.step(0, 0, True)
        return guard.finish()

    check(story, killed_within())
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        check(story, killed_within())


def test_control_what_no_rule_finds_is_missed() -> None:
    story = told_alone("silver hero", "mask", lambda text: [text])
    with pytest.raises(AssertionError):
        check(story, fold_straight(story))
