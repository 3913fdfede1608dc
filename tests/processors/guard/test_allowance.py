"""Shared budgets in the guard's fold: no answer goes beyond what is granted, in whatever order grants come."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.codec import encode
from processors.events import Cancel, Chunk, End, Event, Leased, Outcome, Stop, Usage, Verdict
from processors.guard.allowance import BLOCK
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from processors.record import Record
from tests.processors.guard.books import Books
from tests.processors.guard.test_fold import DOWN, A, B, C, end_of, of, text_of
from tests.samples import PARTITIONS, START_MS, cancel, decision, policy, run

PROMPT = 5
"""Tokens of each prompt of `decision`."""


def limited(tokens: int = 0, cost: str = "", **more: Any) -> tuple[Effective, CompiledRules]:
    """Tenant demo with one budget, and no limit of tokens that is near."""
    budget = {"id": "day", "window": "day", "timezone": "Europe/Moscow"} | more
    budget |= {"cost": cost} if cost else {"tokens": tokens}
    found = policy(budgets=[budget], limits={"max_output_tokens": 100_000}).effective("demo")
    assert found is not None
    return found, CompiledRules(found)


class Journal:
    """A journal that is folded record by record, a record every 10 ms. Leases are answered when the test says so."""

    def __init__(self, view: tuple[Effective, CompiledRules], books: Books | None = None) -> None:
        self.view = view
        self.books = books or Books()
        self.records: list[Record] = []
        self.out: list[Out] = []
        self.fold = self.new_fold()
        self.asked: list = []

    def new_fold(self) -> PartitionFold:
        return PartitionFold(0, PARTITIONS, lambda *_: self.view)

    def add(self, *events: Event) -> "Journal":
        for event in events:
            record = Record(len(self.records), START_MS + len(self.records) * 10, event)
            self.records.append(record)
            out, rejected = self.fold.fold([record])
            assert rejected == []
            self.out += out
            self.take_bookings()
        return self

    def take_bookings(self) -> None:
        for booking in self.fold.bookings:
            if booking.kind == "lease":
                self.asked.append(booking)
            else:
                self.books.book(booking)
                self.asked = [one for one in self.asked if one.id != booking.id]
        self.fold.bookings.clear()

    def answer(self) -> "Journal":
        """Leases that were asked for, and those that follow from them."""
        while self.asked:
            self.add(self.books.leased(self.asked.pop(0)))
        return self

    @property
    def total(self) -> int:
        return sum(self.books.totals.values())

    @property
    def now_ms(self) -> int:
        return START_MS + len(self.records) * 10


def chunks(request: str, pieces: list[str], first: int = 0) -> list[Chunk]:
    return [Chunk(request, "demo", "run-1", first + n, text) for n, text in enumerate(pieces)]


class TestLeases:
    def test_a_block_is_asked_for_when_the_run_starts_and_the_next_at_half_of_it(self) -> None:
        journal = Journal(limited(10_000))
        journal.add(decision(A), run(A, [])[0])
        [first] = journal.asked
        assert [(line.needed, line.wanted) for line in first.lines] == [(PROMPT, PROMPT + BLOCK)]
        assert first.lines[0].account.key.startswith("sluice:budget:demo:day:-:tokens:day:2026")
        journal.answer().add(*chunks(A, ["abcd" * 127]))
        assert journal.asked == []
        journal.add(*chunks(A, ["abcd" * 2], 1))
        [second] = journal.asked
        assert second.lines[0].wanted == PROMPT + 129 + BLOCK

    def test_text_waits_for_its_lease_and_then_goes_on(self) -> None:
        journal = Journal(limited(10_000)).add(decision(A), *run(A, ["Hello", " there"]))
        assert (text_of(journal.out), of(End, journal.out)) == ("", [])
        journal.answer()
        assert text_of(journal.out) == "Hello there"
        assert end_of(journal.out).status == "completed"

    def test_where_no_budget_is_no_text_waits(self) -> None:
        """Control of the one above: only a budget makes it wait."""
        found = policy().effective("demo")
        assert found is not None
        journal = Journal((found, CompiledRules(found))).add(decision(A), *run(A, ["Hello", " there"]))
        assert (text_of(journal.out), journal.asked) == ("Hello there", [])

    @pytest.mark.parametrize(("per", "known"), [("key", {"key": "0f3c9a7be210"}), ("session", {"session": "s"})])
    def test_a_budget_of_a_key_or_session_counts_where_the_request_has_one(self, per: str, known: Any) -> None:
        journal = Journal(limited(10_000, per=per)).add(decision(A), run(A, [])[0])
        assert journal.asked == []
        journal = Journal(limited(10_000, per=per)).add(decision(A, **known), run(A, [])[0])
        assert len(journal.asked) == 1

    def test_a_lease_that_does_not_come_is_asked_for_again(self) -> None:
        journal = Journal(limited(10_000)).add(decision(A), run(A, [])[0], *chunks(A, ["Hello"]))
        [lost] = journal.asked
        journal.asked.clear()
        journal.fold.tick(journal.now_ms + 500)
        journal.take_bookings()
        assert journal.asked == []
        journal.fold.tick(journal.now_ms + 1500)
        journal.fold.tick(journal.now_ms + 1600)
        journal.take_bookings()
        [again] = journal.asked
        assert again.lines[0].needed == PROMPT + 2
        assert again.lines[0].account == lost.lines[0].account


class TestTheEndOfABudget:
    def test_the_answer_is_cut_at_the_last_token_granted(self) -> None:
        journal = Journal(limited(PROMPT + 20))
        journal.add(decision(A), run(A, [])[0]).answer()
        for piece in chunks(A, ["abcd"] * 30):
            journal.add(piece).answer()
        end = end_of(journal.out)
        assert (end.status, end.reason, text_of(journal.out)) == ("stopped", "budget_exhausted", "abcd" * 20)
        assert end.message == "The budget is exhausted (budgets.day)."
        [stop] = of(Stop, journal.out)
        assert (stop.reason, stop.rule) == ("budget_exhausted", "budgets.day")
        [verdict] = of(Verdict, journal.out)
        assert (verdict.rule, verdict.category, verdict.action) == ("budgets.day", "limits", "stop")

    def test_a_prompt_that_is_not_granted_ends_the_request_at_once(self) -> None:
        journal = Journal(limited(PROMPT - 1)).add(decision(A), run(A, [])[0]).answer()
        assert (end_of(journal.out).reason, text_of(journal.out)) == ("budget_exhausted", "")

    def test_a_cost_budget_counts_money(self) -> None:
        # 5 tokens of prompt at 100 and 10 of output at 400 micro-units: 4,500, and one for rounding.
        journal = Journal(limited(cost="0.004501")).add(decision(A), run(A, [])[0]).answer()
        for piece in chunks(A, ["abcd"] * 30):
            journal.add(piece).answer()
        end = end_of(journal.out)
        assert (end.reason, text_of(journal.out), end.cost.micros) == ("budget_exhausted", "abcd" * 10, 4500)

    def test_the_policy_s_word_counts_while_the_books_are_away(self) -> None:
        journal = Journal(limited(10_000)).add(decision(A), *run(A, ["Hello"])[:2])
        journal.add(Leased(A, "demo", {}, ("day",), away=True))
        assert (end_of(journal.out).reason, text_of(journal.out)) == ("budget_unavailable", "")

    def test_what_waits_when_the_request_ends_is_booked_and_not_shown(self) -> None:
        usage = Usage(input=5, output=40, source="provider")
        journal = Journal(limited(10_000)).add(decision(A), *run(A, ["Hello"], usage=usage), cancel(A))
        assert (end_of(journal.out).status, text_of(journal.out)) == ("cancelled", "")
        [outcome] = of(Outcome, journal.out)
        assert (outcome.status, outcome.usage) == ("cancelled", usage)
        assert journal.total == 45


class TestSettlement:
    def test_what_was_leased_and_not_used_is_given_back(self) -> None:
        usage = Usage(input=7, output=3, source="provider")
        journal = Journal(limited(10_000)).add(decision(A), run(A, [])[0]).answer()
        assert journal.total == PROMPT + BLOCK
        journal.add(*chunks(A, ["Hello"]), run(A, ["Hello"], usage=usage)[-1])
        assert journal.total == 10

    def test_failed_attempts_are_booked(self) -> None:
        """Both attempts, each by the provider's word."""
        failed, ended = (Usage(input=5, output=n, source="provider") for n in (0, 8))
        journal = Journal(limited(10_000))
        journal.add(decision(A), *run(A, [], error=DOWN, usage=failed)).answer()
        journal.add(decision(A, attempt=2)).add(*run(A, ["Hi"], "run-2", 2, usage=ended)).answer()
        assert end_of(journal.out).status == "completed"
        assert journal.total == 18

    def test_a_stopped_run_is_booked_by_what_its_provider_says_in_the_end(self) -> None:
        journal = Journal(limited(PROMPT + 10)).add(decision(A), run(A, [])[0]).answer()
        journal.add(*chunks(A, ["abcd" * 30])).answer()
        assert journal.total == PROMPT + 10
        usage = Usage(input=PROMPT, output=31, source="provider")
        journal.add(run(A, ["abcd" * 30], usage=usage)[-1])
        assert journal.total == PROMPT + 31

    def test_a_run_that_never_tells_its_end_is_booked_by_estimate(self) -> None:
        journal = Journal(limited(10_000)).add(decision(A), run(A, [])[0]).answer()
        journal.add(*chunks(A, ["abcd" * 10]), Cancel(A, "demo"))
        journal.fold.tick(START_MS + 10**6)
        journal.take_bookings()
        assert journal.total == PROMPT + 10

    def test_repeats_of_the_journal_book_nothing_twice(self) -> None:
        usage = Usage(input=7, output=3, source="provider")
        journal = Journal(limited(10_000)).add(decision(A), *run(A, ["Hello"], usage=usage)).answer()
        again = Journal(journal.view, journal.books)
        again.add(*[record.event for record in journal.records])
        assert (journal.total, again.out == journal.out) == (10, True)


