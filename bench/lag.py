"""How far ClickHouse is behind the log while whole answers run through the path."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator

from bench.common import check, quantile, say
from bench.load import whole_answers
from bench.pipeline import running
from connectors.clickhouse.client import ClickHouse

RATE, WARM_UP_S, LOAD_S, POLL_S = 200, 6.0, 15.0, 0.02
ANSWER = "A short answer."
POLICY = """
version: 1
providers: {simulated: {kind: openai, base_url: "simulated:"}}
routes: {quick: [{provider: simulated, model: "say?text=A short answer.&first_ms=20"}]}
tenants: {demo: {}}
cache: {when: never}
"""


async def lag() -> None:
    """From a record's append to its being found in ClickHouse, for chunks and ends, while whole answers run."""
    with running(POLICY) as pipeline:
        house = ClickHouse(pipeline.services["clickhouse"])
        await whole_answers(pipeline.edge, pipeline.key, "quick", RATE / 2, WARM_UP_S, text=ANSWER)  # warm-up
        load = asyncio.create_task(whole_answers(pipeline.edge, pipeline.key, "quick", RATE, LOAD_S, text=ANSWER))
        began_ms = time.time() * 1000
        looks: list[tuple[float, dict[str, int]]] = []
        while not load.done():
            looks.append(await asyncio.to_thread(look, house))
            await asyncio.sleep(POLL_S)
        took = await load
        check(all(value < float("inf") for value in took), "an answer failed")
        due, give_up = int(RATE * (WARM_UP_S / 2 + LOAD_S)), time.monotonic() + 20
        while not complete(house, due):
            check(time.monotonic() < give_up, "not everything came to ClickHouse, each once")
            looks.append(await asyncio.to_thread(look, house))
        looks.append(await asyncio.to_thread(look, house))
        lags = sorted(lags_of(house, looks, began_ms))
        house.close()
        for share in (0.5, 0.99):
            say(f"sink, lag p{share * 100:g}", f"{RATE} answers/s", "ms", [quantile(lags, share)], rows=len(lags))


def complete(house: ClickHouse, answers: int) -> bool:
    """Whether every answer's end and every chunk that its run tells of are there."""
    counts = "SELECT (SELECT count() FROM ends), (SELECT count() FROM chunks), sum(chunks) FROM run_ends"
    ends, chunks, told = house.query(counts)[1][0]
    return ends == answers and bool(chunks == told)


PLACES = """
SELECT 'chunks/' || toString(topic_partition) AS place, {what} FROM chunks_log {where}
UNION ALL SELECT 'ends/' || toString(topic_partition) AS place, {what} FROM ends_log {where}
"""


def look(house: ClickHouse) -> tuple[float, dict[str, int]]:
    """How far each partition has come in ClickHouse, and when that was known (milliseconds of Unix time)."""
    rows = house.query(PLACES.format(what="max(log_offset)", where="GROUP BY place"))[1]
    return time.time() * 1000, dict(rows)


def lags_of(house: ClickHouse, looks: list[tuple[float, dict[str, int]]], began_ms: float) -> Iterator[float]:
    """For each row appended since `began_ms`, the time until the first look that found it."""
    since = f"WHERE appended >= fromUnixTimestamp64Milli({round(began_ms)})"
    rows = house.query(PLACES.format(what="log_offset, toUnixTimestamp64Milli(appended)", where=since))[1]
    for place, offset, appended_ms in rows:
        at = bisect_left(looks, offset, key=lambda look: look[1].get(place, -1))
        yield looks[at][0] - appended_ms


def main() -> None:
    """Start the pipeline, measure, stop it."""
    asyncio.run(lag())


if __name__ == "__main__":
    main()
