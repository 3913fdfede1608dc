"""Provider calls as dispatch makes them: nothing is left of a run, and none runs away from its journal."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import psutil
import pytest

from connectors.kafka.policies import publish_policy
from connectors.kafka.writer import AsyncWriter
from connectors.local.embedded import EmbeddedKafka
from connectors.policies import Policies
from connectors.providers import ProviderClient
from connectors.simulated import SimulatedProvider
from processors.codec import decode
from processors.dispatch.fold import Abort, Start
from processors.events import Order, RunEnded, Target
from processors.identity import uuid7
from processors.policy import VersionedPolicy, parse_policy
from streams import runs as module
from streams.lanes import Seen
from streams.runs import MAX_AHEAD, Runs
from tests.connectors.providers.conftest import HEAD, Peer, RawServer, chunked, event

POLICY = parse_policy(
    {
        "version": 1,
        "providers": {"sim": {"kind": "openai", "base_url": "simulated:"}},
        "routes": {"m": [{"provider": "sim", "model": "story"}]},
        "tenants": {"demo": {}},
        "timeouts": {"first_token_s": 0.3, "between_tokens_s": 0.3},
    }
)
FAULTS = [
    "story", "fail-429", "fail-503", "html", "die-before", "reset", "hang", "die-after", "reset-after", "torn-after",
    "hang-after", "error-after", "malformed-after", "no-finish", "no-done", "garbage?mb=3", "endless?pace_ms=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = EmbeddedKafka(tmp_path_factory.mktemp("embedded"), {"journal": 4, "policies": 1})
    bootstrap = service.start()
    publish_policy(bootstrap, POLICY)
    yield bootstrap
    service.stop()


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
async def runs(broker: str, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    """Nobody reads the journal back, so a busy machine must not make them look again before they send."""
    monkeypatch.setattr(module, "PAUSED_S", 60.0)
    policies = Policies(broker)
    await asyncio.to_thread(policies.wait_current)
    writer = AsyncWriter(broker, "test")
    async with ProviderClient() as client:
        made = Runs(client, policies, writer, sim.url.removesuffix("/v1"))
        yield made
        await made.shut_down()
    await writer.aclose()
    policies.close()


def order(model: str, policy: VersionedPolicy = POLICY) -> Start:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    body = msgspec.json.encode({"messages": [{"role": "user", "content": "hi"}]})
    request = uuid7(int(time.time() * 1000), os.urandom(10))
    return Start(request, "demo", 1, policy.version, Order(Target("sim", model), soon, soon), body)


async def over(runs: Runs) -> None:
    async with asyncio.timeout(30):
        await runs.wait_ended()
    await asyncio.sleep(0)  # what follows from it


async def fail_often(runs: Runs, sim: SimulatedProvider) -> None:
    """Every fault at once; whatever is endless is cancelled."""
    started = [order(model) for model in FAULTS]
    for start in started:
        runs.do([start])
    endless = started[-1]
    await sim.log.wait(lambda call: call.model == "endless?pace_ms=5" and call.how is None and call.deltas > 3)
    runs.do([Abort(endless.id, "cancelled")])
    await over(runs)


def left_over() -> tuple[int, int, int]:
    """Runs that something still holds, tasks, and sockets."""
    gc.collect()
    kept = sum(type(thing) is module._Run for thing in gc.get_objects())
    return kept, len(asyncio.all_tasks()), len(psutil.Process().net_connections("tcp"))


@pytest.mark.timeout(110)
async def test_nothing_is_left_of_runs_that_failed(runs: Runs, sim: SimulatedProvider) -> None:
    """After the first round the producer has its connections; ten more leave the same."""
    await fail_often(runs, sim)
    await settled(sim)
    _, tasks, sockets = left_over()
    for _ in range(10):
        await fail_often(runs, sim)
    await settled(sim)
    async with asyncio.timeout(10):
        # The provider's handlers of broken connections tell nobody their end.
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    kept, _, sockets_left = left_over()
    assert kept <= 1  # the last one that was looked at for a sign of life
    assert sockets_left <= sockets + 4  # what the pool keeps, both ends of it
    held = [module._Run(order("story")) for _ in range(3)]
    assert left_over()[0] == kept + len(held), "the control: runs that are held are counted"


async def settled(sim: SimulatedProvider) -> None:
    """Until the provider has seen every call end, and its handlers with it."""
    await sim.log.wait(lambda _: all(call.how for call in sim.calls))
    await asyncio.sleep(0.2)  # its handlers of broken connections end by themselves, and say so to nobody


async def test_a_provider_without_pace_is_read_no_further_than_the_journal(runs: Runs, sim: SimulatedProvider) -> None:
    """Nobody reads the journal back here, so the run stands still; then it is, and the run goes on."""
    start = order("endless")
    runs.do([start])
    ((run,),) = runs._runs.values()
    call = await sim.log.wait(lambda call: call.deltas > MAX_AHEAD)
    sent = -1
    while call.deltas != sent:  # until it is held
        sent = call.deltas
        await asyncio.sleep(0.1)
    assert run.chunks == MAX_AHEAD
    for read in range(20):
        assert run.chunks <= MAX_AHEAD + 500 * read
        for _ in range(500):
            runs.read_back(start.id)
            await asyncio.sleep(0)
    await sim.log.wait(lambda call: call.deltas > sent)
    runs.do([Abort(start.id, "cancelled")])
    await over(runs)
    assert (await sim.log.wait(lambda call: call.how is not None)).how == "client_closed"


async def test_a_connection_is_used_again_though_its_answer_ends_late(runs: Runs) -> None:
    """Many providers send the end of the HTTP answer after `[DONE]`, in a packet of its own."""

    async def answer(peer: Peer) -> None:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await peer.send(chunked(event("Hi") + event(finish="stop") + b"data: [DONE]\n\n"))
        await asyncio.sleep(0.01)
        await peer.send(b"0\r\n\r\n")

    async with RawServer(answer) as server:
        runs._simulated = server.url.removesuffix("/v1")
        for _ in range(3):
            runs.do([order("m")])
            await over(runs)
        assert (len(server.requests), server.connections) == (3, 1)


async def test_a_run_is_ours_until_its_end_can_be_read_back(
    runs: Runs, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_BACK_S", 0.2)
    start = order("endless?pace_ms=5")
    runs.do([start])
    await sim.log.wait(lambda call: call.deltas > 3)
    [ours] = runs.ids
    runs.do([Abort(start.id, "cancelled")])
    await over(runs)
    assert runs.ids == {ours}
    async with asyncio.timeout(5):
        while runs.ids:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_request_that_is_no_json_ends_its_run(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A decision in the journal carries it unread; nothing of its bytes gets into an exception's trace."""
    written: list[bytes] = []
    deliver = runs._writer.deliver

    def noted(topic: str, key: str, value: bytes) -> "asyncio.Future[int]":
        written.append(value)
        return deliver(topic, key, value)

    monkeypatch.setattr(runs._writer, "deliver", noted)
    runs.do([order("story")._replace(body=b'{"messages": ["' + bytes([255]) + b'"]}')])
    await over(runs)
    ended = decode("journal", written[-1])
    assert isinstance(ended, RunEnded)
    assert ended.error is not None
    assert ended.error.kind == "invalid_request"
    assert "Traceback" not in caplog.text


