"""Second opinions: when a moderator is asked, how its word is read, and what counts when it is read back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.codec import encode
from processors.errors import Invalid
from processors.events import Action, Answer, Chunk, End, Event, Opinion, Scored, Stop, TimedOut, Verdict
from processors.guard.fold import PartitionFold
from processors.guard.moderator import Moderator
from processors.guard.opinion import Question, opinion_on, read, request_of
from processors.guard.outputs import Out
from processors.guard.rules import CompiledRules
from processors.policy import Effective, parse_policy
from processors.record import Record
from tests.processors.guard.test_fold import DOWN, A, B, end_of, of, text_of
from tests.processors.guard.test_keep import Log
from tests.samples import PARTITIONS, START_MS, decision, order, policy, records, run

View = Callable[[str, str], tuple[Effective, CompiledRules]]
MODERATOR: dict[str, Any] = {"provider": "second", "model": "judge", "ask": {"harmful": 0.5}, "window_chars": 40}
TEXT = "First it says this, then it says that, and then it says something else."


def moderated(*, dry_run: bool = False, timeouts: dict[str, float] | None = None, **changes: Any) -> View:
    """A policy under which answers are scored every 20 characters, and a moderator is asked above 0.5."""
    found = policy(
        classifier={"window_chars": 30, "stride_chars": 20},
        moderator=MODERATOR | changes,
        moderation={"dry_run": dry_run},
        timeouts=timeouts or {},
    ).effective("demo")
    assert found is not None
    compiled = CompiledRules(found)
    return lambda *_: (found, compiled)


class Journal:
    """A journal that is folded as it grows, a record every 10 ms, as the stage does it."""

    def __init__(self, view: View) -> None:
        self.fold = PartitionFold(0, PARTITIONS, view)
        self.records: list[Record] = []
        self.out: list[Out] = []

    def add(self, *events: Event) -> "Journal":
        new = records(list(events), len(self.records), 0)
        new = [Record(one.offset, START_MS + one.offset * 10, one.event) for one in new]
        self.records += new
        out, rejected = self.fold.fold(new)
        assert rejected == []
        self.out += out
        return self

    @property
    def now_ms(self) -> int:
        return START_MS + len(self.records) * 10


def scored(score: float, at: int, request: str = A, **more: Any) -> Scored:
    return Scored(request, "demo", "run-1", at, {"harmful": score}, "m", **more)


def answer(question: Question, verdict: str, *categories: str) -> Opinion:
    return Opinion(
        question.id,
        "demo",
        question.run,
        question.at,
        verdict,
        categories,
        "judge",
        question.kind,
        question.choice,  # type: ignore[arg-type]
    )


def suspicious(view: View) -> tuple[Journal, Question]:
    """An answer that goes on, and about which a moderator is asked."""
    started, chunk, *_ = run(A, [TEXT])
    journal = Journal(view).add(decision(A, cache_key="k"), started, chunk, scored(0.9, 60))
    [question] = journal.fold.to_ask()
    return journal, question


class TestAsking:
    def test_it_is_asked_above_the_threshold_about_the_end_of_the_text_so_far(self) -> None:
        journal, question = suspicious(moderated())
        assert (question.id, question.run, question.kind, question.choice) == (A, "run-1", "content", 0)
        assert (question.at, question.text) == (len(TEXT), TEXT[-40:])
        assert question.due_ms == journal.records[-1].time_ms + 5000
        assert journal.fold.to_ask() == []

    @pytest.mark.parametrize(
        "event",
        [
            scored(0.5, 60),
            Scored(A, "demo", "run-1", 60, {"toxicity": 1.0}, "m"),
            Scored(A, "demo", "another run", 60, {"harmful": 1.0}, "m"),
            scored(1.0, 60, kind="reasoning"),
            scored(1.0, 60, request=B),
        ],
    )
    def test_control_it_is_not_asked_for_less(self, event: Scored) -> None:
        started, chunk, *_ = run(A, [TEXT])
        assert Journal(moderated()).add(decision(A), decision(B), started, chunk, event).fold.to_ask() == []

    def test_it_is_not_asked_where_the_policy_names_no_label(self) -> None:
        started, chunk, *_ = run(A, [TEXT])
        journal = Journal(moderated(ask={})).add(decision(A), started, chunk, scored(1.0, 60))
        assert journal.fold.to_ask() == []
        assert journal.fold.windows == []  # nor is anything scored for its sake

    def test_it_is_asked_again_after_so_many_characters_and_so_often(self) -> None:
        started = run(A, [])[0]
        journal = Journal(moderated(every_chars=30, max_questions=3)).add(decision(A), started)
        asked = []
        for n in range(20):
            journal.add(Chunk(A, "demo", "run-1", n, "ten chars "), scored(0.9, (n + 1) * 10))
            asked += [question.at for question in journal.fold.to_ask()]
        assert asked == [10, 40, 70]

    def test_the_text_is_shown_however_it_came(self) -> None:
        started = run(A, [])[0]
        chunks = [Chunk(A, "demo", "run-1", n, character) for n, character in enumerate(TEXT * 3)]
        journal = Journal(moderated(window_chars=100)).add(decision(A), started, *chunks, scored(0.9, 200))
        [question] = journal.fold.to_ask()
        assert question.text == (TEXT * 3)[-100:]
        assert {len(window.text) for window in journal.fold.windows} == {20, 30}  # a classifier sees no more for it


class TestCounting:
    """What is read back counts."""

    @pytest.mark.parametrize(
        ("verdict", "changes", "rule", "ends"),
        [
            ("unsafe", {}, "moderator", "stopped"),
            ("unsafe", {"action": "flag"}, "moderator", None),
            ("safe", {"silent": "stop"}, None, None),
            ("silent", {}, None, None),
            ("silent", {"silent": "flag"}, "moderator.silent", None),
            ("silent", {"silent": "stop"}, "moderator.silent", "stopped"),
        ],
    )
    def test_each_verdict_leads_to_what_the_policy_says(
        self, verdict: str, changes: dict[str, Any], rule: str | None, ends: str | None
    ) -> None:
        journal, question = suspicious(moderated(severity=8, category="harmful", **changes))
        journal.out.clear()
        journal.add(answer(question, verdict, "S1"))
        found = [(one.rule, one.category, one.severity, one.span) for one in of(Verdict, journal.out)]
        assert found == ([(rule, "harmful", 8, (len(TEXT) - 40, len(TEXT)))] if rule else [])
        assert [one.rule for one in of(Action, journal.out)] == [rule] * bool(rule)
        assert [one.status for one in of(End, journal.out)] == [ends] * bool(ends)
        assert of(Stop, journal.out) == ([Stop(A, "demo", "content_filter", str(rule))] if ends else [])

    def test_in_a_dry_run_it_only_flags(self) -> None:
        journal, question = suspicious(moderated(dry_run=True))
        journal.add(answer(question, "unsafe"))
        assert ([one.action for one in of(Action, journal.out)], of(End, journal.out)) == (["flag"], [])

    def test_after_an_unsafe_opinion_nothing_more_is_released(self) -> None:
        for verdict, more in (("unsafe", ""), ("safe", " And more.")):  # the second is the control
            journal, question = suspicious(moderated())
            journal.add(answer(question, verdict), Chunk(A, "demo", "run-1", 1, " And more."))
            assert text_of(journal.out) == TEXT + more

    def test_the_first_opinion_counts(self) -> None:
        for first, second, ends in (("safe", "unsafe", []), ("unsafe", "safe", ["stopped"])):
            journal, question = suspicious(moderated())
            journal.add(answer(question, first), answer(question, second))
            assert [one.status for one in of(End, journal.out)] == ends

    def test_what_nobody_asked_for_does_not_count(self) -> None:
        journal, question = suspicious(moderated())
        elsewhere = [
            Opinion(A, "demo", "run-1", question.at - 1, "unsafe"),
            Opinion(A, "demo", "another run", question.at, "unsafe"),
            Opinion(A, "demo", "run-1", question.at, "unsafe", kind="reasoning"),
            Opinion(A, "demo", "run-1", question.at, "unsafe", choice=1),
        ]
        journal.add(*elsewhere)
        assert of(Verdict, journal.out) == of(End, journal.out) == []

    def test_the_end_of_an_answer_waits_for_it(self) -> None:
        for verdict, status in (("unsafe", "stopped"), ("safe", "completed")):
            journal, question = suspicious(moderated())
            journal.add(run(A, [TEXT])[-1], scored(0.1, len(TEXT)))
            assert of(End, journal.out) == []
            journal.add(answer(question, verdict))
            assert end_of(journal.out).status == status
            assert text_of(journal.out) == TEXT
            assert [one.cache_key for one in of(Answer, journal.out)] == ["k"] * (verdict == "safe")

    def test_a_flagged_answer_is_not_for_the_cache(self) -> None:
        journal, question = suspicious(moderated(action="flag"))
        journal.add(answer(question, "unsafe"), run(A, [TEXT])[-1], scored(0.1, len(TEXT)))
        assert (end_of(journal.out).status, of(Answer, journal.out)[0].cache_key) == ("completed", None)

    def test_a_question_of_a_run_that_failed_is_forgotten(self) -> None:
        journal = Journal(moderated(silent="stop"))
        *begun, failed = run(A, ["blocked"], error=DOWN)  # what is held back may be taken up by another attempt
        journal.add(decision(A), *begun, scored(0.9, 7))
        [question] = journal.fold.to_ask()
        journal.add(failed, decision(A, attempt=2), run(A, [], "run-2", attempt=2)[0])
        assert journal.fold.tick(question.due_ms) == []


class TestSilence:
    def test_the_guard_says_so_when_the_time_is_over_once(self) -> None:
        journal, question = suspicious(moderated())
        assert journal.fold.tick(question.due_ms - 1) == []
        [said] = journal.fold.tick(question.due_ms)
        assert (said.topic, said.key) == ("journal", A)
        assert said.event == Opinion(A, "demo", "run-1", question.at, "silent", (), "judge")
        assert journal.fold.tick(question.due_ms + 100) == []

    def test_it_is_not_said_of_what_was_answered(self) -> None:
        journal, question = suspicious(moderated())
        journal.add(answer(question, "safe"))
        assert journal.fold.tick(question.due_ms) == []

    def test_it_counts_when_it_is_read_back(self) -> None:
        journal, question = suspicious(moderated(silent="stop"))
        [said] = journal.fold.tick(question.due_ms)
        assert of(End, journal.out) == []
        journal.add(said.event)
        assert (end_of(journal.out).status, end_of(journal.out).reason) == ("stopped", "content_filter")

    @pytest.mark.parametrize("timeouts", [{"idle_s": 2.0}, {"deadline_s": 2.0}])
    def test_an_answer_that_waits_for_it_does_not_time_out(self, timeouts: dict[str, float]) -> None:
        """Its text is whole; what is missing is only the moderator's word, and what that means then is stated."""
        started, chunk, ended = run(A, [TEXT])
        journal = Journal(moderated(timeouts=timeouts))
        asked = decision(A, order(deadline_s=timeouts.get("deadline_s", 120.0)))
        journal.add(asked, started, chunk, scored(0.9, 60), ended, scored(0.1, len(TEXT)))
        said = [one.event for one in journal.fold.tick(journal.now_ms + 2000)]
        assert [type(one) for one in said] == [Opinion, TimedOut]
        journal.add(*said)
        assert end_of(journal.out).status == "completed"


