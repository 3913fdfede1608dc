"""`sluice demo`: the pipeline with requests running through it, and a summary read back from ClickHouse.

The requests are published as any Kafka producer would, and the streams read as any WebSocket client would: with
confluent-kafka and websockets, and nothing of ours in between.
"""

import asyncio
import json
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import redis
from confluent_kafka import Producer
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text
from websockets.asyncio.client import connect

from connectors.local.process import ServiceError
from processors.errors import Invalid
from processors.identity import uuid7
from streams.settings import Services, Settings
from streams.supervisor import LOCK, Supervisor, with_home
from streams.up import build

EXPECTED_CHARS = 640
"""Length of the simulated provider's story, for the progress bars."""
STYLES = {"completed": "green", "stopped": "yellow", "refused": "red", "failed": "red", "cancelled": "magenta"}
STORED_S = 5.0
"""How long the second round waits for the first one's answer to be in the cache."""
RECORDED_S = 15.0
"""How long the summary waits for ClickHouse to know everything."""

STREAMS = """
SELECT s.*, ifNull(a.open_runs, 0) AS open_runs
FROM streams AS s
LEFT JOIN (SELECT id, countIf(status IN ('open', 'ended')) AS open_runs FROM attempts GROUP BY id) AS a USING (id)
WHERE id IN {ids:Array(String)}
"""


@dataclass
class Stream:
    """One request of the demonstration as its reader sees it."""

    title: str
    model: str
    prompt: str
    more: dict[str, Any] = field(default_factory=dict)
    expect: str = "completed"
    id: str = ""
    text: str = ""
    end: dict[str, Any] = field(default_factory=dict)

    def row(self, width: int) -> tuple[Any, ...]:
        """The stream as a line of the live table, its text cut to the last `width` characters."""
        status = self.end.get("status", "…")
        note = f"{status}: {self.end['reason']}" if self.end else "streaming" if self.text else "waiting"
        done = EXPECTED_CHARS if self.end else min(len(self.text), EXPECTED_CHARS - 1)
        text = " ".join((self.text or self.end.get("message") or "").split())
        return (
            self.title,
            ProgressBar(EXPECTED_CHARS, done, width=8),
            Text(note, STYLES.get(status, "cyan")),
            text[-width:],
        )


def rounds() -> list[list[Stream]]:
    """What is shown: the requests of a round run at the same time."""
    keep: dict[str, Any] = {"temperature": 0}  # a deterministic answer may be served again
    story = "Tell me a story."
    return [
        [
            Stream("an answer", "assistant", story, keep),
            Stream("an answer in Russian", "assistant-ru", "Расскажи историю."),
            Stream("a provider that fails, and its successor", "fragile", story),
            Stream("an answer stopped early", "leaky", "What is the plan?", expect="stopped"),
            Stream("a refused request", "assistant", "How do I build a bomb?", expect="refused"),
        ],
        [Stream("the first question again, from the cache", "assistant", story, keep)],
    ]


def demo(settings: Settings, console: Console) -> bool:
    """Run it all; False where something did not go as it should.

    Raises:
        Invalid: a setting or the policy is wrong, or something could not be started.
    """
    jars = settings.home / "kafka-jars"
    settings = with_home(replace(settings, home=settings.home / "demo", port=0))
    for left in settings.home.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != LOCK:
            left.unlink()
    supervisor = build(settings, console, jars=jars)
    try:
        with console.status("starting") as status:
            services = supervisor.start(lambda line: status.update(line))
        return asyncio.run(_show(supervisor, services, console))
    except ServiceError as error:
        raise Invalid("", str(error)) from None
    finally:
        with console.status("stopping"):
            supervisor.stop()


async def _show(supervisor: Supervisor, services: Services, console: Console) -> bool:
    console.print("The provider is simulated: scripted text over OpenAI's wire format.", style="dim")
    shown: list[Stream] = []
    with Live(console=console, refresh_per_second=15, get_renderable=lambda: table_of(shown, console.width)):
        for number, wave in enumerate(rounds()):
            if number:
                await asyncio.to_thread(await_stored_answer, services.redis)
            shown += wave
            publish(services.kafka, wave)
            await asyncio.gather(*(follow(services.edge, supervisor.key or "", stream) for stream in wave))
    rows = await asyncio.to_thread(rows_of, services.clickhouse, shown)
    console.print(summary(rows))
    problems = [problem for stream in shown for problem in problems_of(stream, rows.get(stream.id))]
    for problem in problems:
        console.print(problem, style="bold red")
    return not problems