async def test_nothing_is_sent_before_the_log_has_the_announcement(
    runs: Runs, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting, may_send = asyncio.Event(), runs._may_send

    async def asked(run: module._Run, announced: "asyncio.Future[int]") -> None:
        waiting.set()
        await may_send(run, announced)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_may_send", asked)
        patch.setattr(runs._writer, "deliver", lambda *_: acknowledged)
        runs.do([order("story")])
        await asyncio.wait_for(waiting.wait(), 10)
    await asyncio.sleep(0.05)  # longer than a call to a provider on this machine takes to arrive
    assert sim.calls == []
    acknowledged.set_result(0)
    await over(runs)
    assert len(sim.calls) == 1


class TestOneThatStoodStill:
    """A run whose announcement or connection took so long that a successor may have ended it by now."""

    @pytest.fixture(autouse=True)
    def _late(self, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PAUSED_S", -1.0)

    async def begun(self, runs: Runs) -> tuple[Start, str]:
        start = order("story")
        runs.do([start])
        [run] = runs.ids
        async with asyncio.timeout(10):
            while run not in runs._looking:  # noqa: ASYNC110 - a sign of life is on its way, which tells nobody here
                await asyncio.sleep(0.01)
        return start, run

    async def test_sends_nothing_before_it_has_read_its_own_sign_of_life(
        self, runs: Runs, sim: SimulatedProvider
    ) -> None:
        _, run = await self.begun(runs)
        assert sim.calls == []
        runs.do([Seen(run)])
        await over(runs)
        assert [call.request_id for call in sim.calls] == [run]

    async def test_sends_nothing_where_its_end_stands_before_that(self, runs: Runs, sim: SimulatedProvider) -> None:
        start, run = await self.begun(runs)
        runs.do([Abort(start.id, "superseded", only=run), Seen(run)])
        await over(runs)
        assert sim.calls == []

    async def test_sends_nothing_where_the_journal_cannot_be_read(
        self, runs: Runs, sim: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "READ_BACK_S", 0.2)
        await self.begun(runs)
        await over(runs)
        assert sim.calls == []


async def test_control_one_that_did_not_stand_still_sends_at_once(runs: Runs, sim: SimulatedProvider) -> None:
    runs.do([order("story")])
    await over(runs)
    assert len(sim.calls) == 1
