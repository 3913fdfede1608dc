"""What of an answer is kept."""

from typing import Any

import msgspec
import pytest

from processors.cache import cache_key, decode_answer
from processors.codec import BadRecord
from processors.events import Answer, AnswerPart, CachedAnswer, Cost, Target, Usage
from processors.fill import MAX_TTL_S, entry

KEY = cache_key(b'{"model":"assistant"}', "demo", "p1")
ANSWER = Answer(
    id="0198c0de-0000-7000-8000-000000000001",
    tenant="demo",
    model="assistant",
    target=Target("simulated", "story"),
    finish_reason="stop",
    usage=Usage(5, 7),
    cost=Cost(90, "RUB", "p1"),
    cache_key=KEY,
    cache_ttl_s=60.0,
    parts=(AnswerPart("reasoning", "so"), AnswerPart("content", "be it")),
)


def changed(**changes: Any) -> Answer:
    return msgspec.structs.replace(ANSWER, **changes)


def test_the_answer_is_kept_as_released_with_its_source() -> None:
    wanted = entry(ANSWER)
    assert wanted is not None
    assert (wanted.key, wanted.ttl_s) == (KEY, 60.0)
    expected = CachedAnswer(ANSWER.parts, "stop", Usage(5, 7), source=ANSWER.id)
    assert decode_answer(KEY, wanted.value) == expected


@pytest.mark.parametrize("changes", [{"cache_key": None}, {"parts": ()}, {"cache_ttl_s": 0.0}, {"cache_ttl_s": -1.0}])
def test_what_may_not_be_kept(changes: dict[str, Any]) -> None:
    assert entry(changed(**changes)) is None


def test_an_entry_does_not_outlive_a_year() -> None:
    wanted = entry(changed(cache_ttl_s=1e300))
    assert wanted is not None
    assert wanted.ttl_s == MAX_TTL_S


@pytest.mark.parametrize("key", ["", "sluice:other", cache_key(b"{}", "other", "p1")])
def test_a_key_of_another_tenant_is_a_bad_record(key: str) -> None:
    with pytest.raises(BadRecord) as raised:
        entry(changed(cache_key=key))
    assert raised.value.code == "foreign_cache_key"
