"""Where and how long a reader asks to read, from a query or a frame."""

from typing import Any

from connectors.edge.errors import ApiError
from connectors.edge.streams import LONGEST_WAIT_S, Place, after
from processors.edge.cursor import BadCursor, read_cursor

LARGEST_SEQ = 1 << 48


def place_of(request_id: str, tenant: str, cursor: Any, from_seq: Any) -> Place:
    """Where a reader begins; a cursor wins over a seq.

    Raises:
        ApiError: 400, naming which of the two is wrong.
    """
    if cursor is not None:
        try:
            return after(read_cursor(str(cursor), request_id, tenant))
        except BadCursor as error:
            raise bad_cursor(error) from None
    if from_seq is None:
        return Place()
    seq = _number(from_seq, int)
    if seq is None or not 0 <= seq < LARGEST_SEQ:
        raise ApiError(400, "invalid_value", "`from_seq` must be a whole number of at least 0", "from_seq")
    return Place(int(seq))


def wait_of(value: Any) -> float:
    """Seconds to wait for a stream to begin.

    Raises:
        ApiError: 400.
    """
    if value is None:
        return 0.0
    seconds = _number(value, float)
    if seconds is None or not 0 <= seconds <= LONGEST_WAIT_S:
        raise ApiError(400, "invalid_value", f"`wait_s` must lie between 0 and {LONGEST_WAIT_S:.0f}", "wait_s")
    return seconds


def bad_cursor(error: BadCursor) -> ApiError:
    """A cursor that is none of this stream's."""
    return ApiError(400, "bad_cursor", str(error), "cursor")


def _number(value: Any, kind: type[int] | type[float]) -> float | None:
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
