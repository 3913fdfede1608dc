"""What the guard tells of a request: its outcomes, its one end, its summary, and its answer where it completed."""

from typing import Literal

from processors.events import (
    Answer,
    CachedAnswer,
    Cost,
    Decision,
    End,
    EndError,
    EndStatus,
    Event,
    Order,
    Outcome,
    RunEnded,
    Summary,
    Usage,
)
from processors.guard.outputs import Out
from processors.guard.release import Release
from processors.guard.telling import Telling
from processors.policy import Effective

OutcomeStatus = Literal["completed", "failed", "stopped", "cancelled"]


class Report:
    """Writes the events of one request to `out`; what it tells of the text it asks the release."""

    def __init__(
        self,
        decision: Decision,
        submitted_ms: int,
        effective: Effective,
        release: Release,
        telling: Telling,
        out: list[Out],
    ) -> None:
        self._decision, self._effective, self._release, self._telling = decision, effective, release, telling
        self._submitted_ms = submitted_ms
        self._out = out

    def emit(self, topic: str, event: Event) -> None:
        """Write any event of the request."""
        self._out.append(Out(topic, self._decision.id, event))

    def outcome(
        self, run: RunEnded, status: OutcomeStatus, usage: Usage | None, cost: Cost, order: Order | None = None
    ) -> None:
        """How an attempt went; with its order, where another may follow."""
        decision = self._decision
        outcome = Outcome(
            id=decision.id,
            tenant=decision.tenant,
            attempt=run.attempt,
            run=run.run,
            policy=self._effective.version,
            body_hash=decision.body_hash,
            model=decision.model,
            target=run.target,
            status=status,
            error=run.error,
            order=order,
            usage=usage,
            cost=cost,
            first_token_ms=run.first_token_ms,
            total_ms=run.total_ms,
            session=decision.session,
            key=decision.key,
        )
        self.emit("outcomes", outcome)

    def end(
        self,
        status: EndStatus,
        reason: str,
        at_ms: int,
        attempts: int,
        usage: Usage,
        cost: Cost,
        message: str | None = None,
        error: EndError | None = None,
        saved: int = 0,
    ) -> None:
        """The terminal event, and the summary of all that was found."""
        decision, release = self._decision, self._release
        end = End(
            id=decision.id,
            tenant=decision.tenant,
            seq=release.close(),
            status=status,
            reason=reason,
            message=message,
            error=error,
            usage=usage,
            cost=cost,
            model=decision.model,
            attempts=attempts,
            cached=isinstance(decision.choice, CachedAnswer),
            policy=self._effective.version,
            user=decision.user,
            metadata=decision.metadata,
            first_token_ms=release.first_token_ms,
            total_ms=max(0.0, at_ms - self._submitted_ms),
            tokens_saved=saved,
        )
        self.emit("tokens", end)
        self._summarise(end)

    def answer(self, run: RunEnded | None, reason: str, usage: Usage, cost: Cost) -> None:
        """A completed answer; with its text, where the cache may have it."""
        decision, cache = self._decision, self._effective.cache
        parts = self._release.cacheable_parts() if run is not None and decision.cache_key else ()
        answer = Answer(
            id=decision.id,
            tenant=decision.tenant,
            model=decision.model,
            target=run.target if run else None,
            finish_reason=reason,
            usage=usage,
            cost=cost,
            cache_key=decision.cache_key if parts else None,
            cache_ttl_s=cache.ttl_s if parts else 0.0,
            parts=parts,
        )
        self.emit("answers", answer)

    def _summarise(self, end: End) -> None:
        """One a request, so that nobody has to add up verdicts."""
        release = self._release
        summary = Summary(
            id=end.id,
            tenant=end.tenant,
            run=release.run,
            policy=end.policy,
            status=end.status,
            reason=end.reason,
            rules=self._telling.found,
            actions=self._telling.done,
            scores=release.scores.highest,
            seen_chars=release.seen_chars,
            seen_tokens=release.seen_tokens,
            released_chars=release.released,
            tokens_saved=end.tokens_saved,
        )
        self.emit("verdicts", summary)