PIECES = st.lists(st.text("ab жд", min_size=1, max_size=90), min_size=1, max_size=12)


@settings(deadline=None)
@given(
    st.tuples(PIECES, PIECES, PIECES),
    st.integers(1, 400),
    st.randoms(use_true_random=False),
)
def test_together_answers_never_show_more_than_the_budget(texts: Any, limit: int, chance: random.Random) -> None:
    """Whatever the order of chunks and grants: what is leased and what is shown stays within the limit, all streams end
    once, each with a beginning of its text, whole where it is said to be."""
    journal = Journal(limited(limit))
    streams = dict(zip((A, B, C), texts, strict=True))
    waiting = {name: [decision(name), *run(name, pieces)] for name, pieces in streams.items()}
    while any(waiting.values()) or journal.asked:
        choices = [name for name, events in waiting.items() if events] + ["answer"] * bool(journal.asked)
        name = chance.choice(choices)
        if name == "answer":
            before = journal.total
            lease = journal.books.leased(journal.asked.pop(chance.randrange(len(journal.asked))))
            assert journal.total <= max(before, limit)  # prompts that went out are booked, allowed or not
            journal.add(lease)
        else:
            journal.add(waiting[name].pop(0))
    shown = 0
    for name, pieces in streams.items():
        end, text = end_of(journal.out, name), text_of(journal.out, name)
        assert "".join(pieces).startswith(text)
        assert (end.status == "completed") == (text == "".join(pieces) and end.reason == "stop")
        assert end.status in ("completed", "stopped")
        shown += end.usage.input + end.usage.output if text else 0
    assert shown <= limit


