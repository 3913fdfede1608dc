"""Times on the wire are RFC 3339 in UTC; the log's are milliseconds of Unix time."""

from datetime import UTC, datetime


def from_ms(unix_ms: float) -> datetime:
    """A point in time from milliseconds of Unix time."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
