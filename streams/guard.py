"""The guard: every token passes it. Reads the journal, writes what may be read, and alone ends streams."""

import contextlib
import logging
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from confluent_kafka import Message

from connectors.kafka.batches import PAUSED_S, BatchReader, Partition, by_partition, place_of
from connectors.kafka.dead_letters import TOPIC as DEAD_LETTERS
from connectors.kafka.dead_letters import dead_letter_headers
from connectors.kafka.snapshots import TOPIC as SNAPSHOTS
from connectors.kafka.snapshots import read_snapshots
from connectors.kafka.writer import DeliveryFailed, Writer
from connectors.marks import Marks
from connectors.policies import Policies
from processors.codec import BadRecord, decode, encode
from processors.events import Opened, Outcome
from processors.guard.allowance import Booking
from processors.guard.fold import PartitionFold, PolicyUnknown
from processors.guard.keep import Kept
from processors.guard.outputs import Out, Rejected
from processors.guard.rules import CompiledRules
from processors.poison import Fate, verdict
from processors.policy import Effective
from processors.record import Record
from streams.opinions import Asker
from streams.runtime import Context, Stopping
from streams.scoring import Scoring, ScoringThread

if TYPE_CHECKING:
    from streams.ledger import Ledger

log = logging.getLogger(__name__)

WAIT_S, SOON_S = 0.02, 0.005
"""How long a pass waits for records; the latter while scores are about to come, for which nothing wakes it."""
COMMIT_EVERY_S, COMMIT_AT_LAST_S = 5.0, 6.0
"""A commit waits for the log, and all streams with it: 20 to 40 ms at 32 of them, less where nothing else is under way
just then; that is waited for to the latter. A successor reads so much again."""
KEEP_AFTER_S = 5.0
"""What is open for longer is kept as a snapshot, and again as often."""
TICK_EVERY_S = 0.1
DRAIN_S = 2.0
OPENED_S, LATER_S = 0.02, 0.05
"""Who reads is woken by each batch, for some 0.3 ms of CPU. So `opened` waits so long for the first text, and what
nobody waits for (the answer as a whole, how it went) for more of its kind: a third of the CPU of a short answer
(`bench.path`, whole answers)."""


class _Held:
    """Records that wait for others, at most `for_s` seconds from the first."""

    def __init__(self, for_s: float) -> None:
        self.items: list[Out] = []
        self._for_s = for_s
        self._since = 0.0

    def add(self, item: Out) -> None:
        if not self.items:
            self._since = time.monotonic()
        self.items.append(item)

    def due(self, now: float) -> bool:
        return bool(self.items) and now - self._since >= self._for_s

    def take(self) -> list[Out]:
        items, self.items = self.items, []
        return items


