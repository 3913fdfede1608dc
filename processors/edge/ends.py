"""How the end of a stream looks to HTTP: a finish reason, an error, or nothing but a closed connection."""

from processors.events import End, EndError

REFUSED = EndError(400, "invalid_request_error", "content_filter")


def finish_reason(end: End) -> str | None:
    """OpenAI's finish reason of an end that HTTP tells as an answer; None where it is told as an error."""
    if end.status == "completed":
        return end.reason or "stop"
    if end.status == "stopped":
        return "content_filter" if end.reason == "content_filter" else "length"
    return None


def end_error(end: End) -> EndError:
    """Status and OpenAI error object of a refused or failed end."""
    if end.error is not None:
        return end.error
    return REFUSED if end.status == "refused" else EndError(502, "api_error", end.reason or "failed")


def end_message(end: End) -> str:
    """Our own words about the end."""
    return end.message or f"the request ended as {end.status}: {end.reason}"
