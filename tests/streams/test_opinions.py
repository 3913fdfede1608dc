"""Asking moderators over HTTP: each question gets one answer, or none in time, and nothing waits for it."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec
import pytest

from connectors.simulated import SimulatedProvider
from processors.events import Opinion
from processors.guard.moderator import Moderator
from processors.guard.opinion import Question
from processors.policy import Provider
from streams import opinions as module
from streams.opinions import Asker
from tests.connectors.providers.conftest import Peer, RawServer

SECRET = "sk-judge-0123456789"
LLAMA = "say?text=" + quote("\n\nunsafe\nS1,S9")
QWEN = "say?text=" + quote("Safety: Unsafe\nCategories: Violent, PII\nRefusal: No")


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def asker(sim: SimulatedProvider) -> AsyncIterator[Asker]:
    made = Asker(sim.url.removesuffix("/v1"))
    yield made
    await asyncio.to_thread(made.close)


def question(number: int = 0, within_s: float = 10.0) -> Question:
    due_ms = int((time.time() + within_s) * 1000)
    return Question("id", "demo", "run", "content", 0, 100 + number, "how the answer goes", due_ms, "policy")


def moderator(model: str) -> Moderator:
    return Moderator("judge", model, ask={"harmful": 0.5})


HERE = Provider("simulated:")


async def heard(asker: Asker) -> Opinion:
    return await asyncio.to_thread(asker.answers.get, timeout=10)


@pytest.mark.parametrize("options", ["", "&whole=1", "&cut=1", "&crlf=1&bom=1"])
@pytest.mark.parametrize(
    ("said", "verdict", "categories"),
    [
        (LLAMA, "unsafe", ("S1", "S9")),
        (QWEN, "unsafe", ("Violent", "PII")),
        ("say?text=safe", "safe", ()),
        ("say?text=" + quote("Safety: Safe\nCategories: None"), "safe", ()),
    ],
)
async def test_an_opinion_in_openai_s_wire_format(
    asker: Asker, sim: SimulatedProvider, said: str, verdict: str, categories: tuple[str, ...], options: str
) -> None:
    asked = question()
    asker.ask(asked, moderator(said + options), HERE)
    assert await heard(asker) == Opinion(
        "id",
        "demo",
        "run",
        asked.at,
        verdict,
        categories,
        said + options,  # type: ignore[arg-type]
    )
    [call] = sim.calls
    assert (call.request_id, call.max_tokens) == ("opinion-run-100", 64)


async def test_what_is_asked_stands_where_the_template_says(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_safe(peer: Peer) -> None:
        await peer.send(whole("safe"))

    monkeypatch.setenv("JUDGE_KEY", SECRET)
    async with RawServer(say_safe) as server:
        judge = Moderator("judge", "m", template="Is this safe? <{text}>")
        asker.ask(question(), judge, Provider(server.url, api_key_env="JUDGE_KEY", headers={"x-team": "red"}))
        assert (await heard(asker)).verdict == "safe"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions ")
    assert b"bearer " + SECRET.encode() in head.lower()
    assert b"x-team: red" in head.lower()
    sent = msgspec.json.decode(body)
    assert sent["messages"] == [{"role": "user", "content": "Is this safe? <how the answer goes>"}]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("m", 0, 64)


def whole(text: str) -> bytes:
    """A whole answer, though a stream was asked for: as some servers give it."""
    message = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    body = msgspec.json.encode(message)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("fail-500", "provider_error"),
        ("fail-401", "unauthorized"),
        ("html", "bad_response"),
        ("garbage?mb=1", "truncated"),
        ("garbage?mb=9&char={", "bad_response"),
        ("endless", "bad_response"),
        ("malformed-after?n=1", "bad_response"),
        ("error-after?n=1", "provider_error"),
        ("die-before", "connect"),
        ("torn-after", "truncated"),
        ("say?text=I+will+not+judge", "bad_response"),
        ("say", "bad_response"),
    ],
)
async def test_what_is_no_opinion_counts_as_silence_at_once(
    asker: Asker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, model: str, why: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    provider = Provider("simulated:", api_key_env="JUDGE_KEY", headers={"x-secret": SECRET})
    with caplog.at_level(logging.INFO, "streams.opinions"):
        for number in range(2):  # said once, not for each question
            asker.ask(question(number), moderator(model), provider)
            found = await heard(asker)
            assert (found.verdict, found.at, found.categories) == ("silent", 100 + number, ())
        [line] = [record.getMessage() for record in caplog.records if record.name == "streams.opinions"]
        assert why in line
        assert "judge" in line
        assert SECRET not in line


async def test_one_that_never_answers_counts_as_silent_when_its_time_is_over(
    asker: Asker, sim: SimulatedProvider
) -> None:
    asker.ask(question(within_s=0.2), moderator("hang"), HERE)
    assert (await heard(asker)).verdict == "silent"
    call = await sim.log.wait(lambda call: call.how is not None)
    assert call.how == "client_closed"


async def test_a_slow_one_holds_up_no_other(asker: Asker, sim: SimulatedProvider) -> None:
    asker.ask(question(1), moderator("hang"), HERE)
    await sim.log.wait(lambda call: call.model == "hang")
    asker.ask(question(2), moderator("say?text=safe"), HERE)
    assert (await heard(asker)).at == 102


async def test_so_many_are_asked_at_once(asker: Asker, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    few = Asker(sim.url.removesuffix("/v1"))
    try:
        for number in range(3):
            few.ask(question(number, within_s=0.2 if number == 2 else 0.6), moderator("hang"), HERE)
        assert {(await heard(few)).at for _ in range(2)} == {100, 101}
        assert len(sim.calls) == 2
        few.ask(question(9), moderator("say?text=safe"), HERE)
        # The third had waited until its time was over: it is not asked, and nothing is said of it here.
        assert (await heard(few)).at == 109
        assert [call.model for call in sim.calls] == ["hang", "hang", "say?text=safe"]
    finally:
        await asyncio.to_thread(few.close)


async def test_after_a_failure_it_is_told_that_it_answers_again(asker: Asker, caplog: pytest.LogCaptureFixture) -> None:
    answers = [b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", whole("safe")]

    async def one_after_the_other(peer: Peer) -> None:
        await peer.send(answers.pop(0))

    with caplog.at_level(logging.INFO, "streams.opinions"):
        async with RawServer(one_after_the_other) as server:
            found = []
            for number in range(2):
                asker.ask(question(number), moderator("m"), Provider(server.url))
                found.append((await heard(asker)).verdict)
    assert found == ["silent", "safe"]
    assert [message.rpartition(" ")[2] for message in caplog.messages][1] == "again"


async def test_closing_breaks_off_what_is_under_way(sim: SimulatedProvider) -> None:
    asker = Asker(sim.url.removesuffix("/v1"))
    asker.ask(question(), moderator("hang"), HERE)
    await sim.log.wait(lambda call: call.how is None)
    await asyncio.to_thread(asker.close)
    assert (await sim.log.wait(lambda call: call.how is not None)).how == "client_closed"
    assert asker.take() == []
    assert "opinions" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_started_before_the_first_question() -> None:
    asker = Asker("")
    assert "opinions" not in {thread.name for thread in threading.enumerate()}
    asker.close()
    assert asker.take() == []
