"""What of an answer goes into the cache. The guard has decided whether at all: such an answer carries a key."""

from typing import NamedTuple

from processors.cache import encode_answer, tenant_prefix
from processors.codec import BadRecord
from processors.events import Answer, CachedAnswer

MAX_TTL_S = 365 * 86400.0
"""No entry outlives a year, whatever the policy says."""


class Entry(NamedTuple):
    """One write to Redis: its key, its value, and how long it lives."""

    key: str
    value: bytes
    ttl_s: float


def entry(answer: Answer) -> Entry | None:
    """The entry that serves this answer's request again; None where the answer may not be kept.

    Raises:
        BadRecord: `foreign_cache_key`, the key is not one of the answer's tenant.
    """
    key = answer.cache_key
    if key is None or not answer.parts or answer.cache_ttl_s <= 0:
        return None
    if not key.startswith(tenant_prefix(answer.tenant)):
        raise BadRecord("foreign_cache_key", f"cache_key is no key of tenant {answer.tenant!r}")
    kept = CachedAnswer(answer.parts, answer.finish_reason, answer.usage, source=answer.id)
    return Entry(key, encode_answer(answer.tenant, key, kept), min(answer.cache_ttl_s, MAX_TTL_S))