class TestRebuild:
    def test_what_is_open_is_asked_anew_by_a_successor(self) -> None:
        journal, question = suspicious(moderated())
        for successor in (read_again(journal), restored(journal)):
            assert successor.to_ask() == [question]
            assert [type(one.event) for one in successor.tick(question.due_ms)] == [Opinion]

    def test_what_was_answered_is_not(self) -> None:
        journal, question = suspicious(moderated())
        journal.add(answer(question, "safe"))
        for successor in (read_again(journal), restored(journal)):
            assert successor.to_ask() == []

    @pytest.mark.parametrize(
        ("changes", "asks"), [({"max_questions": 1, "every_chars": 1}, 0), ({}, 0), ({"every_chars": 9}, 1)]
    )
    def test_a_successor_asks_what_its_predecessor_would_have(self, changes: dict[str, Any], asks: int) -> None:
        journal, _ = suspicious(moderated(window_chars=100, **changes))
        successor = restored(journal)
        successor.to_ask()
        more = [Chunk(A, "demo", "run-1", 1, "And more of it."), scored(0.9, len(TEXT) + 15)]
        successor.fold([Record(len(journal.records) + n, journal.now_ms, event) for n, event in enumerate(more)])
        assert [question.text for question in successor.to_ask()] == [(TEXT + "And more of it.")[-100:]] * asks

    @given(st.data())
    def test_killed_and_rebuilt_at_any_points_it_decides_the_same(self, data: st.DataObject) -> None:
        """A journal as guards wrote it that were killed at any point, with answers, late ones and silences in it."""
        view = moderated(every_chars=20, silent=data.draw(st.sampled_from(["allow", "flag", "stop"])), action="stop")
        pieces = [f"piece {n} of it. " for n in range(data.draw(st.integers(1, 8)))]
        started, *middle, ended = run(A, pieces)
        journal, log = Journal(view).add(decision(A), started), Log()
        written = []
        committed = 0
        open_questions: list[Question] = []
        at = 0
        for event in (*middle, ended):
            journal.add(event)
            at += len(event.text) if isinstance(event, Chunk) else 0
            if data.draw(st.booleans(), label="scored"):
                journal.add(scored(data.draw(st.sampled_from([0.1, 0.9])), at))
            what = data.draw(st.sampled_from(["nothing", "answer", "silence", "keep", "kill"]))
            open_questions += journal.fold.to_ask()
            if what == "answer" and open_questions:
                question = data.draw(st.sampled_from(open_questions))
                journal.add(answer(question, data.draw(st.sampled_from(["safe", "unsafe", "silent"]))))
            elif what == "silence":
                journal.add(*(one.event for one in journal.fold.tick(journal.now_ms + 5000)))
            elif what == "keep":
                committed = log.commit(journal.fold, len(journal.records), len(journal.records))
            elif what == "kill":
                written += journal.out
                journal.out = []
                journal.fold = PartitionFold(0, PARTITIONS, view)
                for key, value in log.values.items():
                    journal.fold.restore(key, value)
                written += journal.fold.fold(journal.records[committed:])[0]
                assert states(journal.fold) == states(read_again(journal))
        # Whatever is left is settled: by the scores of the whole text, and by silence.
        journal.add(scored(0.1, at))
        for _ in range(4):
            journal.add(*(one.event for one in journal.fold.tick(journal.now_ms + 5000) if type(one.event) is Opinion))
        written += journal.out
        straight = PartitionFold(0, PARTITIONS, view).fold(journal.records)[0]
        assert told(written) == told(straight)
        assert len(of(End, straight)) == 1

    def test_control_a_snapshot_without_its_questions_would_decide_otherwise(self) -> None:
        journal, question = suspicious(moderated())
        forgetful = PartitionFold(0, PARTITIONS, moderated(ask={}))
        kept = kept_of(journal)
        for key, value in kept.items():
            forgetful.restore(key, value)
        end = [Record(len(journal.records), journal.now_ms, answer(question, "unsafe"))]
        assert of(End, forgetful.fold(end)[0]) == []
        assert len(of(End, restored(journal, kept).fold(end)[0])) == 1


