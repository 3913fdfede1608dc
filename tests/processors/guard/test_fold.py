"""The guard's fold: the same journal gives the same streams, however it is read."""

import itertools
import re
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.events import (
    Answer,
    CachedAnswer,
    Cancel,
    EdgeStarted,
    End,
    Event,
    GivenUp,
    Joined,
    Left,
    Opened,
    Outcome,
    Rejection,
    RunError,
    RunStarted,
    Stop,
    Target,
    TimedOut,
    Tokens,
    Usage,
    Verdict,
)
from processors.guard.fold import PartitionFold
from processors.guard.outputs import Out, Rejected
from processors.guard.rules import CompiledRules
from processors.policy import Effective
from processors.record import Record
from tests.samples import (
    PARTITIONS,
    START_MS,
    Cuts,
    cancel,
    decision,
    edge,
    order,
    policy,
    records,
    request_id,
    run,
)

A, B, C = (request_id(n) for n in range(3))
ELSEWHERE = request_id(0, partition=1)
POLICY = policy()
DOWN = RunError("provider_error", "503")


def effective(version: str, tenant: str) -> tuple[Effective, CompiledRules]:
    found = POLICY.effective(tenant)
    assert version == POLICY.version
    assert found is not None
    return found, CompiledRules(found)


def new_fold() -> PartitionFold:
    return PartitionFold(0, PARTITIONS, effective)


def fold(events: list[Event]) -> tuple[list[Out], list[Rejected]]:
    return new_fold().fold(records(events))


def text_of(outputs: Sequence[Out], request: str = A) -> str:
    return "".join(out.event.text for out in outputs if isinstance(out.event, Tokens) and out.event.id == request)


def end_of(outputs: Sequence[Out], request: str = A) -> End:
    """The one terminal event, after contiguous records."""
    ends = [out.event for out in outputs if isinstance(out.event, End) and out.event.id == request]
    assert len(ends) == 1
    numbers = [out.event.seq for out in outputs if isinstance(out.event, Tokens) and out.event.id == request]
    assert numbers == list(range(len(numbers)))
    assert ends[0].seq == len(numbers)
    return ends[0]


def of(kind: type, outputs: Sequence[Out]) -> list:
    return [out.event for out in outputs if isinstance(out.event, kind)]


# What happens to one request


def test_a_completed_answer() -> None:
    usage = Usage(input=7, output=3, source="provider")
    outputs, _ = fold([decision(A), *run(A, ["Hello", " there", "."], usage=usage)])
    end = end_of(outputs)
    assert text_of(outputs) == "Hello there."
    assert (end.status, end.reason, end.usage, end.attempts) == ("completed", "stop", usage, 1)
    assert end.cost.micros == 7 * 100 + 3 * 400
    assert end.first_token_ms == 20
    [opened] = of(Opened, outputs)
    assert (opened.id, opened.tenant) == (A, "demo")
    [outcome] = of(Outcome, outputs)
    assert (outcome.status, outcome.order, outcome.cost.micros) == ("completed", None, 1900)
    [answer] = of(Answer, outputs)
    assert answer.cache_key is None


def test_a_stop_withholds_the_phrase_and_is_written_to_the_journal() -> None:
    outputs, _ = fold([decision(A), *run(A, ["Say the blo", "cked phra", "se now", " and more"])])
    end = end_of(outputs)
    assert text_of(outputs) == "Say the "
    assert (end.status, end.reason) == ("stopped", "content_filter")
    assert of(Stop, outputs) == [Stop(A, "demo", "content_filter", "stop")]
    [verdict] = of(Verdict, outputs)
    assert (verdict.rule, verdict.span) == ("stop", (8, 22))
    assert end.tokens_saved > 0
    assert of(Outcome, outputs)[0].status == "stopped"


def test_a_phrase_at_the_end_of_the_answer_stops_it() -> None:
    outputs, _ = fold([decision(A), *run(A, ["запретное", " слово"])])
    assert text_of(outputs) == ""
    assert end_of(outputs).status == "stopped"


