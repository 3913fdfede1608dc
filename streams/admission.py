"""Admission: every request gets its first decision here, and every failed attempt its next."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from confluent_kafka import Message

from connectors.kafka.batches import Partition, place_of
from connectors.kafka.dead_letters import TOPIC as DEAD_LETTERS
from connectors.kafka.dead_letters import dead_letter_headers
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
from streams.intake import Intake
from streams.runtime import Context, Stopping

log = logging.getLogger(__name__)

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
        self._marks = Marks(context.mark_file)

    async def run(self, stopping: Stopping) -> None:
        """Decide until asked to stop. What is not committed then is decided again, which changes nothing."""
        intake = Intake(self._context, stopping)
        reading = asyncio.create_task(asyncio.to_thread(intake.run))
        try:
            while (taken := await intake.next()) is not None:
                await self._decide(taken.messages)
                intake.decided(taken)
        finally:
            intake.leave()
        await reading
        await self._writer.aclose()

    async def _decide(self, batches: dict[Partition, list[Message]]) -> None:
        sent: list[asyncio.Future[int]] = []
        waiting: list[Examined] = []
        for partition, messages in batches.items():
            self._take_batch(partition, messages, waiting, sent)
        answers, totals = await self._looked_up(waiting)
        for item, answer in zip(waiting, answers, strict=True):
            sent.append(self._send(decide(item, answer, self._is_bad, self._usual, totals)))
        await asyncio.gather(*sent)

    def _take_batch(
        self,
        partition: Partition,
        messages: Sequence[Message],
        waiting: list[Examined],
        sent: list["asyncio.Future[int]"],
    ) -> None:
        try:
            for fate, piece in self._marks.pieces(*partition, messages, place_of):
                if fate is Fate.TAKE:
                    for message in piece:
                        self._take(message, waiting, sent)
                else:
                    self._pass_over(piece[0], fate, sent)
        except DeliveryFailed:  # not the record's fault
            self._marks.clear()
            raise

    def _pass_over(self, message: Message, fate: Fate, sent: list["asyncio.Future[int]"]) -> None:
        if fate is Fate.END:
            self._give_up(message, sent)
        sent.append(self._dead_letter(message, verdict()))

    def _give_up(self, message: Message, sent: list["asyncio.Future[int]"]) -> None:
        """Tell whoever asks, where that is possible. A request that misses its next attempt ends by its deadline."""
        if message.topic() == "requests":
            with contextlib.suppress(BadRecord):
                now = datetime.now(UTC)
                sent.append(self._send(give_up(message.value(), from_ms(message.timestamp()[1]), now, self._view)))

    def _take(self, message: Message, waiting: list[Examined], sent: list["asyncio.Future[int]"]) -> None:
        try:
            result = self._read(message)
        except BadRecord as error:
            sent.append(self._dead_letter(message, error))
            return
        except Exception as error:  # as in the guard's fold: it ends this request, not the stage
            log.exception("%s[%s]@%s", message.topic(), message.partition(), message.offset())
            self._give_up(message, sent)
            sent.append(self._dead_letter(message, BadRecord("internal_error", f"{type(error).__name__}: {error}")))
            return
        if isinstance(result, Examined):
            waiting.append(result)
        elif result is not None:
            sent.append(self._send(result))

    def _read(self, message: Message) -> Examined | Decision | Cancel | None:
        now = datetime.now(UTC)
        if message.topic() == "outcomes":
            outcome = decode("outcomes", message.value(), message.headers())  # type: ignore[arg-type]
            return next_attempt(outcome, now, self._is_bad, self._usual, self._is_declared)
        return examine(message.value(), message.headers(), from_ms(message.timestamp()[1]), now, self._view)  # type: ignore[arg-type]

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

    def _dead_letter(self, message: Message, error: BadRecord) -> "asyncio.Future[int]":
        topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        log.warning("%s[%d]@%d: %s", topic, number, offset, error.code)
        headers = dead_letter_headers(topic, number, offset, message.timestamp()[1], "admission", error)
        key = message.key()
        return self._writer.deliver(
            DEAD_LETTERS, key.decode(errors="replace") if key else None, message.value(), headers
        )

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
