"""The decision on a request that may be served, and on the attempt after one that failed."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from processors.admission.budgets import over_budget
from processors.admission.examine import Examined, expires_at
from processors.attempts import end_error, may_retry
from processors.codec import BadRecord
from processors.events import CachedAnswer, Choice, Decision, Order, Outcome, Rejection, RunError, Target
from processors.identity import content_hash, uuid7_time

IsBad = Callable[[Target], bool]
"""Whether a provider's model is in bad health, and to be tried last."""
Usual = Callable[[Target], int | None]
"""How many tokens an answer of a provider's model has had of late, on average; None where that is not known."""
IsDeclared = Callable[[str, str], bool]
"""Whether this version of the policy declares this tenant."""


def decide(
    examined: Examined,
    cached: CachedAnswer | None,
    is_bad: IsBad,
    usual: Usual,
    totals: Mapping[str, int] | None = None,
) -> Decision:
    """The first decision: the stored answer where there is one, which costs nothing; else an order to the first
    candidate, if the shared budgets have something left. `totals`: what is used of them; None where nobody knows."""
    request, effective = examined.request, examined.effective
    choice: Choice = cached or over_budget(examined, totals) or _order(examined, is_bad, usual)
    return Decision(
        id=request.id,
        tenant=request.tenant,
        attempt=1,
        policy=effective.version,
        body_hash=content_hash(examined.raw),
        choice=choice,
        model=request.model,
        submitted=examined.submitted,
        user=request.user,
        metadata=request.metadata,
        edge=request.edge,
        on_disconnect=request.on_disconnect,
        cache_key=examined.write_key if cached is None else None,
        unscreened=examined.unscreened,
        flags=examined.flags,
        prompt_tokens=examined.prompt_tokens,
        language=examined.language,
        session=request.session,
        key=request.key,
        request=msgspec.Raw(examined.raw),
    )


def next_attempt(
    outcome: Outcome, now: datetime, is_bad: IsBad, usual: Usual, is_declared: IsDeclared
) -> Decision | None:
    """What follows a failed attempt whose outcome carries its order: the next candidate, or a rejection.

    None where nothing is asked: the attempt closed the request.

    Raises:
        BadRecord: its id is none, so that the decision would be nobody's; or no policy could judge the attempt.
    """
    try:
        uuid7_time(outcome.id)
    except ValueError as wrong:
        raise BadRecord("invalid_id", str(wrong)) from None
    if outcome.status != "failed" or outcome.order is None:
        return None
    if not is_declared(outcome.policy, outcome.tenant):
        raise BadRecord("unknown_tenant", f"policy {outcome.policy} declares no tenant {outcome.tenant[:100]!r}")
    error = outcome.error or RunError("provider_error", "the attempt failed")
    choice: Choice
    if may_retry(outcome.order, error, now):
        first, *rest = healthy_first(outcome.order.candidates, is_bad)
        choice = msgspec.structs.replace(outcome.order, target=first, candidates=tuple(rest), usual_tokens=usual(first))
    else:
        told = end_error(error)
        choice = Rejection(told.status, told.code, error.message)
    return Decision(
        id=outcome.id,
        tenant=outcome.tenant,
        attempt=outcome.attempt + 1,
        policy=outcome.policy,
        body_hash=outcome.body_hash,
        choice=choice,
        model=outcome.model,
    )


def healthy_first(targets: tuple[Target, ...], is_bad: IsBad) -> list[Target]:
    """The policy's order, but what is in bad health comes last."""
    return sorted(targets, key=is_bad)


def _order(examined: Examined, is_bad: IsBad, usual: Usual) -> Order:
    request, effective = examined.request, examined.effective
    route = tuple(Target(step.provider, step.model) for step in effective.routes[request.model])
    first, *rest = healthy_first(route, is_bad)
    seconds = min(request.deadline_s or effective.timeouts.deadline_s, effective.timeouts.deadline_s)
    asked = request.max_completion_tokens or request.max_tokens
    return Order(
        target=first,
        candidates=tuple(rest),
        deadline=examined.submitted + timedelta(seconds=seconds),
        expires_at=expires_at(request, examined.submitted),
        max_tokens=min(asked, effective.limits.max_output_tokens) if asked else None,
        usual_tokens=usual(first),
    )
