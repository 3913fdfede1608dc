"""What a chunk costs the guard on Apache Kafka: CPU of its whole process, client included, in µs.

Against others that read the same journal and write as many records:
- The bare loop: consume, decode, scan, encode, produce; the same records, patterns, headers and client settings.
- A faust agent that only forwards: what comes with a stream framework.

Each takes a backlog, in rounds. `rules` are 2,000 patterns, personal data and limits, a shared budget among them; `all`
adds degeneration and the classifier, whose scores go through the journal; each part is measured alone, too, beside a
guard that has nothing to do. What each answer and each verdict is to be follows from what was planted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.answers import CASES, Answer, answers, check_found, check_released, ids, journal, make_policy
from bench.common import check, report, say
from bench.guard import Bare
from connectors.kafka.batches import consumer_config, read_batch
from connectors.kafka.policies import publish_policy
from connectors.kafka.writer import Writer, producer_config
from connectors.local.kafka import LocalKafka
from connectors.local.redis import LocalRedis
from processors.codec import VERSION_HEADERS, decode, encode
from processors.events import Tokens
from processors.identity import partition_of
from processors.policy import VersionedPolicy
from streams.installation import resource
from tests.conftest import JARS

STREAMS, CHUNKS, ROUNDS, PARTITIONS = 200, 250, 5, 4
FORWARDED = 5000
"""Records for faust: it takes some 190 us each."""
SLUICE = str(Path(sys.executable).with_name("sluice"))
BARE, FAUST = "bare loop", "faust, forwards only"

Offsets = dict[int, int]


def main(streams: int, rounds: int) -> None:
    """Measure in turn, check, report."""
    times: dict[str, list[float]] = {BARE: [], **{f"guard: {case}": [] for case in CASES}, FAUST: []}
    with tempfile.TemporaryDirectory() as folder, services(Path(folder)) as (kafka, redis), ExitStack() as processes:
        policies = {case: make_policy(parts) for case, parts in CASES.items()}
        for policy in policies.values():
            publish_policy(kafka, policy)
        guard = start_guard(kafka, redis, Path(folder))
        bare, faust = Helper("bare", kafka, folder), Helper("faust", kafka, folder)
        for process in (guard, bare.process, faust.process):
            processes.callback(process.kill)
        for number in range(rounds + 1):  # the first warms up a broker's compiler, and the guard
            said = answers(number, streams, CHUNKS)
            for case, policy in policies.items():
                begin = ends(kafka, "journal")
                times[f"guard: {case}"].append(guarded(kafka, guard, case, policy, said))
                if case == "rules":
                    times[BARE].append(looped(kafka, bare, begin, said))
            times[FAUST].append(forwarded(kafka, faust))
    times = {case: values[1:] for case, values in times.items()}
    report("guard on Kafka, CPU a chunk", times, BARE)
    shares(times)


def guarded(kafka: str, guard: psutil.Popen, case: str, policy: VersionedPolicy, answered: list[Answer]) -> float:
    """A round of the guard: its CPU a chunk, from the backlog to the last answer told of."""
    now_ms = int(time.time() * 1000)
    said = dict(zip(ids(now_ms, len(answered), frozenset(range(PARTITIONS))), answered, strict=True))
    begin = {name: ends(kafka, name) for name in ("tokens", "verdicts", "answers")}
    guard.suspend()
    events = journal(policy, now_ms, said)
    publish(kafka, "journal", [(event.id, encode(event)) for event in events])  # type: ignore[attr-defined]
    before = cpu_s(guard)
    guard.resume()
    read(kafka, "answers", begin["answers"], lambda raw: True, len(said))
    took = cpu_s(guard) - before
    check_released(said, CASES[case], read(kafka, "tokens", begin["tokens"], is_of("end"), len(said)))
    check_found(said, CASES[case], read(kafka, "verdicts", begin["verdicts"], is_of("summary"), len(said)))
    return took / chunks_of(answered) * 1e6


def looped(kafka: str, bare: "Helper", begin: Offsets, answered: list[Answer]) -> float:
    """The same journal through the bare loop, which gives back what came."""
    at, chunks = ends(kafka, "bare"), chunks_of(answered)
    bare.begin(begin, chunks)
    took = bare.cpu_s()
    texts: dict[str, str] = {}
    for raw in read(kafka, "bare", at, lambda raw: True, chunks):
        event = decode("tokens", raw)
        assert isinstance(event, Tokens)
        texts[event.id] = texts.get(event.id, "") + event.text
    check(sorted(texts.values()) == sorted(one.read(()) for one in answered), "the bare loop wrote another text")
    return took / chunks * 1e6


def forwarded(kafka: str, faust: "Helper") -> float:
    """As many small records as a chunk through faust."""
    at = ends(kafka, "forwarded")
    faust.begin({}, FORWARDED)
    publish(kafka, "small", [(str(n), b'{"type":"tokens","text":" word"}') for n in range(FORWARDED)])
    took = faust.cpu_s()
    check(len(read(kafka, "forwarded", at, lambda raw: True, FORWARDED)) == FORWARDED, "faust lost records")
    return took / FORWARDED * 1e6


def shares(times: dict[str, list[float]]) -> None:
    """What each part adds to a guard that has nothing to do, in µs a chunk."""
    nothing = times["guard: nothing"]
    for case in CASES:
        added = [with_it - base for with_it, base in zip(times[f"guard: {case}"], nothing, strict=True)]
        say("guard on Kafka, part", case, "us", added)


def is_of(kind: str) -> Callable[[bytes], bool]:
    """Tells records of a type by their first bytes."""
    return lambda raw: raw.startswith(b'{"type":"%s"' % kind.encode())


def chunks_of(answered: list[Answer]) -> int:
    return sum(len(answer.pieces) for answer in answered)


@contextmanager
def services(folder: Path) -> Iterator[tuple[str, str]]:
    """Addresses of Apache Kafka, with our topics and those of the baselines, and of Redis."""
    redis = LocalRedis(folder / "redis")
    kafka = LocalKafka(folder / "kafka", resource("compose/kafka"), JARS)
    address, books = kafka.start(), redis.start()
    try:
        environment = os.environ | {"SLUICE_KAFKA": address, "SLUICE_HOME": str(folder / "home")}
        subprocess.run([SLUICE, "topics", "apply"], env=environment, check=True, stdout=subprocess.DEVNULL)
        own = [NewTopic(name, PARTITIONS, 1) for name in ("bare", "small", "forwarded")]
        admin = AdminClient({"bootstrap.servers": address})
        for done in admin.create_topics(own).values():
            done.result()
        yield address, books
    finally:
        kafka.stop()
        redis.stop()


def start_guard(kafka: str, redis: str, folder: Path) -> psutil.Popen:
    """The guard's process, once it works."""
    home = folder / "home"
    environment = os.environ | {"SLUICE_KAFKA": kafka, "SLUICE_REDIS": redis, "SLUICE_HOME": str(home)}
    process = psutil.Popen([SLUICE, "run", "guard"], env=environment, stderr=subprocess.DEVNULL)
    while not (home / "run" / "guard-0.json").exists():
        if process.poll() is not None:
            sys.exit("the guard did not start")
        time.sleep(0.05)
    return process


