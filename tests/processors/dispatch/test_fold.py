"""Dispatch's fold: each order is called once, and a closed request never again."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.dispatch.fold import ORPHAN_AFTER_MS, Abort, DispatchFold, Settled, Start
from processors.events import (
    Cancel,
    Event,
    GivenUp,
    Refusal,
    Rejection,
    RunError,
    RunStarted,
    Stop,
    Target,
    TimedOut,
)
from processors.record import Record
from processors.remembered import REMEMBER_MS
from tests.samples import START_MS, cancel, decision, order, records, request_id, run

A, B, C = (request_id(n) for n in range(3))
DOWN = RunError("provider_error", "503")


def live() -> DispatchFold:
    subject = DispatchFold()
    assert subject.go_live() == []
    return subject


def starts(todo: list[Start | Abort]) -> list[tuple[str, int]]:
    return [(item.id, item.attempt) for item in todo if isinstance(item, Start)]


def aborts(todo: list[Start | Abort]) -> list[tuple[str, str]]:
    return [(item.id, item.reason) for item in todo if isinstance(item, Abort) and item.keep is None]


def test_an_order_is_called_with_the_request_as_it_came() -> None:
    first = decision(A)
    [start] = live().fold(records([first]))
    assert isinstance(start, Start)
    assert (start.id, start.attempt, start.body) == (A, 1, bytes(first.request))


def test_a_repeated_decision_is_not_called_again() -> None:
    assert starts(live().fold(records([decision(A), decision(A), decision(A, body_hash="x")]))) == [(A, 1)]


def test_the_next_attempt_is_called_only_after_the_one_before_failed() -> None:
    second = decision(A, order(), attempt=2)
    assert starts(live().fold(records([decision(A), second]))) == [(A, 1)]
    events = [decision(A), *run(A, [], error=DOWN), second]
    todo = live().fold(records(events))
    assert starts(todo) == [(A, 1), (A, 2)]
    assert [item.body for item in todo if isinstance(item, Start)][1] == bytes(decision(A).request)


def test_a_failure_that_may_not_be_retried_closes_the_request() -> None:
    for error in (RunError("invalid_request", "400"), None):
        events = [decision(A), *run(A, [], error=error), decision(A, order(), attempt=2)]
        assert starts(live().fold(records(events))) == [(A, 1)]


def test_whatever_closes_a_request_aborts_its_run() -> None:
    for closing, reason in (
        (cancel(A), "cancelled"),
        (Stop(A, "demo", "content_filter"), "stopped"),
        (TimedOut(A, "demo", "idle", seen=1), "cancelled"),
        (GivenUp(A, "demo", 1, "shutdown"), "cancelled"),
    ):
        todo = live().fold(records([decision(A), run(A, [])[0], closing, decision(A)]))
        assert (starts(todo), aborts(todo)) == ([(A, 1)], [(A, reason)])


def test_a_time_out_that_came_too_late_is_ignored_as_the_guard_ignores_it() -> None:
    subject = live()
    subject.fold(records([decision(A), run(A, [])[0]]))
    subject.saw_chunk(A, 2, START_MS)
    assert subject.fold([Record(3, START_MS, TimedOut(A, "demo", "idle", seen=1))]) == []


def test_a_cancel_before_the_decision_means_that_nothing_is_called() -> None:
    assert live().fold(records([cancel(A), decision(A)])) == []


def test_another_tenant_s_cancel_changes_nothing() -> None:
    assert aborts(live().fold(records([decision(A), Cancel(A, "other")]))) == []
    assert starts(live().fold(records([Cancel(A, "other"), decision(A)]))) == [(A, 1)]


def test_refusals_are_not_called_and_close_the_id() -> None:
    for choice in (Refusal("r", "c", "m"), Rejection(404, "model_not_found", "m")):
        assert live().fold(records([decision(A, choice), decision(A)])) == []


def test_a_run_that_lost_is_closed_and_the_winner_kept() -> None:
    todo = live().fold(records([decision(A), run(A, [], "winner")[0], run(A, [], "loser")[0]]))
    assert [item for item in todo if isinstance(item, Abort)] == [Abort(A, "superseded", "winner")] * 2


def test_a_run_that_others_took_for_dead_is_closed() -> None:
    """Its process was frozen only. The next attempt's run, perhaps of the same process, is another."""
    interrupted = RunError("interrupted", "gone")
    frozen, second = run(A, ["x"], "frozen", error=interrupted), decision(A, order(), attempt=2)
    todo = live().fold(records([decision(A), *frozen, second]))
    assert [item for item in todo if isinstance(item, Abort)][-1] == Abort(A, "superseded", only="frozen")
    assert starts(todo) == [(A, 1), (A, 2)]
    assert aborts(live().fold(records([decision(A), *run(A, ["x"], error=DOWN)]))) == []