def states(fold: PartitionFold) -> list[object]:
    """What a fold knows of questions about its open requests, and of the texts to ask about."""
    kept = [stream.snapshot().release for stream in fold._open.values()]
    return [(one.opinions, [lane.tail and (lane.tail.text, lane.tail.seen) for lane in one.lanes]) for one in kept]


def told(outputs: list[Out]) -> dict[str, set[bytes]]:
    """What was told by topic; a rebuild writes again what it cannot know to be there, and no answers for the cache."""
    found: dict[str, set[bytes]] = {}
    for out in outputs:
        if out.topic in ("tokens", "verdicts", "journal", "outcomes"):
            found.setdefault(out.topic, set()).add(encode(out.event))
    return found


def kept_of(journal: Journal) -> dict[str, bytes]:
    log = Log()
    log.commit(journal.fold, len(journal.records), len(journal.records))
    return log.values


def restored(journal: Journal, kept: dict[str, bytes] | None = None) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, journal.fold._effective)
    for key, value in (kept or kept_of(journal)).items():
        fold.restore(key, value)
    return fold


def read_again(journal: Journal) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, journal.fold._effective)
    fold.fold(journal.records)
    return fold


class TestReading:
    JUDGE = Moderator("p", "judge")

    @pytest.mark.parametrize(
        ("said", "verdict", "categories"),
        [
            ("safe", "safe", ()),  # Llama Guard 3
            ("\n\nsafe", "safe", ()),
            ("unsafe\nS1", "unsafe", ("S1",)),
            ("\n\nunsafe\nS1,S10\n", "unsafe", ("S1", "S10")),
            ("unsafe", "unsafe", ()),
            ("Safety: Safe\nCategories: None\nRefusal: Yes", "safe", ()),  # Qwen3Guard
            ("Safety: Unsafe\nCategories: Violent\nRefusal: No", "unsafe", ("Violent",)),
            ("Safety: Unsafe\nCategories: PII, Suicide & Self-Harm", "unsafe", ("PII", "Suicide & Self-Harm")),
            ("Safety: Controversial\nCategories: Unethical Acts", "silent", ()),
            ("UNSAFE", "unsafe", ()),
            ("", "silent", ()),
            ("I cannot help with that.", "silent", ()),
            ("unsafely safety", "silent", ()),
            ("x" * 1000 + " unsafe", "silent", ()),
        ],
    )
    def test_the_words_of_both_models(self, said: str, verdict: str, categories: tuple[str, ...]) -> None:
        assert read(self.JUDGE, said) == (verdict, categories)

    def test_the_middle_grade_goes_where_the_policy_puts_it(self) -> None:
        said = "Safety: Controversial\nCategories: Unethical Acts"
        strict = Moderator("p", "judge", unsafe=r"(?i)\b(unsafe|controversial)\b")
        lax = Moderator("p", "judge", safe=r"(?i)\b(safe|controversial)\b")
        assert (read(strict, said), read(lax, said)) == (("unsafe", ("Unethical Acts",)), ("safe", ()))

    @given(st.text())
    def test_whatever_it_says_is_one_of_three(self, said: str) -> None:
        verdict, categories = read(self.JUDGE, said)
        assert verdict in ("safe", "unsafe", "silent")
        assert len(categories) <= 16
        assert all(0 < len(name) <= 64 for name in categories)

    def test_it_is_shown_the_text_where_the_template_says(self) -> None:
        turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "{text}"}]
        found = parse_policy(data(template=turns)).policy.moderator
        assert found is not None
        asked = request_of(found, "an {text} {answer}")
        assert asked["messages"] == [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "an {text} {answer}"},
        ]
        assert (asked["temperature"], asked["max_tokens"]) == (0, 64)
        assert request_of(self.JUDGE, "it")["messages"] == [{"role": "user", "content": "it"}]

    def test_an_answer_becomes_a_record_that_is_what_was_asked(self) -> None:
        _, question = suspicious(moderated())
        assert opinion_on(question, self.JUDGE, "unsafe\nS2") == answer(question, "unsafe", "S2")
        assert opinion_on(question, self.JUDGE, None) == answer(question, "silent")