def cpu_s(process: psutil.Popen) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Helper:
    """A baseline in a process of its own: told where to begin, it says what CPU it took."""

    def __init__(self, case: str, kafka: str, folder: str) -> None:
        command = [sys.executable, "-m", "bench.guard_kafka", case, kafka]
        self.process = psutil.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"APP_DATADIR": folder},  # faust's own; it would stand where we are
        )  # fmt: skip

    def begin(self, at: Offsets, count: int) -> None:
        """Let it take so many records."""
        self.process.stdin.write(json.dumps([at, count]).encode() + b"\n")
        self.process.stdin.flush()

    def cpu_s(self) -> float:
        """What they took, once they are done."""
        return float(self.process.stdout.readline())


def bare_loop(kafka: str) -> None:
    """Consume, decode, scan, encode, produce, each time anew from where the line says."""
    consumer = Consumer(consumer_config(kafka, "bare", "bare"))
    producer = Producer(producer_config(kafka, "bare") | Writer.reports)  # as the guard has it
    loop = Bare(make_policy(CASES["rules"]))
    for line in sys.stdin:
        begin, left = json.loads(line)
        before = time.process_time()
        loop.forget()
        consumer.assign([TopicPartition("journal", int(number), offset) for number, offset in begin.items()])
        while left:
            for message in read_batch(consumer, 500, 0.1):
                taken = loop.take(message.value() or b"")
                if taken is not None:
                    left -= 1
                    while True:
                        try:
                            producer.produce("bare", taken[1], taken[0], headers=VERSION_HEADERS)
                            break
                        except BufferError:
                            producer.poll(0.1)
            producer.poll(0)
        producer.flush()
        consumer.unassign()
        print(time.process_time() - before, flush=True)


