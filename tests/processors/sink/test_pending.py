"""The notes that tell of a flush which may not have been finished."""

import itertools

from processors.sink import pending
from processors.sink.pending import Committed, Range, notes_of, replays, token_of

RANGES = {("journal", 0): Range(5, 9), ("tokens", 3): Range(0, 2), ("journal", 1): Range(7, 8)}


def found(ranges: dict[tuple[str, int], Range], **other: str) -> dict[tuple[str, int], Committed]:
    """What a broker gives back after the notes of `ranges` were committed."""
    notes = notes_of(ranges, token_of(ranges))
    return {item: Committed(span.start, notes[item]) for item, span in ranges.items()} | {
        (topic, 0): Committed(3, text) for topic, text in other.items()
    }


def test_the_token_names_exactly_the_ranges_whatever_their_order() -> None:
    orders = [dict(items) for items in itertools.permutations(RANGES.items())]
    assert len({token_of(ranges) for ranges in orders}) == 1
    longer = RANGES | {("journal", 1): Range(7, 9)}
    shorter = {item: RANGES[item] for item in list(RANGES)[:2]}
    assert len({token_of(RANGES), token_of(longer), token_of(shorter)}) == 3


def test_notes_are_far_below_what_kafka_keeps_of_them() -> None:
    many = {("journal", number): Range(1 << 60, (1 << 60) + 9) for number in range(1000)}
    assert max(len(note) for note in notes_of(many, token_of(many)).values()) < 200


def test_an_unfinished_flush_is_repeated_under_its_token() -> None:
    assert replays(found(RANGES, other="", strange="{not ours")) == [(token_of(RANGES), RANGES)]


def test_flushes_of_two_members_are_repeated_one_by_one() -> None:
    second = {("answers", 2): Range(0, 4)}
    assert sorted(replays(found(RANGES) | found(second))) == sorted(
        [(token_of(RANGES), RANGES), (token_of(second), second)]
    )


def test_a_finished_flush_is_not_repeated() -> None:
    notes = notes_of(RANGES, token_of(RANGES))
    assert replays({item: Committed(span.end, notes[item]) for item, span in RANGES.items()}) == []


def test_a_flush_of_which_a_part_is_elsewhere_cannot_be_repeated() -> None:
    here = found(RANGES)
    del here["tokens", 3]
    assert replays(here) == []


def test_a_flush_whose_rows_were_made_otherwise_cannot_be_repeated(monkeypatch) -> None:
    before = found(RANGES)
    monkeypatch.setattr(pending, "SCHEMA", pending.SCHEMA + 1)
    assert replays(before) == []
