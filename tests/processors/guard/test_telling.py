"""Verdicts and actions as records: numbers, counts, what a dry run makes of them."""

from processors.events import Action, Verdict
from processors.guard.outputs import Out
from processors.guard.telling import Place, Position, Telling

AT = Position("run", 120, 30)


def told(dry_run: bool = False) -> tuple[Telling, list[Out]]:
    out: list[Out] = []
    return Telling("id", "acme", "v1", dry_run, out), out


def verdicts(out: list[Out]) -> list[Verdict]:
    return [one.event for one in out if isinstance(one.event, Verdict)]


def test_verdicts_and_actions_are_numbered_apart_and_counted() -> None:
    telling, out = told()
    assert telling.verdict(AT, "codes", "secrets", 7, "mask", Place("reasoning", 1, (3, 9)), "abc123") == "mask"
    telling.action(AT, "mask", "codes", "secrets")
    assert telling.verdict(AT, "codes", "secrets", 7, "mask") == "mask"
    telling.action(AT, "mask", "codes", "secrets")
    telling.action(AT, "hold", "moderation.hold", "sentence")
    assert [one.topic for one in out] == ["verdicts"] * 5
    first, second = verdicts(out)
    assert (first.kind, first.choice, first.span) == ("reasoning", 1, (3, 9))
    assert (first.run, first.seen_chars, first.seen_tokens, first.policy) == ("run", 120, 30, "v1")
    assert first.text_hash != second.text_hash == ""  # of what was found, never the text itself
    assert [one.event.n for one in out if isinstance(one.event, Verdict | Action)] == [0, 0, 1, 1, 2]
    assert telling.found == {"codes": 2}
    assert telling.done == {"mask": 2, "hold": 1}


def test_a_dry_run_flags_and_tells_what_would_have_been_done() -> None:
    telling, out = told(dry_run=True)
    assert telling.verdict(AT, "insults", "toxicity", 5, "stop") == "flag"
    (verdict,) = verdicts(out)
    assert (verdict.action, verdict.would) == ("flag", "stop")


def test_a_limit_counts_in_a_dry_run_too() -> None:
    telling, out = told(dry_run=True)
    telling.verdict_on_limit(AT, "limits.max_seconds")
    (verdict,) = verdicts(out)
    assert (verdict.action, verdict.would, verdict.category) == ("stop", "", "limits")


def test_what_was_found_in_the_prompt_says_so() -> None:
    telling, out = told()
    telling.verdict_on_prompt(AT, "injection", "prompt", 6, "refuse")
    (verdict,) = verdicts(out)
    assert (verdict.source, verdict.action) == ("prompt", "refuse")


def test_an_answer_is_clean_until_something_is_found_in_it() -> None:
    telling, _ = told()
    telling.verdict_on_prompt(AT, "injection", "prompt", 6)
    assert telling.clean
    telling.verdict(AT, "codes", "secrets", 7, "mask")
    telling.verdict_on_prompt(AT, "injection", "prompt", 6)
    assert not telling.clean
