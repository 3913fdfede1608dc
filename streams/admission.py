"""Admission: every request gets its first decision here, and every failed attempt its next."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from connectors.kafka.dead_letters import TOPIC as DEAD_LETTERS
from connectors.kafka.dead_letters import dead_letter_headers
from connectors.kafka.follow import AIOKafkaConsumer, CommitFailedError, TopicPartition, group_reader
from connectors.kafka.table import CompactedTable
from connectors.kafka.writer import AsyncWriter, DeliveryFailed
from connectors.marks import Marks
from connectors.policies import Policies
from connectors.redis.cache import AnswerCache
from connectors.redis.totals import Totals
from processors.admission.decide import decide, next_attempt
from processors.admission.examine import Examined, examine, give_up
from processors.codec import BadRecord, decode, encode
from processors.events import Cancel, Decision, Target
from processors.guard.rules import CompiledRules
from processors.health import is_bad, key_of, usual_tokens
from processors.poison import Fate, verdict
from processors.policy import Effective, VersionedPolicy
from processors.times import from_ms
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

COMMIT_EVERY_S = 1.0
"""What is read again after a crash is decided again, and counts once."""
ASK_S = 1.0
"""How long the topic of policies is asked for a version that has not been seen: the whole stage waits for it."""


class AdmissionStage:
    """Takes what has arrived as one batch: one read of the cache, sends together, acknowledgements awaited together."""

    def __init__(
        self, context: Context, policies: Policies, health: CompactedTable, cache: AnswerCache, totals: Totals
    ) -> None:
        self._context = context
        self._policies = policies
        self._health = health
        self._cache = cache
        self._totals = totals
        self._writer = AsyncWriter(context.settings.kafka, context.member)
        self._last_commit = 0.0
        self._uncommitted = False
        self._marks = Marks(context.mark_file)

    async def run(self, stopping: Stopping) -> None:
        """Decide until asked to stop. What is not committed then is decided again, which changes nothing."""
        settings = self._context.settings
        reader = await group_reader(settings.kafka, "admission", self._context.member, settings.fetch_wait_ms)
        reader.subscribe(["requests", "outcomes"])
        ready = False
        while not stopping.asked:
            if not ready and reader.assignment():
                ready = True
                self._context.announce_ready()
            await self._cycle(reader)
            if self._uncommitted and time.monotonic() - self._last_commit >= COMMIT_EVERY_S:
                await self._commit(reader)
        await self._commit(reader)
        await self._writer.aclose()
        await reader.stop()

    async def _cycle(self, reader: AIOKafkaConsumer) -> None:
        batches = await reader.getmany(timeout_ms=200, max_records=500)
        if not batches:
            return
        sent: list[asyncio.Future[int]] = []
        waiting: list[Examined] = []
        for partition, messages in batches.items():
            self._take_batch(partition, messages, waiting, sent)
        answers, totals = await self._looked_up(waiting)
        for item, answer in zip(waiting, answers, strict=True):
            sent.append(self._send(decide(item, answer, self._is_bad, self._usual, totals)))
        await asyncio.gather(*sent)
        self._uncommitted = True

    async def _commit(self, reader: AIOKafkaConsumer) -> None:
        self._last_commit, self._uncommitted = time.monotonic(), False
        with contextlib.suppress(CommitFailedError):  # a rebalance was quicker; what is decided twice counts once
            await reader.commit()

    def _take_batch(
        self,
        partition: TopicPartition,
        messages: Sequence[Any],
        waiting: list[Examined],
        sent: list["asyncio.Future[int]"],
    ) -> None:
        try:
            for fate, piece in self._marks.pieces(partition.topic, partition.partition, messages, _place):
                if fate is Fate.TAKE:
                    for message in piece:
                        self._take(message, waiting, sent)
                else:
                    self._pass_over(piece[0], fate, sent)
        except DeliveryFailed:  # not the record's fault
            self._marks.clear()
            raise

    def _pass_over(self, message: Any, fate: Fate, sent: list["asyncio.Future[int]"]) -> None:
        if fate is Fate.END:
            self._give_up(message, sent)
        sent.append(self._dead_letter(message, verdict()))

    def _give_up(self, message: Any, sent: list["asyncio.Future[int]"]) -> None:
        """Tell whoever asks, where that is possible. A request that misses its next attempt ends by its deadline."""
        if message.topic == "requests":
            with contextlib.suppress(BadRecord):
                now = datetime.now(UTC)
                sent.append(self._send(give_up(message.value, from_ms(message.timestamp), now, self._view)))

    def _take(self, message: Any, waiting: list[Examined], sent: list["asyncio.Future[int]"]) -> None:
        try:
            result = self._read(message)
        except BadRecord as error:
            sent.append(self._dead_letter(message, error))
            return
        except Exception as error:  # as in the guard's fold: it ends this request, not the stage
            log.exception("%s[%d]@%d", message.topic, message.partition, message.offset)
            self._give_up(message, sent)
            sent.append(self._dead_letter(message, BadRecord("internal_error", f"{type(error).__name__}: {error}")))
            return
        if isinstance(result, Examined):
            waiting.append(result)
        elif result is not None:
            sent.append(self._send(result))

    def _read(self, message: Any) -> Examined | Decision | Cancel | None:
        now = datetime.now(UTC)
        if message.topic == "outcomes":
            outcome = decode("outcomes", message.value, message.headers)
            return next_attempt(outcome, now, self._is_bad, self._usual, self._is_declared)
        return examine(message.value, message.headers, from_ms(message.timestamp), now, self._view)

    async def _looked_up(self, waiting: Sequence[Examined]) -> tuple[list[Any], dict[str, int] | None]:
        """What Redis knows: the stored answer of each request, and what is used of their budgets."""
        keys = [item.read_key for item in waiting if item.read_key]
        accounts = {account.key for item in waiting for account in item.accounts}
        if not keys and not accounts:  # no tasks for nothing: they would take 0.4 ms of a first token
            return [None] * len(waiting), {}
        values, totals = await asyncio.gather(self._cache.get_many(keys), self._totals.read(accounts))
        found = dict(zip(keys, values, strict=True))
        return [found.get(item.read_key) if item.read_key else None for item in waiting], totals

    def _send(self, event: Decision | Cancel) -> "asyncio.Future[int]":
        return self._writer.deliver("journal", event.id, encode(event))

    def _dead_letter(self, message: Any, error: BadRecord) -> "asyncio.Future[int]":
        log.warning("%s[%d]@%d: %s", message.topic, message.partition, message.offset, error.code)
        headers = dead_letter_headers(
            message.topic, message.partition, message.offset, message.timestamp, "admission", error
        )
        key = message.key.decode(errors="replace") if message.key else None
        return self._writer.deliver(DEAD_LETTERS, key, message.value, headers)

    def _is_bad(self, target: Target) -> bool:
        return is_bad(self._health.get(key_of(target.provider, target.model)), datetime.now(UTC))

    def _usual(self, target: Target) -> int | None:
        return usual_tokens(self._health.get(key_of(target.provider, target.model)))

    def _is_declared(self, version: str, tenant: str) -> bool:
        try:
            policy = self._policies.find(version, ASK_S)
        except TimeoutError:
            return True  # nobody can tell now; the guard asks again
        return policy is not None and policy.effective(tenant) is not None

    def _view(self, tenant: str) -> tuple[Effective, CompiledRules] | None:
        policy = self._policies.current()
        return None if policy is None else _compiled(policy, tenant)


def _place(message: Any) -> tuple[int, int]:
    return message.offset, message.timestamp


@lru_cache(maxsize=1024)
def _compiled(policy: VersionedPolicy, tenant: str) -> tuple[Effective, CompiledRules] | None:
    effective = policy.effective(tenant)
    return (effective, CompiledRules(effective)) if effective is not None else None


async def main(context: Context) -> None:
    """Run the stage until a signal."""
    stopping = Stopping().listen()
    policies = Policies(context.settings.kafka)
    health = CompactedTable(context.settings.kafka, "health")
    await asyncio.to_thread(policies.wait_current)
    await asyncio.to_thread(health.wait_current)
    cache, totals = AnswerCache(context.settings.redis), Totals(context.settings.redis)
    try:
        await AdmissionStage(context, policies, health, cache, totals).run(stopping)
    finally:
        await totals.aclose()
        await cache.aclose()
        policies.close()
        health.close()