def test_a_flag_lets_the_text_pass_and_keeps_it_out_of_the_cache() -> None:
    outputs, _ = fold([decision(A, cache_key="k"), *run(A, ["an odd thing", " indeed"])])
    assert text_of(outputs) == "an odd thing indeed"
    assert [v.rule for v in of(Verdict, outputs)] == ["flag"]
    assert of(Answer, outputs)[0].cache_key is None


def test_an_answer_for_the_cache_carries_its_text() -> None:
    outputs, _ = fold([decision(A, cache_key="k"), *run(A, ["yes", " sir"])])
    [answer] = of(Answer, outputs)
    assert (answer.cache_key, "".join(part.text for part in answer.parts)) == ("k", "yes sir")


def test_a_cached_answer_is_released_and_costs_nothing() -> None:
    stored = of(Answer, fold([decision(A, cache_key="k"), *run(A, ["yes", " sir"])])[0])[0]
    outputs, _ = fold([decision(B, CachedAnswer(stored.parts, "stop", stored.usage, A))])
    end = end_of(outputs, B)
    assert text_of(outputs, B) == "yes sir"
    assert (end.status, end.cached, end.cost.micros, end.tokens_saved) == ("completed", True, 0, stored.usage.output)
    assert of(Opened, outputs)[0].cached


def test_the_token_limit_cuts_at_the_same_character_however_the_text_came() -> None:
    text = "word " * 200
    ends = []
    for size in (1, 3, 7, 400):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        outputs, _ = fold([decision(A), *run(A, pieces)])
        end = end_of(outputs)
        assert (end.status, end.reason) == ("stopped", "token_limit")
        ends.append(text_of(outputs))
    assert ends == [text[:400]] * 4


def test_the_token_limit_releases_nothing_of_a_phrase() -> None:
    for size in (1, 5, 500):
        text = "x" * 395 + " blocked phrase"
        outputs, _ = fold([decision(A), *run(A, [text[i : i + size] for i in range(0, len(text), size)])])
        assert (text_of(outputs), end_of(outputs).reason) == ("x" * 395 + " ", "token_limit")


def test_what_a_dead_process_had_streamed_is_booked() -> None:
    started, chunk, ended = run(A, ["some text that came"], error=RunError("interrupted", "gone"))
    ended = msgspec.structs.replace(ended, chunks=0)  # its successor does not know how many there were
    outputs, _ = fold([decision(A), started, chunk, ended])
    [outcome] = of(Outcome, outputs)
    assert outcome.cost.micros > 0
    assert end_of(outputs).cost == outcome.cost


def test_a_refusal_is_in_the_policy_s_currency() -> None:
    outputs, _ = fold([decision(A, Rejection(404, "model_not_found", "m"))])
    assert (end_of(outputs).cost.currency, end_of(outputs).cost.micros) == ("RUB", 0)


def test_a_lost_log_ends_what_would_have_to_be_read_from_it() -> None:
    subject = new_fold()
    subject.fold(records([decision(A), decision(B)], first_offset=10))
    stops = [out.event for out in subject.lost(before=11)]
    assert stops == [Stop(A, "demo", "log_lost")]
    outputs, _ = subject.fold([Record(12, START_MS, stops[0])])
    assert (end_of(outputs).status, end_of(outputs).reason) == ("failed", "log_lost")


def test_failover_before_the_first_character_gives_one_clean_answer() -> None:
    first = run(A, [], error=DOWN)
    second = [decision(A, order(), attempt=2), *run(A, ["fine"], "run-2", attempt=2)]
    outputs, _ = fold([decision(A), *first, *second])
    end = end_of(outputs)
    assert (text_of(outputs), end.status, end.attempts) == ("fine", "completed", 2)
    failed, completed = of(Outcome, outputs)
    assert failed.order == order(Target("second", "b"))
    assert (failed.status, completed.status) == ("failed", "completed")


def test_a_run_that_breaks_off_after_a_character_is_a_declared_failure() -> None:
    outputs, _ = fold([decision(A), *run(A, ["half an ans"], error=RunError("truncated", "eof"))])
    end = end_of(outputs)
    assert (end.status, end.reason, text_of(outputs)) == ("failed", "interrupted", "half an ans")
    assert of(Outcome, outputs)[0].order is None


