"""Which failed attempts may be followed by another, and how a failure reads to a client."""

from datetime import datetime

from processors.events import EndError, Order, RunError

_FINAL = frozenset({"invalid_request", "content_filter", "cancelled", "stopped", "shutdown"})
"""Another provider would answer no differently, or nobody wants the answer any more."""

_STATUS = {
    "timeout_connect": 504,
    "timeout_first_token": 504,
    "timeout_between_tokens": 504,
    "timeout_total": 504,
    "rate_limited": 503,
    "shutdown": 503,
    "invalid_request": 400,
    "content_filter": 400,
}


def may_retry(order: Order, error: RunError, now: datetime) -> bool:
    """Whether the next candidate of `order` may be tried after nothing was released."""
    return bool(order.candidates) and error.kind not in _FINAL and now < order.deadline


def end_error(error: RunError) -> EndError:
    """A failed run as HTTP tells it: 400 where the request is at fault, else 502, 503 or 504."""
    status = _STATUS.get(error.kind, 502)
    kind = "invalid_request_error" if status == 400 else "api_error"
    return EndError(status=status, type=kind, code=error.kind)