@settings(deadline=None)
@given(PIECES, st.integers(1, 200), st.data())
def test_a_rebuild_at_any_point_gives_the_same(pieces: list[str], limit: int, data: st.DataObject) -> None:
    """From the journal, and from a snapshot: grants stand in the log, so nothing is asked of the books."""
    journal = Journal(limited(limit)).add(decision(A))
    for event in run(A, pieces):
        journal.add(event)
        if data.draw(st.booleans()):
            journal.answer()
    journal.answer()
    cut = data.draw(st.integers(1, len(journal.records)))
    before, rest = journal.records[:cut], journal.records[cut:]
    fold = journal.new_fold()
    out, _ = fold.fold(before)
    restored = journal.new_fold()
    for kept in fold.to_keep(10**9):
        assert kept.value is not None
        restored.restore(kept.key, kept.value)
    more, rejected = restored.fold(rest)
    assert rejected == []
    told = [item for item in [*out, *more] if item.topic != "answers"]
    assert [encode(item.event) for item in told] == [encode(one.event) for one in journal.out if one.topic != "answers"]


def test_a_restored_request_that_waits_asks_again() -> None:
    journal = Journal(limited(10_000)).add(decision(A), *run(A, ["Hello"]))
    fold = journal.new_fold()
    for kept in journal.fold.to_keep(10**9):
        assert kept.value is not None
        fold.restore(kept.key, kept.value)
    fold.tick(journal.now_ms)
    [booking] = [one for one in fold.bookings if one.kind == "lease"]
    out, _ = fold.fold([Record(99, journal.now_ms, journal.books.leased(booking))])
    assert text_of(out) == "Hello"
    assert [type(item.event) for item in out].count(End) == 1