def test_the_last_candidate_s_failure_ends_the_request() -> None:
    outputs, _ = fold([decision(A, order()), *run(A, [], error=RunError("timeout_first_token", "slow"))])
    end = end_of(outputs)
    assert (end.status, end.reason, end.error.status if end.error else 0) == ("failed", "timeout_first_token", 504)


def test_text_held_back_does_not_count_as_released() -> None:
    outputs, _ = fold([decision(A), *run(A, ["blocked"], error=DOWN)])
    assert of(Outcome, outputs)[0].order is not None
    assert not of(End, outputs)


def test_a_zombie_s_run_is_dropped() -> None:
    events = [decision(A), *run(A, ["real"])[:2], RunStarted(A, "demo", 1, "zombie", Target("first", "a"))]
    zombie = run(A, ["FAKE"], "zombie")[1:]
    outputs, _ = fold([*events, *zombie, run(A, ["real"])[2]])
    assert text_of(outputs) == "real"
    assert end_of(outputs).status == "completed"


def test_cancel_before_and_after_the_decision() -> None:
    for events in ([cancel(A), decision(A)], [decision(A), cancel(A)]):
        outputs, _ = fold(events)
        assert (end_of(outputs).status, end_of(outputs).reason) == ("cancelled", "client")


def test_a_cancelled_run_is_booked_when_it_ends() -> None:
    usage = Usage(input=5, output=9, source="provider")
    started, chunk, ended = run(A, ["some text"], error=RunError("cancelled", "x"), usage=usage)
    outputs, _ = fold([decision(A), started, chunk, cancel(A), ended])
    end = end_of(outputs)
    assert (end.status, end.usage.source) == ("cancelled", "estimated")
    [outcome] = of(Outcome, outputs)
    assert (outcome.status, outcome.usage) == ("cancelled", usage)


def test_given_up_orders_end_the_request() -> None:
    for reason in ("expired", "shutdown"):
        outputs, _ = fold([decision(A), GivenUp(A, "demo", 1, reason)])
        assert (end_of(outputs).status, end_of(outputs).reason) == ("failed", reason)


def test_a_time_out_counts_only_if_nothing_stands_before_it() -> None:
    started, chunk, ended = run(A, ["late"])
    outputs, _ = fold([decision(A), started, chunk, TimedOut(A, "demo", "idle", seen=1), ended])
    assert end_of(outputs).status == "completed"
    outputs, _ = fold([decision(A), started, chunk, TimedOut(A, "demo", "idle", seen=2), ended])
    assert (end_of(outputs).status, end_of(outputs).reason) == ("failed", "timeout")


def test_a_repeat_is_dropped_and_a_reused_id_dead_lettered() -> None:
    again, other = decision(A), decision(A, body_hash="c" * 32)
    foreign = decision(A, tenant="other")
    outputs, rejected = fold([decision(A), again, other, foreign, *run(A, ["ok"]), again, other])
    assert text_of(outputs) == "ok"
    assert [(item.offset, item.code) for item in rejected] == [(2, "id_reused"), (3, "id_reused"), (8, "id_reused")]
    assert rejected[0].raw == bytes(other.request)


def test_records_of_another_tenant_touch_nothing() -> None:
    intruder = Cancel(A, "other")
    outputs, rejected = fold([decision(A), intruder, *run(A, ["ok"])])
    assert end_of(outputs).status == "completed"
    assert [item.code for item in rejected] == ["foreign_tenant"]


def test_a_record_in_the_wrong_partition_is_dead_lettered() -> None:
    _, rejected = fold([decision(ELSEWHERE), Cancel("no-uuid", "demo")])
    assert [item.code for item in rejected] == ["wrong_partition", "wrong_partition"]