class GuardStage:
    """Feeds each partition's fold and writes what it gives: the journal first, the rest once that is acknowledged."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._context = context
        self._policies = Policies(settings.kafka)
        current = self._policies.wait_current()
        self._writer = Writer(settings.kafka, context.member)
        self._marks = Marks(context.mark_file)
        scoring = Scoring(settings.classifier)
        if current.uses_classifier:  # else the first scores would wait for it
            scoring.load()
        self._scoring = ScoringThread(scoring)
        self._asker = Asker(settings.simulated)
        self._ledger: Ledger | None = None
        self._folds: dict[Partition, PartitionFold] = {}
        self._committed: dict[Partition, int] = {}
        self._position: dict[Partition, int] = {}
        self._caught_up_at: dict[Partition, int] = {}
        self._keep_before: dict[Partition, int] = {}
        """Positions of `KEEP_AFTER_S` ago: what is needed from before them is open for so long."""
        self._opened, self._later = _Held(OPENED_S), _Held(LATER_S)
        self._last_commit = self._last_tick = self._last_keep = 0.0
        self._last_read = time.monotonic()
        self._ready = False
        self._reader = BatchReader(
            settings.kafka,
            "guard",
            context.member,
            ["journal"],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._forget,
            fetch_wait_ms=settings.fetch_wait_ms,
        )

    def run(self, stopping: Stopping) -> None:
        """Work until asked to stop; then take what stands in the journal already, within a bound."""
        while not stopping.asked:
            self._cycle()
            if not self._ready and self._folds and self._caught_up():
                self._ready = True
                self._context.announce_ready()
        self._drain()
        self._commit()
        self._scoring.close()
        self._asker.close()
        if self._ledger is not None:
            self._ledger.close()
        self._reader.close()
        self._policies.close()

    def _cycle(self) -> None:
        messages = self._reader.read(500, SOON_S if self._scoring.busy else WAIT_S)
        if messages:
            self._take(messages)
        self._writer.poll()
        if not self._scoring.scores.empty():
            self._send([Out("journal", one.id, one) for one in self._scoring.take()])
        if not self._asker.answers.empty():
            self._send([Out("journal", one.id, one) for one in self._asker.take()])
        if self._ledger is not None and not self._ledger.leased.empty():
            self._send([Out("journal", one.id, one) for one in self._ledger.take()])
        self._after_pause()
        now = time.monotonic()
        if now - self._last_tick >= TICK_EVERY_S:
            self._last_tick = now
            self._tick()
        for held in (self._opened, self._later):
            if held.due(now):
                self._send(held.take())
        since = now - self._last_commit
        if since >= COMMIT_EVERY_S and (self._writer.idle or since >= COMMIT_AT_LAST_S):
            self._commit()

    def _drain(self) -> None:
        give_up = time.monotonic() + DRAIN_S
        self._caught_up_at |= self._reader.ends(list(self._folds))
        while not self._caught_up() and time.monotonic() < give_up:
            self._cycle()

    def _caught_up(self, partition: Partition | None = None) -> bool:
        wanted = [partition] if partition else list(self._folds)
        return all(self._position[item] >= self._caught_up_at[item] for item in wanted)

    def _take(self, messages: list[Message]) -> None:
        outputs: list[Out] = []
        for partition, batch in by_partition(messages).items():
            if partition in self._folds:  # else it was revoked with this batch already in hand
                outputs += self._take_batch(partition, batch)
        self._write(outputs)
        self._book()
        self._score()
        self._ask()

    def _book(self) -> None:
        """Have shared budgets booked. After a rebuild the leases of what was read again stand in the log."""
        for partition, fold in self._folds.items():
            if fold.bookings:
                leases = self._caught_up(partition)
                found = [one for one in fold.bookings if leases or one.kind == "settlement"]
                fold.bookings.clear()
                self._books(partition[1], *found)

    def _books(self, number: int, *bookings: Booking | bool) -> None:
        """Hand something to the keeper of the books, which is begun with the first."""
        if self._ledger is None and bookings:
            from streams.ledger import Ledger  # Redis and what belongs to it, that most guards do without

            settings = self._context.settings
            self._ledger = Ledger(settings.redis, settings.kafka, self._policies, settings.embedded)
        if self._ledger is not None:
            self._ledger.put(number, bookings)

    def _score(self) -> None:
        """Have the windows scored that are due; after a rebuild those whose scores do not stand in the log."""
        for partition, fold in self._folds.items():
            if fold.windows:
                due = fold.to_score()
                if self._caught_up(partition):
                    self._scoring.put(due)
                else:
                    fold.windows += due

    def _ask(self) -> None:
        """Have moderators asked, once it is known what has been answered already."""
        for partition, fold in self._folds.items():
            if fold.questions and self._caught_up(partition):
                for question in fold.to_ask():
                    policy = self._policies.known(question.policy)
                    moderator = self._effective(question.policy, question.tenant)[0].moderator
                    if policy is not None and moderator is not None:
                        self._asker.ask(question, moderator, policy.policy.providers[moderator.provider])

    def _take_batch(self, partition: Partition, batch: list[Message]) -> list[Out]:
        outputs: list[Out] = []
        try:
            for fate, piece in self._marks.pieces(*partition, batch, place_of):
                if fate is Fate.TAKE:
                    outputs += self._fold(partition, piece)
                else:
                    outputs += self._pass_over(partition, piece[0], fate)
        except (PolicyUnknown, DeliveryFailed):  # not the record's fault
            self._marks.clear()
            raise
        return outputs

    def _pass_over(self, partition: Partition, message: Message, fate: Fate) -> list[Out]:
        outputs: list[Out] = []
        if fate is Fate.END:
            with contextlib.suppress(BadRecord):
                event = decode("journal", message.value(), message.headers())  # type: ignore[arg-type]
                record = Record(message.offset() or 0, message.timestamp()[1], event)
                outputs = self._folds[partition].pass_over(record)
        self._dead_letter(message, message.value(), verdict())
        self._position[partition] = (message.offset() or 0) + 1
        return outputs

    def _fold(self, partition: Partition, batch: Sequence[Message]) -> list[Out]:
        fold = self._folds[partition]
        records: list[Record] = []
        for message in batch:
            try:
                event = decode("journal", message.value(), message.headers())  # type: ignore[arg-type]
            except BadRecord as error:
                self._dead_letter(message, message.value(), error)
                continue
            records.append(Record(message.offset() or 0, message.timestamp()[1], event))
        outputs, rejected = fold.fold(records)
        self._position[partition] = batch[-1].offset() + 1  # type: ignore[operator]
        if rejected:
            self._reject(batch, rejected)
        return outputs

    def _reject(self, batch: Sequence[Message], rejected: list[Rejected]) -> None:
        by_offset = {message.offset(): message for message in batch}
        for item in rejected:
            message = by_offset[item.offset]
            raw = message.value() if item.raw is None else item.raw
            self._dead_letter(message, raw, BadRecord(item.code, item.message))

    def _dead_letter(self, message: Message, raw: bytes | None, error: BadRecord) -> None:
        log.warning("journal[%s]@%s: %s", message.partition(), message.offset(), error.code)
        key = message.key()
        headers = dead_letter_headers(
            "journal",
            message.partition() or 0,
            message.offset() or 0,
            message.timestamp()[1],
            "guard",
            error,
        )
        self._writer.send(DEAD_LETTERS, key.decode(errors="replace") if key else None, raw, headers)

    def _write(self, outputs: list[Out]) -> None:
        send, opened = self._writer.send, self._opened
        causes = [item for item in outputs if item.topic == "journal"]
        if causes:
            self._send(causes)
            self._writer.flush()
        for item in outputs:
            if item.topic == "tokens" and not isinstance(item.event, Opened):
                if opened.items:
                    self._send(opened.take())
                send("tokens", item.key, encode(item.event))
            elif item.topic != "journal":
                self._hold(item)

    def _hold(self, item: Out) -> None:
        if isinstance(item.event, Opened):
            self._opened.add(item)
        elif isinstance(item.event, Outcome) and item.event.order is not None:  # admission decides what follows
            self._send([item])
        else:
            self._later.add(item)

    def _send(self, items: list[Out]) -> None:
        for item in items:
            self._writer.send(item.topic, item.key, encode(item.event))

    def _tick(self) -> None:
        now_ms = time.time() * 1000
        for partition, fold in self._folds.items():
            if self._caught_up(partition):
                self._write(fold.tick(now_ms))
        self._book()
        self._score()
        self._ask()

    def _after_pause(self) -> None:
        """After a pause ask no question before we have read up to now: it would rest on readers of long ago."""
        if time.monotonic() - self._last_read > PAUSED_S and self._folds:
            self._caught_up_at |= self._reader.ends(list(self._folds))
        self._last_read = time.monotonic()

    def _commit(self) -> None:
        """Keep what a rebuild needs, and commit how far it need not read. Both wait for everything written before.

        What is kept waits by itself too: a rebuild skips what it covers, so all that followed from that must stand in
        the log already.
        """
        now = time.monotonic()
        self._last_commit = now
        keep_open = now - self._last_keep >= KEEP_AFTER_S
        kept: dict[Partition, list[Kept]] = {}
        for partition, fold in self._folds.items():
            kept[partition] = fold.to_keep(self._keep_before.get(partition, 0) if keep_open else 0)
        keeping = any(kept.values())
        self._send(self._opened.take() + self._later.take())
        if keeping or any(self._position[name] > self._committed[name] for name in self._folds):
            self._writer.flush()
        # Refused to a worker that was frozen and has a successor: what it keeps would hide what that one has kept.
        if keeping and not self._reader.commit_if_it_can(self._committed):
            return
        for partition, items in kept.items():
            for item in items:
                self._writer.send(SNAPSHOTS, item.key, item.value, partition=partition[1])
        if keeping:
            self._writer.flush()
        offsets: dict[Partition, int] = {}
        for partition, fold in self._folds.items():
            fold.kept(kept[partition])
            offset = fold.floor(self._position[partition])
            if offset > self._committed[partition]:
                offsets[partition] = offset
        if offsets and self._reader.commit_if_it_can(offsets):
            self._committed |= offsets
        if keep_open:
            self._last_keep, self._keep_before = now, dict(self._position)

    def _assigned(self, partitions: list[Partition]) -> None:
        began = time.monotonic()
        begins, committed = self._reader.begins(partitions), self._reader.committed(partitions)
        kept = read_snapshots(self._context.settings.kafka, [number for _, number in partitions], "guard/")
        count = self._reader.partition_count("journal")
        starts: dict[Partition, int] = {}
        lost: list[Out] = []
        for partition in partitions:
            fold = self._folds[partition] = PartitionFold(partition[1], count, self._effective)
            for key, value in kept[partition[1]].items():
                self._restore(fold, partition, key, value)
            starts[partition] = max(committed[partition].offset, begins[partition])
            if committed[partition].offset < begins[partition]:
                lost += self._lost(partition, committed[partition].offset, begins[partition])
        self._committed |= starts
        self._position |= starts
        self._caught_up_at |= self._reader.ends(partitions)
        self._reader.assign_at(starts)
        if self._uses_budgets:  # else the first lease waits for the books to be looked through
            for _, number in partitions:
                self._books(number, True)
        at = ", ".join(f"{number}@{starts[topic, number]}" for topic, number in partitions)
        open_streams = sum(self._folds[partition].open_streams for partition in partitions)
        self._write(lost)
        self._last_read = time.monotonic()
        log.info("assigned %s with %d open streams in %.2f s", at, open_streams, time.monotonic() - began)

    def _restore(self, fold: PartitionFold, partition: Partition, key: str, value: bytes) -> None:
        try:
            fold.restore(key, value)
        except PolicyUnknown:
            raise
        except Exception as error:  # whatever it was, nothing can be known of it any more
            log.error("snapshots[%d], key %s: %s: %s", partition[1], key, type(error).__name__, error)

    def _lost(self, partition: Partition, committed: int, begin: int) -> list[Out]:
        """Retention has passed what was not read yet: say so, and end the streams that were in it."""
        stops = self._folds[partition].lost(before=begin)
        log.error("journal[%d]: offsets %d to %d are lost; %d streams end", partition[1], committed, begin, len(stops))
        return stops

    def _revoked(self, partitions: list[Partition]) -> None:
        self._commit()
        self._forget(partitions)

    def _forget(self, partitions: list[Partition]) -> None:
        if self._ledger is not None:
            for _, number in partitions:
                self._books(number, False)
        for partition in partitions:
            for state in (self._folds, self._committed, self._position, self._caught_up_at, self._keep_before):
                state.pop(partition, None)

    @property
    def _uses_budgets(self) -> bool:
        policy = self._policies.current()
        return policy is not None and policy.uses_budgets

    def _effective(self, version: str, tenant: str) -> tuple[Effective, CompiledRules]:
        return self._compiled(version, tenant)

    @lru_cache(maxsize=1024)  # noqa: B019 - one stage a process, and it lives as long as the process
    def _compiled(self, version: str, tenant: str) -> tuple[Effective, CompiledRules]:
        try:
            policy = self._policies.find(version, 10.0)
        except TimeoutError as error:
            raise PolicyUnknown(str(error)) from None
        if policy is None:
            raise ValueError(f"policy {version} was never published")
        effective = policy.effective(tenant)
        if effective is None:
            raise ValueError(f"tenant {tenant!r} is not declared in policy {version}")
        return effective, CompiledRules(effective)


def main(context: Context) -> None:
    """Run the stage until a signal."""
    stopping = Stopping().listen()
    GuardStage(context).run(stopping)