def data(**changes: Any) -> dict[str, Any]:
    """A policy as parsed from YAML."""
    return {
        "version": 1,
        "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}},
        "routes": {"m": [{"provider": "p", "model": "m"}]},
        "tenants": {"demo": {}},
        "moderator": {"provider": "p", "model": "judge", "ask": {"harmful": 0.5}} | changes,
    }


class TestPolicy:
    @pytest.mark.parametrize(
        ("changes", "path", "fix"),
        [
            ({"provider": "nobody"}, "moderator.provider", "not declared under providers"),
            ({"model": ""}, "moderator.model", "empty"),
            ({"template": "Is it safe?"}, "moderator.template", "{text}"),
            ({"template": [{"role": "user", "content": "?"}]}, "moderator.template", "{text}"),
            ({"template": [{"role": "judge", "content": "{text}"}]}, "moderator.template[0].role", "invalid enum"),
            ({"ask": {"harmful": 2}}, "moderator.ask.harmful", "<= 1"),
            ({"unsafe": "un(safe"}, "moderator.unsafe", "no regular expression"),
            ({"unsafe": "^unsafe"}, "moderator.unsafe", "no meaning"),
            ({"safe": "x*"}, "moderator.safe", "empty string"),
            ({"timeout_s": 0}, "moderator.timeout_s", "> 0"),
            ({"silent": "maybe"}, "moderator.silent", "invalid enum"),
            ({"lables": {}}, "moderator.lables", "not known"),
        ],
    )
    def test_a_mistake_is_named_with_its_place(self, changes: dict[str, Any], path: str, fix: str) -> None:
        with pytest.raises(Invalid, match=fix.replace("(", r"\(")) as caught:
            parse_policy(data(**changes))
        assert caught.value.path == path

    def test_a_tenant_overrides_it_key_by_key(self) -> None:
        given = data() | {"tenants": {"a": {}, "b": {"moderator": {"model": "other", "ask": {}}}}}
        found = parse_policy(given)
        a, b = found.effective("a"), found.effective("b")
        assert a is not None
        assert b is not None
        assert a.moderator is not None
        assert b.moderator is not None
        assert (a.moderator.model, b.moderator.model, b.moderator.provider) == ("judge", "other", "p")
        assert (a.scored, b.scored, found.uses_classifier) == (True, False, True)
        del given["moderator"]
        with pytest.raises(Invalid, match="is missing") as caught:
            parse_policy(given)
        assert caught.value.path == "tenants.b.moderator.provider"

    def test_a_tenant_s_mistake_is_named_as_its_own(self) -> None:
        with pytest.raises(Invalid) as caught:
            parse_policy(data() | {"tenants": {"a": {"moderator": {"provider": "nobody"}}}})
        assert caught.value.path == "tenants.a.moderator.provider"

    def test_without_the_section_nobody_is_asked(self) -> None:
        given = data()
        del given["moderator"]
        found = parse_policy(given).effective("demo")
        assert found is not None
        assert (found.moderator, found.scored) == (None, False)