def test_after_a_pause_nothing_is_called_before_the_journal_is_read_up_to_now() -> None:
    subject = live()
    assert starts(subject.fold(records([decision(A)]))) == [(A, 1)]
    subject.live = False
    mine, other = run(A, [], "mine")[0], run(A, [], "other")[0]
    events = records([decision(A), other, mine, decision(B), run(B, [], "another")[0], decision(C)])
    todo = subject.fold(events[1:])
    assert [item for item in todo if isinstance(item, Abort)] == [Abort(A, "superseded", "other")] * 2
    assert starts(todo) == []
    assert starts(subject.go_live()) == [(C, 1)]


def test_an_old_id_is_never_called() -> None:
    assert live().fold([Record(0, START_MS + REMEMBER_MS + 1, decision(A))]) == []


# After a restart


def test_a_rebuild_calls_what_was_not_begun_and_nothing_else() -> None:
    subject = DispatchFold()
    events = [decision(A), decision(B), *run(B, ["x"]), decision(C), run(C, [])[0]]
    assert subject.fold(records(events)) == []
    assert starts(subject.go_live()) == [(A, 1)]


def test_a_run_of_a_dead_process_is_ended_once_after_two_silent_seconds() -> None:
    subject = DispatchFold()
    subject.fold(records([decision(A), run(A, [], "lost")[0]], step_ms=0))
    subject.go_live()
    assert subject.orphans(START_MS + ORPHAN_AFTER_MS, ()) == []
    subject.saw_chunk(A, 2, START_MS + 1500)
    assert subject.orphans(START_MS + ORPHAN_AFTER_MS + 1, ()) == []
    [orphan] = subject.orphans(START_MS + 1500 + ORPHAN_AFTER_MS + 1, ())
    assert (orphan.id, orphan.run, orphan.target) == (A, "lost", Target("first", "a"))
    assert subject.orphans(START_MS + 1500 + 2 * ORPHAN_AFTER_MS, ()) == []


def test_a_run_that_a_successor_ended_is_closed_by_its_own_process() -> None:
    """The process was only slow; what it streams on is read by nobody, and costs."""
    subject = live()
    [started] = run(A, [])[:1]
    subject.fold(records([decision(A), started]))
    gone = run(A, [], error=RunError("interrupted", "gone"))[1]
    assert aborts(subject.fold(records([gone], first_offset=2))) == [(A, "superseded")]
    again = DispatchFold()  # partitions that come back: what is under way here now may be a later attempt
    assert aborts(again.fold(records([decision(A), started, gone]))) == []


def test_a_zombie_s_run_of_an_attempt_that_failed_takes_nothing_from_the_next() -> None:
    """It is announced late, when another run of its order has failed already: it is stopped, and its end is nothing."""
    subject = live()
    zombie = run(A, [], "zombie", error=DOWN)
    todo = subject.fold(records([decision(A), *run(A, [], error=DOWN), *zombie]))
    assert aborts(todo) == [(A, "superseded")]
    assert starts(subject.fold(records([decision(A, order(), attempt=2)], first_offset=5))) == [(A, 2)]


def test_a_cancelled_run_of_a_dead_process_is_ended_too_so_that_it_is_booked() -> None:
    subject = DispatchFold()
    subject.fold(records([decision(A), run(A, [], "lost")[0], cancel(A)], step_ms=0))
    assert subject.go_live() == []
    assert subject.floor() == 0
    [orphan] = subject.orphans(START_MS + ORPHAN_AFTER_MS + 1, ())
    assert orphan.run == "lost"
    ended = run(A, [], "lost", error=RunError("interrupted", "gone"))[1]
    subject.fold([Record(3, START_MS, ended)])
    assert subject.floor() is None


def test_a_run_of_our_own_is_never_an_orphan() -> None:
    subject = live()
    subject.fold(records([decision(A), run(A, [])[0], cancel(A)], step_ms=0))
    assert subject.orphans(START_MS + 60_000, ()) == []