def test_an_exception_in_the_fold_ends_only_that_request() -> None:
    broken = decision(A, policy=POLICY.version, tenant="nobody")
    outputs, rejected = fold([broken, *run(A, ["lost"]), decision(B), *run(B, ["ok"])])
    assert end_of(outputs, B).status == "completed"
    assert (end_of(outputs, A).status, end_of(outputs, A).reason) == ("failed", "internal_error")
    assert text_of(outputs, A) == ""
    assert [item.code for item in rejected] == ["fold_failed"]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_chunk_is_not_read_over(missing: int) -> None:
    """It stood in a record that could not be read; what follows it would look like a whole answer."""
    started, *chunks, ended = run(A, ["one ", "two ", "six "])
    del chunks[missing]
    outputs, _ = fold([decision(A, cache_key="k"), started, *chunks, ended])
    assert text_of(outputs) == "one two six "[: 4 * missing]
    assert (end_of(outputs).status, end_of(outputs).reason) == ("failed", "internal_error")
    assert [outcome.status for outcome in of(Outcome, outputs)] == ["stopped"]
    assert of(Answer, outputs) == []
    assert of(Stop, outputs) == [Stop(A, "demo", "internal_error")]


def test_a_record_that_must_not_be_folded_ends_its_request() -> None:
    subject, whole = new_fold(), records([decision(A), *run(A, ["a", "b"])])
    outputs = subject.fold(whole[:3])[0] + subject.pass_over(whole[3])
    assert (text_of(outputs), end_of(outputs).reason) == ("a", "internal_error")
    assert subject.pass_over(whole[3]) == []
    first = new_fold()
    assert end_of(first.pass_over(whole[0])).reason == "internal_error"
    assert first.pass_over(whole[0]) == []
    assert first.fold(whole)[0] == []


@pytest.mark.parametrize("event", [cancel(ELSEWHERE), cancel("no-uuid"), Cancel(A, "other"), EdgeStarted(edge())])
def test_a_record_that_does_not_count_ends_nothing(event: Event) -> None:
    subject = new_fold()
    subject.fold(records([decision(A)]))
    assert subject.pass_over(Record(1, START_MS + 10, event)) == []


def test_a_late_repeat_in_a_backlog_is_still_known_though_the_clock_is_far_ahead() -> None:
    subject = new_fold()
    subject.fold(records([decision(A), *run(A, ["ok"])]))
    subject.tick(START_MS + 3_600_000)
    subject.fold([Record(9, START_MS + 60_000, decision(A))])
    assert (subject.open_streams, subject.dropped) == (0, 1)


# Readers


def test_the_last_reader_s_leaving_cancels() -> None:
    subject = new_fold()
    subject.fold(records([decision(A, edge=edge(), on_disconnect="cancel"), Left(A, "demo", edge())]))
    assert [out.event for out in subject.tick(START_MS + 20)] == [Cancel(A, "demo", "reader_gone")]
    assert subject.tick(START_MS + 30) == []


def test_a_stream_that_continues_waits_for_its_grace() -> None:
    subject = new_fold()
    subject.fold(records([decision(A, edge=edge()), Left(A, "demo", edge())]))
    assert subject.tick(START_MS + 29_000) == []
    assert len(subject.tick(START_MS + 31_000)) == 1


def test_someone_who_follows_keeps_it_alive() -> None:
    subject = new_fold()
    other = Joined(A, "demo", edge("other"))
    subject.fold(records([decision(A, edge=edge(), on_disconnect="cancel"), other, Left(A, "demo", edge())]))
    assert subject.tick(START_MS + 50) == []


def test_an_edge_s_new_incarnation_means_that_the_old_one_s_readers_left() -> None:
    for events in (
        [decision(A, edge=edge("old"), on_disconnect="cancel"), EdgeStarted(edge("new"))],
        [EdgeStarted(edge("new")), decision(A, edge=edge("old"), on_disconnect="cancel")],
    ):
        subject = new_fold()
        subject.fold(records(events))
        assert len(subject.tick(START_MS + 50)) == 1


def test_requests_from_kafka_are_not_cancelled_for_want_of_readers() -> None:
    subject = new_fold()
    subject.fold(records([decision(A, on_disconnect="cancel")]))
    assert subject.tick(START_MS + 50_000) == []


def test_the_clock_only_asks() -> None:
    subject = new_fold()
    subject.fold(records([decision(A)]))
    [asked] = subject.tick(START_MS + 60_000)
    assert asked.event == TimedOut(A, "demo", "idle", seen=0)
    outputs, _ = subject.fold([Record(1, START_MS + 60_001, asked.event)])
    assert end_of(outputs).reason == "timeout"


