"""Answers get into the cache, whatever happens to Redis, to the stage, or to the record before."""

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from connectors.kafka import admin
from connectors.kafka.writer import Writer
from connectors.local.redis import LocalRedis
from processors.cache import cache_key, decode_answer, tenant_prefix
from processors.codec import encode
from processors.events import Answer, AnswerPart, Cost, Target, Usage
from processors.identity import partition_of, uuid7
from streams import topology
from tests.streams.stage_process import StageProcess, empty, find, running, unread, until

pytestmark = pytest.mark.kafka

BAD = {"undecodable": b'{"type":"answer",', "null_value": None, "version": b"{}"}


@pytest.fixture(scope="module")
def broker(kafka: str) -> str:
    topics = topology.load()
    admin.apply(kafka, topics.specs(), topics.groups())
    return kafka


def answer(number: int, tenant: str = "demo") -> Answer:
    return Answer(
        id=uuid7(int(time.time() * 1000), os.urandom(10)),
        tenant=tenant,
        model="assistant",
        target=Target("simulated", "story"),
        finish_reason="stop",
        usage=Usage(1, 2),
        cost=Cost(),
        cache_key=cache_key(b'{"seed":%d}' % number, tenant, "p1"),
        cache_ttl_s=60.0,
        parts=(AnswerPart("content", f"answer {number}"),),
    )


def publish(broker: str, *answers: Answer) -> None:
    writer = Writer(broker, "test")
    for item in answers:
        writer.send("answers", item.id, encode(item))
    writer.flush()


def key_in(item: Answer) -> str:
    assert item.cache_key is not None
    return item.cache_key


def kept(address: str, item: Answer) -> bool:
    with redis.Redis.from_url(address) as client:
        value = client.get(key_in(item))
    stored = decode_answer(key_in(item), value) if isinstance(value, bytes) else None
    return stored is not None and stored.source == item.id


NO_GRAVES = """
import streams.fill
async def refuse(*_): raise OSError("no more graves")
streams.fill.Stage.send = refuse
"""


def test_good_answers_are_kept_and_bad_ones_buried(broker: str, own_redis: LocalRedis, tmp_path: Path) -> None:
    publish(broker, *(answer(number) for number in range(8)))
    empty(broker, "answers")
    first, last, foreign = answer(1), answer(2, "another tenant: *"), answer(3)
    writer = Writer(broker, "test")
    for error, value in BAD.items():  # in the partition of the good one behind them
        writer.send("answers", last.id, value, headers=[("v", b"9" if error == "version" else b"1")])
    writer.send("answers", foreign.id, encode(foreign).replace(b'"tenant":"demo"', b'"tenant":"eve"'))
    writer.send("answers", None, None, partition=partition_of(last.id, 4))
    writer.send("answers", last.id, encode(last))
    writer.flush()

    stuck = StageProcess("fill", tmp_path, broker, own_redis.address, changed=NO_GRAVES).launch()
    try:
        assert stuck.wait() != 0, "what cannot be buried ends the stage"
        assert "no more graves" in stuck.log
        assert not kept(own_redis.address, last), "nothing passes a record that is not done"
    finally:
        stuck.kill()

    with running(StageProcess("fill", tmp_path, broker, own_redis.address)) as stage:
        until(lambda: "records are lost, retention took them unread" in stage.log)
        publish(broker, first)
        until(lambda: kept(own_redis.address, first) and kept(own_redis.address, last))
        with redis.Redis.from_url(own_redis.address) as client:
            assert 50_000 < client.pttl(key_in(last)) <= 60_000
            assert client.keys(tenant_prefix("another tenant: *") + "*") == [key_in(last).encode()]
        until(lambda: unread(broker, "fill", "answers") == 0)
        code, seconds = stage.terminate()
        assert (code, seconds < 2.0) == (0, True), stage.log
    buried = find(broker, "dead-letters", lambda letter: letter.key() in (last.id.encode(), foreign.id.encode()), 4)
    headers: list[dict[str, Any]] = [dict(letter.headers() or ()) for letter in buried]
    values = {
        header["dead-letter-error"].decode(): letter.value() for header, letter in zip(headers, buried, strict=True)
    }
    assert set(values) == {*BAD, "foreign_cache_key"}
    assert {error: values[error] for error in BAD} == BAD, "byte for byte"
    [bare] = find(broker, "dead-letters", lambda letter: letter.key() == b"", 1)
    assert bare.value() is None, "neither key nor value: its letter has an empty key"
    for header in headers:
        assert (header["dead-letter-topic"], header["dead-letter-stage"]) == (b"answers", b"fill")


def test_redis_away_and_back_and_the_stage_killed_meanwhile(broker: str, own_redis: LocalRedis, tmp_path: Path) -> None:
    impatient = "import streams.fill; streams.fill.PATIENCE_S = 2.5; streams.fill.LONGEST_PAUSE_S = 0.3"
    waits, killed, after = answer(1), answer(2), answer(3)
    passed_by = [answer(number) for number in range(10, 30)]
    stage = StageProcess("fill", tmp_path, broker, own_redis.address, changed=impatient)
    with running(stage):
        own_redis.kill()
        publish(broker, waits)
        until(lambda: "Redis takes no answers" in stage.log)
        own_redis.start()
        until(lambda: kept(own_redis.address, waits), what="an answer waits for Redis")

        own_redis.kill()
        publish(broker, killed)
        until(lambda: stage.log.count("Redis takes no answers") == 2)
        stage.kill()
    assert unread(broker, "fill", "answers") > 0
    own_redis.start()
    with running(stage):
        until(lambda: kept(own_redis.address, killed), what="and survives a kill -9 while it waits")

        own_redis.kill()
        publish(broker, *passed_by)
        until(lambda: unread(broker, "fill", "answers") == 0, what="but not for ever")
        own_redis.start()

        def kept_again() -> bool:
            publish(broker, after)
            return kept(own_redis.address, after)

        until(kept_again)
        assert stage.terminate()[0] == 0
    assert stage.log.count("Redis takes no answers") == 3, "said once an outage"
    dropped = [int(number) for number in re.findall(r"(\d+) answers dropped since start", stage.log)]
    assert max(dropped) >= len(passed_by), stage.log  # those published while Redis came back may be among them
