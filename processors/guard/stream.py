"""One request as the guard sees it: from its first decision to its one end."""

import math

import msgspec

from processors.attempts import end_error, may_retry
from processors.budgets import accounts
from processors.events import (
    NO_REQUEST,
    CachedAnswer,
    Chunk,
    Decision,
    EndError,
    EndStatus,
    GivenUp,
    Leased,
    Opened,
    Opinion,
    Order,
    Refusal,
    Rejection,
    RunEnded,
    RunError,
    RunStarted,
    Scored,
    Stop,
    TimedOut,
    Usage,
)
from processors.guard.allowance import Allowance, Booking
from processors.guard.bill import Bill
from processors.guard.keep import Early, StreamState
from processors.guard.messages import message
from processors.guard.opinion import Question
from processors.guard.outputs import Finding, Out
from processors.guard.readers import Readers
from processors.guard.release import Release
from processors.guard.report import OutcomeStatus, Report
from processors.guard.rules import CompiledRules
from processors.guard.telling import Telling
from processors.guard.windows import Window
from processors.identity import uuid7_time
from processors.policy import Effective
from processors.prices import to_micros
from processors.record import Record
from processors.times import from_ms

_TOO_LONG = Finding("time_limit", "limits.max_seconds")
_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


class Stream:
    """A pure fold of a request's records; `out` collects what follows from them."""

    def __init__(
        self, decision: Decision, record: Record, effective: Effective, rules: CompiledRules, out: list[Out]
    ) -> None:
        self.id, self.tenant, self.body_hash = decision.id, decision.tenant, decision.body_hash
        self.first_offset = self.last_offset = record.offset
        self.last_ms = record.time_ms
        self.closed = False
        self.attempt = 1
        self.order: Order | None = None
        self.run: str | None = None
        self.readers = Readers(decision.edge, record.time_ms)
        self.asked_at: int | None = None
        """Offset up to which a time-out or cancel has been asked for, so that it is asked once."""
        self.kept_to: int | None = None
        """Offset of its newest snapshot that the log has acknowledged."""
        self.restored_to = -1
        """Offset of the snapshot it was restored from: records up to it are in the state already."""
        self.effective = effective
        self._decision = decision
        self._submitted_ms = int(decision.submitted.timestamp() * 1000) if decision.submitted else record.time_ms
        dry_run, answers = effective.moderation.dry_run, rules.answers[decision.language]
        self._telling = Telling(self.id, self.tenant, effective.version, dry_run, out)
        self._release = Release(decision, self._submitted_ms, effective, answers, self._telling, out)
        self._report = Report(decision, self._submitted_ms, effective, self._release, self._telling, out)
        self.windows = self._release.scores.windows
        self._waiting = False
        self._closed_as: EndStatus = "completed"
        self._bill = Bill(effective)
        self.until_ms = math.inf
        """When the current run has lasted as long as it may, in milliseconds of Unix time."""
        self._ending: RunEnded | None = None
        """The end of a run that completed, while the last of its text is being scored."""
        self._allowance = self._shared_budgets()
        self.bookings: list[Booking] = self._allowance.bookings if self._allowance else []
        """For shared budgets; whoever takes them clears them."""
        self._deferred: list[Record] = []
        """Of the current run, in their order, while the lease is on its way that the first of them needs."""

    @classmethod
    def begin(
        cls, decision: Decision, record: Record, effective: Effective, rules: CompiledRules, out: list[Out]
    ) -> "Stream":
        """A request's first decision: tell every edge of the id, and do what is decided."""
        stream = cls(decision, record, effective, rules, out)
        cached = isinstance(decision.choice, CachedAnswer)
        stream._report.emit("tokens", Opened(stream.id, stream.tenant, decision.model, cached))
        stream._judge_prompt(rules)
        stream._decide(decision, record)
        return stream

    def snapshot(self) -> StreamState:
        """Everything that a fold of the records so far has made of the request; see `restore`."""
        return StreamState(
            decision=msgspec.structs.replace(self._decision, request=NO_REQUEST),
            first_offset=self.first_offset,
            last_offset=self.last_offset,
            last_ms=self.last_ms,
            closed=self.closed,
            closed_as=self._closed_as,
            attempt=self.attempt,
            order=self.order,
            run=self.run,
            waiting=self._waiting,
            readers=tuple(self.readers.edges),
            alone_since_ms=self.readers.alone_since_ms,
            spent=self._bill.usage,
            cost=self._bill.micros,
            until_ms=None if self.until_ms == math.inf else self.until_ms,
            ending=self._ending,
            allowance=self._allowance.snapshot() if self._allowance else None,
            deferred=tuple(Early(one.offset, one.time_ms, one.event) for one in self._deferred),  # type: ignore[arg-type]
            release=self._release.snapshot(),
        )

    @classmethod
    def restore(cls, state: StreamState, effective: Effective, rules: CompiledRules, out: list[Out]) -> "Stream":
        """The request as it was when the snapshot was taken. It writes no answer for the cache any more."""
        record = Record(state.first_offset, state.last_ms, state.decision)
        stream = cls(state.decision, record, effective, rules, out)
        stream.last_offset = stream.restored_to = stream.kept_to = state.last_offset
        stream.closed, stream._closed_as = state.closed, state.closed_as
        stream.attempt, stream.order, stream.run = state.attempt, state.order, state.run
        stream._waiting = state.waiting
        stream.readers.edges, stream.readers.alone_since_ms = set(state.readers), state.alone_since_ms
        stream._bill.usage, stream._bill.micros = state.spent, state.cost
        stream.until_ms = math.inf if state.until_ms is None else state.until_ms
        stream._ending = state.ending
        stream._deferred = [Record(one.offset, one.time_ms, one.event) for one in state.deferred]
        if stream._allowance is not None and state.allowance is not None:
            stream._allowance.restore(state.allowance, stream._provider, waits=bool(state.deferred))
        stream._release.restore(state.release)
        return stream

    @property
    def needed_from(self) -> int:
        """Where a rebuild must begin to read for this request: at its first record, or behind its kept snapshot."""
        return self.first_offset if self.kept_to is None else self.kept_to + 1

    @property
    def done(self) -> bool:
        """Nothing more can follow: the end is written and no run is open whose cost is still to come."""
        return self.closed and self.run is None

    @property
    def deadline_ms(self) -> float:
        """When the request is over in any case, in milliseconds of Unix time."""
        if self.order is not None:
            return self.order.deadline.timestamp() * 1000
        return self._submitted_ms + self.effective.timeouts.deadline_s * 1000

    def on_decision(self, decision: Decision, record: Record) -> bool:
        """A later attempt's decision; False where it does not count (it is not the first, or not due)."""
        if self.closed or not self._waiting or decision.attempt != self.attempt + 1:
            return False
        self.attempt, self._waiting = decision.attempt, False
        self._decide(decision, record)
        return True

    def on_run_started(self, event: RunStarted, record: Record) -> None:
        """The first run of the order is the one that counts."""
        due = not self.closed and self.run is None and not self._waiting and self._ending is None
        if not due or self.order is None or event.attempt != self.attempt:
            return
        self.run = event.run
        self._release.begin_run(event.run)
        if self._allowance is not None:
            self._allowance.begin_run(self._provider, record.time_ms)
        limits = self.effective.limits
        if limits.max_seconds is not None:
            self.until_ms = record.time_ms + limits.max_seconds * 1000
        if limits.max_cost is not None:
            left = self._bill.tokens_for(to_micros(limits.max_cost), self._decision.prompt_tokens, self._provider)
            finding = self._release.limit_to(left, Finding("cost_limit", "limits.max_cost"))
            if finding is not None:
                self._stop(finding, record)
        self._limit_to_budgets(record)

    def on_chunk(self, event: Chunk, record: Record) -> None:
        """Text of the current run goes through the rules; of any other it is dropped. It ends where a chunk is missing:
        one that could not be read would leave a hole that nobody sees."""
        if event.run != self.run or self.closed:
            return
        if self._deferred:
            self._deferred.append(record)
            return
        if event.n > self._release.next_chunk:
            self.break_off(record)
            return
        if record.time_ms > self.until_ms:
            self._stop(_TOO_LONG, record)
            return
        if self._allowance is not None and not self._allowance.allows(event.text, record.time_ms):
            self._deferred.append(record)
            return
        finding = self._release.feed(event, record.time_ms)
        if finding is not None:
            self._stop(finding, record)

    def on_run_ended(self, event: RunEnded, record: Record) -> None:
        """The run is over: complete the answer, ask for another attempt, or end the request."""
        if event.run != self.run:
            return
        if self._deferred:
            self._deferred.append(record)
            return
        self.run, self.until_ms = None, math.inf
        usage = self._book(event)
        if self.closed:
            self._outcome(event, "cancelled" if self._closed_as == "cancelled" else "stopped", usage)
        elif event.error is not None:
            self._fail(event, event.error, usage, record)
        elif event.chunks > self._release.next_chunk:
            self._outcome(event, "stopped", usage)
            self.break_off(record)
        else:
            self._outcome(event, "completed", usage)
            finding = self._release.finish(record.time_ms)
            if finding is not None:
                self._stop(finding, record)
            elif self._unjudged:
                self._ending = event
            else:
                self._complete(event.finish_reason or "stop", record, event)

    def on_scored(self, event: Scored, record: Record) -> None:
        """What a classifier says of the current run's text; of any other it does not count."""
        if event.run != self._release.run or self.closed:
            return
        if not event.scores and self._release.scores.holds:
            self.break_off(record)
            return
        finding = self._release.scored(event, record.time_ms)
        if finding is not None:
            self._stop(finding, record)
        else:
            self._complete_if_judged(record)

    def on_opinion(self, event: Opinion, record: Record) -> None:
        """What a moderator says of the current run's text; of any other it does not count."""
        if event.run != self._release.run or self.closed:
            return
        finding = self._release.scores.take_opinion(event, self._release.position)
        if finding is not None:
            self._stop(finding, record)
        else:
            self._complete_if_judged(record)

    def is_unscored(self, window: Window) -> bool:
        """Whether scores of it would still count."""
        return not self.closed and self._release.scores.lacks(window)

    def take_questions(self) -> list[Question]:
        """What a moderator is to be asked now."""
        opinions = self._release.scores.opinions
        if opinions is None:
            return []
        taken, opinions.fresh = opinions.fresh, []
        return taken

    def awaits(self, question: Question) -> bool:
        """Whether an answer to a question would still count."""
        opinions = self._release.scores.opinions
        return opinions is not None and question in opinions.pending.values()

    def silences(self, now_ms: float) -> list[Opinion]:
        """That a moderator has not answered in time; at the latest when the request itself would be over."""
        opinions = self._release.scores.opinions
        if opinions is None or not opinions.pending:
            return []
        idle_ms = self.last_ms + self.effective.timeouts.idle_s * 1000
        return [*opinions.overdue(math.inf if now_ms >= min(self.deadline_ms, idle_ms) else now_ms)]

    @property
    def _unjudged(self) -> bool:
        """Whether something is still to come that may stop an answer whose run is over: scores, or an opinion."""
        unscored, opinions = self._release.scores.ask_for_the_rest(), self._release.scores.opinions
        return unscored or bool(opinions and opinions.pending)

    def _complete_if_judged(self, record: Record) -> None:
        if self._ending is not None and not self._unjudged:
            self._complete(self._ending.finish_reason or "stop", record, self._ending)

    def ask_again(self) -> None:
        """Ask once more for the scores that have not come: whoever was to give them may be gone."""
        if not self.closed:
            self._release.scores.ask_again()

    def on_leased(self, event: Leased, record: Record) -> None:
        """What shared budgets allow. What has waited for it goes on, as if it had come now."""
        if self.closed or self._allowance is None:
            return
        self._allowance.take(event)
        self._limit_to_budgets(record)
        self._go_on(record)

    def lease_again(self, now_ms: float) -> None:
        """Ask once more for a lease that has not come."""
        if self._allowance is not None and not self.closed:
            waiting = self._deferred[0].event.text if self._deferred else ""  # type: ignore[attr-defined]
            self._allowance.ask_again(waiting, now_ms)

    def settle(self) -> None:
        """Book in shared budgets what the request has used, now that nothing can follow. A run that has not told its
        end by then is booked by estimate."""
        if self._allowance is not None:
            usage, cost = self._bill.total(self._open_run, self._provider)
            self._allowance.settle(usage, cost.micros)

    def on_given_up(self, event: GivenUp, record: Record) -> None:
        """Dispatch will not call the provider for the current attempt."""
        if self.closed or event.attempt != self.attempt:
            return
        if event.reason == "expired":
            error = EndError(504, "api_error", "expired", "expires_at")
            self._end("failed", "expired", record, "The request expired before it could be served.", error)
        else:
            error = EndError(503, "api_error", "shutdown")
            self._end("failed", "shutdown", record, "The service is shutting down.", error)

    def on_cancel(self, by: str, record: Record) -> None:
        """The client's word, or that its last reader has gone."""
        if not self.closed:
            self._end("cancelled", by, record)

    def on_stop(self, event: Stop, record: Record) -> None:
        """A stop that stands in the journal counts, whether or not this fold found its reason."""
        if self.closed:
            return
        if event.reason not in ("log_lost", "internal_error"):
            self._end("stopped", event.reason, record)
        else:
            error = EndError(502, "api_error", event.reason)
            self._end("failed", event.reason, record, "An internal error ended the answer.", error)

    def break_off(self, record: Record) -> None:
        """A record of this request is missing or cannot be folded: stop the provider, end as failed."""
        stop = Stop(self.id, self.tenant, "internal_error")
        self._report.emit("journal", stop)
        self.on_stop(stop, record)

    def on_timed_out(self, event: TimedOut, record: Record) -> None:
        """Ignored where a later record of the request stands before it."""
        if self.closed or event.seen < self.last_offset:
            return
        if event.kind == "limit":
            self._stop(_TOO_LONG, record)
            return
        what = "its deadline passed" if event.kind == "deadline" else "nothing was heard of it"
        error = EndError(504, "api_error", "timeout")
        self._end("failed", "timeout", record, f"The answer was ended because {what}.", error)

    def reader_gone(self, now_ms: float) -> bool:
        """Whether the request is to be cancelled because nobody reads it."""
        grace_ms = self.effective.timeouts.resume_grace_s * 1000
        return not self.closed and self.readers.gone(now_ms, self._decision.on_disconnect, grace_ms)

    def _shared_budgets(self) -> Allowance | None:
        decision, budgets = self._decision, self.effective.budgets
        if not budgets or not isinstance(decision.choice, Order):
            return None
        found = accounts(budgets, self.tenant, decision.key, decision.session, uuid7_time(self.id))
        return Allowance(decision, found, self._bill, self._release) if found else None

    def _limit_to_budgets(self, record: Record) -> None:
        if self._allowance is not None and self.run is not None and not self.closed:
            finding = self._allowance.limit()
            if finding is not None:
                self._stop(finding, record)

    def _go_on(self, record: Record) -> None:
        """Take what has waited; what must wait on does so."""
        waited, self._deferred = self._deferred, []
        for one in waited:
            event = one.event
            if isinstance(event, Chunk):
                self.on_chunk(event, Record(one.offset, record.time_ms, event))
            else:
                self.on_run_ended(event, Record(one.offset, record.time_ms, event))  # type: ignore[arg-type]

    def _decide(self, decision: Decision, record: Record) -> None:
        choice = decision.choice
        if isinstance(choice, Order):
            self.order = choice
        elif isinstance(choice, CachedAnswer):
            self._serve_cached(choice, record)
        elif isinstance(choice, Refusal):
            self._telling.action(self._release.position, "refuse", choice.rule, choice.category)
            error = EndError(400, "invalid_request_error", "content_filter", "messages")
            self._end("refused", "content_filter", record, choice.message, error)
        else:
            self._reject(choice, record)

    def _reject(self, choice: Rejection, record: Record) -> None:
        kind = "invalid_request_error" if choice.status < 500 else "api_error"
        kind = "rate_limit_error" if choice.status == 429 else kind
        error = EndError(choice.status, kind, choice.code, choice.param, choice.retry_after_s)
        self._end("failed", choice.code, record, choice.message, error)

    def _serve_cached(self, choice: CachedAnswer, record: Record) -> None:
        self._release.begin_run("", scored=False)  # it would not have been kept, had its scores been bad
        for number, part in enumerate(choice.parts):
            piece = Chunk(self.id, self.tenant, "", number, part.text, part.kind, part.choice, part.tool)
            finding = self._release.feed(piece, record.time_ms)
            if finding is not None:
                self._stop(finding, record)
                return
        self._bill.usage = Usage(source=choice.usage.source)
        finding = self._release.finish(record.time_ms)
        if finding is not None:
            self._stop(finding, record)
        else:
            self._complete(choice.finish_reason, record, None, saved=choice.usage.output)

    def _judge_prompt(self, rules: CompiledRules) -> None:
        decision, at = self._decision, self._release.position
        if isinstance(decision.choice, Refusal):
            choice = decision.choice
            self._telling.verdict_on_prompt(at, choice.rule, choice.category, choice.severity, "refuse")
        prompts = rules.prompts[decision.language]
        for rule in prompts.named(decision.flags):
            self._telling.verdict_on_prompt(at, rule.id, rule.category, rule.severity, prompts.asks[rule.id])
            self._telling.action(at, "flag", rule.id, "prompt")
        for kind in decision.unscreened:
            self._telling.verdict_on_prompt(at, f"unscreened:{kind}", "unscreened", 0)

    def _stop(self, finding: Finding, record: Record) -> None:
        self._report.emit("journal", Stop(self.id, self.tenant, finding.reason, finding.rule))
        at = self._release.position
        if finding.is_limit:
            self._telling.verdict_on_limit(at, finding.rule)
        self._telling.action(at, "stop", finding.rule, finding.reason)
        said = message(finding.reason, finding.rule, self._decision.language)
        self._end("stopped", finding.reason, record, said, saved=self._saved())

    def _saved(self) -> int:
        """What a stop saves: tokens that answers of this model usually have and this one has not, at most those that
        the request's limit leaves. Where the usual length is not known it is all of these: an upper bound."""
        order, seen = self.order, self._release.seen_tokens
        limit = (order.max_tokens if order else None) or self.effective.limits.max_output_tokens
        usual = order.usual_tokens if order and order.usual_tokens is not None else limit
        return max(0, min(limit, usual) - seen)

    def _fail(self, event: RunEnded, error: RunError, usage: Usage | None, record: Record) -> None:
        clean = self._release.released == 0
        now = from_ms(record.time_ms)
        if clean and self.order is not None and may_retry(self.order, error, now):
            self._waiting = True
            self._outcome(event, "failed", usage, self.order)
            return
        self._outcome(event, "failed", usage)
        if error.kind == "content_filter" and clean:
            refused = EndError(400, "invalid_request_error", "content_filter")
            self._end("refused", "content_filter", record, error.message, refused)
        elif error.kind == "content_filter":
            self._end("stopped", "content_filter", record, error.message)
        elif clean or error.kind in ("shutdown", "timeout_total"):
            self._end("failed", error.kind, record, error.message, end_error(error))
        else:
            broken = EndError(502, "api_error", "interrupted")
            self._end("failed", "interrupted", record, f"The provider broke off: {error.message}", broken)

    def _complete(self, finish_reason: str, record: Record, run: RunEnded | None, saved: int = 0) -> None:
        reason = _REASONS.get(finish_reason, "stop")
        self._end("completed", reason, record, saved=saved)
        self._report.answer(run, reason, *self._bill.total(None, self._provider))

    def _end(
        self,
        status: EndStatus,
        reason: str,
        record: Record,
        message: str | None = None,
        error: EndError | None = None,
        saved: int = 0,
    ) -> None:
        """The terminal event. It never waits: an open run is booked by estimate here, and corrected when it ends."""
        self.closed, self._closed_as = True, status
        usage, cost = self._bill.total(self._open_run, self._provider)
        self._report.end(status, reason, record.time_ms, self.attempt, usage, cost, message, error, saved)
        self._go_on(record)  # a run's end that has waited is booked; its text is dropped

    @property
    def _open_run(self) -> Usage | None:
        """What the current run has used, by estimate."""
        return self._release.estimated_usage(self._decision.prompt_tokens) if self.run is not None else None

    def _book(self, event: RunEnded) -> Usage | None:
        """Add the run to what the request has used; a run that neither counted nor answered has used nothing."""
        usage = event.usage
        if usage is None and (event.chunks or self._release.seen_chars):
            usage = self._release.estimated_usage(self._decision.prompt_tokens)
        if usage is not None:
            self._bill.book(usage, self._provider)
        return usage

    @property
    def _provider(self) -> str:
        return self.order.target.provider if self.order else ""

    def _outcome(self, run: RunEnded, status: OutcomeStatus, usage: Usage | None, order: Order | None = None) -> None:
        self._report.outcome(run, status, usage, self._bill.price(usage, self._provider), order)