# The same journal gives the same streams

SCRIPTS = {
    "answer": lambda i: [decision(i, cache_key="k"), *run(i, Cuts("An answer of some length.", [3, 9]).pieces)],
    "stopped": lambda i: [decision(i), *run(i, Cuts("See the blocked phrase, and on.", [5, 10, 14]).pieces)],
    "failover": lambda i: [
        decision(i),
        *run(i, [], error=DOWN),
        decision(i, order(), attempt=2),
        *run(i, ["second"], "run-2", attempt=2),
    ],
    "cancelled": lambda i: [decision(i), *run(i, ["one", "two"])[:2], cancel(i), *run(i, ["one", "two"])[2:]],
    "refused": lambda i: [cancel(i), decision(i, flags=("flag",))],
}


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """Three requests' records, interleaved, with repeats of some."""
    scripts = [SCRIPTS[draw(st.sampled_from(sorted(SCRIPTS)))](request) for request in (A, B, C)]
    return interleave(draw, scripts)


def interleave(draw: st.DrawFn, scripts: list[list[Event]]) -> list[Event]:
    queues = [list(script) for script in scripts]
    merged: list[Event] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        merged.append(queue.pop(0))
        if draw(st.integers(0, 9)) == 0:
            merged.append(merged[-1])
    return merged


def outcome_of(outputs: Sequence[Out]) -> dict[tuple[str, str], list[Event]]:
    """What was written under each id to each topic, in order."""
    found: dict[tuple[str, str], list[Event]] = {}
    for out in outputs:
        found.setdefault((out.topic, out.key), []).append(out.event)
    return found


@given(journals(), st.lists(st.integers(1, 40), max_size=6))
def test_any_split_into_batches_gives_the_same(events: list[Event], cuts: list[int]) -> None:
    subject, taken = new_fold(), []
    all_records = records(events)
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, stop in itertools.pairwise(bounds):
        taken += subject.fold(all_records[start:stop])[0]
        assert all(out.topic == "journal" for out in subject.tick(START_MS + stop * 10))
    assert taken == new_fold().fold(all_records)[0]


@given(st.data())
def test_permuted_requests_and_repeats_change_nothing(data: st.DataObject) -> None:
    names = [data.draw(st.sampled_from(sorted(SCRIPTS))) for _ in range(3)]
    scripts = [SCRIPTS[name](request) for name, request in zip(names, (A, B, C), strict=True)]
    merged = interleave(data.draw, scripts)
    together = outcome_of(new_fold().fold([Record(n, START_MS, event) for n, event in enumerate(merged)])[0])
    for script, request in zip(scripts, (A, B, C), strict=True):
        alone = outcome_of(new_fold().fold([Record(n, START_MS, event) for n, event in enumerate(script)])[0])
        for (topic, key), events in alone.items():
            assert key == request
            assert together[topic, key] == events


@given(st.data())
@settings(max_examples=200)
def test_no_character_of_a_blocked_phrase_is_released(data: st.DataObject) -> None:
    filler = st.text(alphabet="abc ёяd,.\n", max_size=12)
    before, after = data.draw(filler), data.draw(filler)
    phrase = data.draw(st.sampled_from(["blocked phrase", "BLOCKED  phrase", "Запретное — слово"]))
    text = f"{before} {phrase} {after}"
    pieces = Cuts(text, data.draw(st.lists(st.integers(0, len(text)), max_size=20))).pieces
    outputs, _ = fold([decision(A), *run(A, pieces)])
    assert text_of(outputs) == f"{before} "
    assert end_of(outputs).status == "stopped"


def test_control_the_checks_above_see_a_leak() -> None:
    """A fold without rules releases the phrase; the assertion would fail."""

    def without_rules(version: str, tenant: str) -> tuple[Effective, CompiledRules]:
        found = policy(rules=[]).effective(tenant)
        assert found is not None
        return found, CompiledRules(found)

    events = [decision(A), *run(A, ["a blocked phrase"])]
    outputs, _ = PartitionFold(0, PARTITIONS, without_rules).fold(records(events))
    assert re.search("blocked phrase", text_of(outputs))