def test_a_run_of_this_process_is_no_orphan_where_the_journal_does_not_show_yet_that_it_lives() -> None:
    """Partitions that came back after an outage: their fold is new, and the run's signs of life are on their way."""
    subject = DispatchFold()
    subject.fold(records([decision(A), run(A, [], "ours")[0]], step_ms=0))
    subject.go_live()
    late = START_MS + ORPHAN_AFTER_MS + 1
    assert subject.orphans(late, {"ours"}) == []
    assert [orphan.run for orphan in subject.orphans(late, {"another"})] == ["ours"], "once it is ours no more"


def test_what_a_predecessor_settled_is_not_called() -> None:
    first = live()
    first.fold(records([decision(A), *run(A, []), cancel(B), decision(C, Refusal("r", "c", "m"))]))
    settled = first.settled()
    assert settled == Settled((A, C), ((B, "demo"),))
    assert first.settled() is None
    subject = DispatchFold()
    subject.restore(settled)
    subject.go_live()
    assert subject.fold(records([decision(A), decision(B), decision(C)])) == []


@pytest.mark.parametrize("wrong", [Settled((A, "x"), ()), Settled((A,), ((B.upper(), "demo"),))])
def test_what_is_kept_of_something_that_is_no_id_is_refused_whole(wrong: Settled) -> None:
    subject = live()
    with pytest.raises(ValueError, match="UUID"):
        subject.restore(wrong)
    subject.forget(0)
    assert [type(item) for item in subject.fold(records([decision(A)]))] == [Start]


def test_the_floor_follows_the_oldest_request_that_may_need_a_call() -> None:
    subject = live()
    events: list[Event] = [decision(A), *run(A, []), decision(B), decision(C), *run(C, [])]
    subject.fold(records(events))
    assert subject.floor() == 3
    subject.forget(START_MS + 125_000)
    assert subject.floor() is None


def test_orders_that_nobody_calls_are_named_for_the_shutdown() -> None:
    subject = live()
    subject.fold(records([decision(A), decision(B), run(B, [])[0]]))
    assert [item.id for item in subject.unstarted()] == [A]


SCRIPTS = {
    "answer": lambda i: [decision(i), *run(i, ["x"])],
    "failover": lambda i: [
        decision(i), *run(i, [], error=DOWN), decision(i, order(), attempt=2), *run(i, ["y"], "run-2", attempt=2)
    ],
    "cancelled": lambda i: [decision(i), run(i, [])[0], cancel(i), *run(i, [], error=DOWN)[1:]],
    "early cancel": lambda i: [cancel(i), decision(i)],
}  # fmt: skip


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """Requests interleaved, some records repeated."""
    queues = [SCRIPTS[draw(st.sampled_from(sorted(SCRIPTS)))](request) for request in (A, B, C)]
    merged: list[Event] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        merged.append(queue.pop(0))
        if draw(st.integers(0, 9)) == 0:
            merged.append(merged[-1])
    return merged


@given(journals(), st.lists(st.integers(1, 40), max_size=6))
def test_any_split_into_batches_asks_for_the_same(events: list[Event], cuts: list[int]) -> None:
    all_records = records(events)
    whole = live().fold(all_records)
    subject, taken = live(), []
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, stop in itertools.pairwise(bounds):
        taken += subject.fold(all_records[start:stop])
    assert taken == whole


@given(journals(), st.integers(0, 40))
def test_killed_after_any_prefix_no_order_is_called_twice_but_the_one_in_flight(
    events: list[Event], prefix: int
) -> None:
    """A successor calls an order again only if its run does not stand in the journal yet."""
    all_records = records(events)
    first = live()
    called = starts(first.fold(all_records[:prefix]))
    floor = first.floor()
    start = min(prefix, len(events)) if floor is None else floor
    second = DispatchFold()
    settled = first.settled()
    if settled is not None:
        second.restore(settled)
    second.fold(all_records[start:prefix])
    again = starts(second.go_live())
    begun = {(r.event.id, r.event.attempt) for r in all_records[:prefix] if isinstance(r.event, RunStarted)}
    assert not begun & set(again)
    assert set(again) <= set(called)
    later = starts(second.fold(all_records[prefix:]))
    assert len(again + later) == len(set(again + later))