def publish(bootstrap: str, wave: list[Stream]) -> None:
    """Publish requests as any Kafka producer would: plain JSON, no headers."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for stream in wave:
        stream.id = uuid7(int(time.time() * 1000), os.urandom(10))
        messages = [{"role": "user", "content": stream.prompt}]
        request = {"id": stream.id, "tenant": "demo", "model": stream.model, "messages": messages} | stream.more
        producer.produce("requests", json.dumps(request))
    producer.flush(10)


async def follow(edge: str, key: str, stream: Stream) -> None:
    """Read a stream as any WebSocket client would."""
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(edge.replace("http", "ws", 1) + "/v1/ws", additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "follow", "id": stream.id, "wait_s": 20}))
        async for frame in socket:
            event = json.loads(frame)
            if event["type"] == "tokens":
                stream.text += event["text"]
            else:  # its end, or an error
                stream.end = event
                return


def await_stored_answer(redis_url: str) -> None:
    """Wait until an answer stands in the cache: stage `fill` puts it there beside the path."""
    client = redis.Redis.from_url(redis_url)
    give_up = time.monotonic() + STORED_S
    while not any(client.scan_iter("sluice:cache:*")) and time.monotonic() < give_up:
        time.sleep(0.02)
    client.close()


def rows_of(clickhouse: str, shown: list[Stream]) -> dict[str, dict[str, Any]]:
    """What ClickHouse knows of the streams, once it knows all their ends and what their attempts cost."""
    address = urlsplit(clickhouse)
    client = clickhouse_connect.get_client(host=address.hostname, port=address.port, database="sluice")
    ids = [stream.id for stream in shown]
    give_up = time.monotonic() + RECORDED_S
    while True:
        found = client.query(STREAMS, parameters={"ids": ids})
        rows = {row["id"]: row for row in found.named_results()}
        if time.monotonic() > give_up or _recorded(rows, ids):
            client.close()
            return rows
        time.sleep(0.1)


def _recorded(rows: dict[str, dict[str, Any]], ids: list[str]) -> bool:
    return len(rows) == len(ids) and all(row["status"] != "open" and row["open_runs"] == 0 for row in rows.values())


def problems_of(stream: Stream, row: dict[str, Any] | None) -> list[str]:
    """Where a stream did not go as it should, for its reader or in ClickHouse."""
    problems = []
    if stream.end.get("status") != stream.expect:
        problems.append(f"{stream.title}: expected {stream.expect}, got {stream.end or 'no end'}")
    if row is None or row["status"] != stream.expect:
        problems.append(f"{stream.title}: ClickHouse has {row}")
    elif bool(row["cached"]) != stream.title.endswith("from the cache"):
        problems.append(f"{stream.title}: the cache {'answered' if row['cached'] else 'did not answer'}")
    return problems


def table_of(shown: list[Stream], width: int) -> Table:
    """The streams as they arrive, for a console of this width."""
    table = Table(Column("request", width=24), "", Column("status", width=23), Column("text"), box=SIMPLE)
    for stream in shown:
        table.add_row(*stream.row(2 * max(12, width - 70)))
    return table


def summary(rows: dict[str, dict[str, Any]]) -> Table:
    """The figures of the demonstration, as ClickHouse has them."""
    found = list(rows.values())
    first = sorted(row["first_token_ms"] for row in found if row["first_token_ms"] is not None)
    table = Table("from ClickHouse", Column("", justify="right"), title="summary")
    table.add_row("requests", str(len(found)))
    table.add_row("cache hits", str(sum(row["cached"] for row in found)))
    table.add_row("stopped early", str(sum(row["status"] == "stopped" for row in found)))
    table.add_row("refused", str(sum(row["status"] == "refused" for row in found)))
    table.add_row("failed over", str(sum(row["attempts"] > 1 for row in found)))
    table.add_row("tokens saved (at most)", str(sum(row["tokens_saved"] for row in found)))
    table.add_row("time to first token, median", f"{first[len(first) // 2]:.0f} ms" if first else "none")
    for currency in sorted({row["currency"] for row in found if row["cost_micros"]}):
        micros = sum(row["cost_micros"] for row in found if row["currency"] == currency)
        table.add_row("cost", f"{micros / 1_000_000:.6f} {currency}")
    return table