def faust_loop(kafka: str) -> None:
    """A faust agent that forwards what it reads."""
    import threading

    import faust

    app = faust.App(
        "forward", broker=f"kafka://{kafka}", web_enabled=False, topic_disable_leader=True, producer_linger=0.002,
        stream_wait_empty=False, value_serializer="raw", key_serializer="raw",
    )  # fmt: skip
    source = app.topic("small", value_type=bytes, key_type=bytes)
    target = app.topic("forwarded", value_type=bytes, key_type=bytes)
    forwarded = threading.Semaphore(0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # faust draws on standard output

    @app.agent(source)
    async def forward(stream: Any) -> None:
        async for event in stream.events():
            await target.send(key=event.key, value=event.value)
            forwarded.release()

    def count() -> None:
        for line in sys.stdin:
            before = time.process_time()
            for _ in range(json.loads(line)[1]):
                forwarded.acquire()
            print(time.process_time() - before, file=answers, flush=True)

    threading.Thread(target=count, daemon=True).start()
    worker = faust.Worker(app, quiet=True, redirect_stdouts=False, loglevel="error")
    worker.execute_from_commandline()


def publish(kafka: str, topic: str, records: list[tuple[str, bytes]]) -> None:
    """Write records where their ids belong."""
    producer = Producer(producer_config(kafka, "bench") | {"linger.ms": 5, "queue.buffering.max.messages": 10**7})
    for key, value in records:
        producer.produce(topic, value, key, partition=partition_of(key, PARTITIONS), headers=VERSION_HEADERS)
    producer.flush()


def ends(kafka: str, topic: str) -> Offsets:
    """The next offsets."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench"})
    found = {n: consumer.get_watermark_offsets(TopicPartition(topic, n))[1] for n in range(PARTITIONS)}
    consumer.close()
    return found


def read(kafka: str, topic: str, begin: Offsets, counts: Callable[[bytes], bool], wanted: int) -> list[bytes]:
    """Records of a topic until so many of those that count have come."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bench"})
    consumer.assign([TopicPartition(topic, number, offset) for number, offset in begin.items()])
    found: list[bytes] = []
    while wanted > 0:
        for message in consumer.consume(10_000, 0.5):
            value = message.value() or b""
            found.append(value)
            wanted -= counts(value)
    consumer.close()
    return found


if __name__ == "__main__":
    if sys.argv[1:2] in (["bare"], ["faust"]):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        {"bare": bare_loop, "faust": faust_loop}[sys.argv[1]](sys.argv[2])
    else:
        main(*map(int, sys.argv[1:] or (STREAMS, ROUNDS)))
