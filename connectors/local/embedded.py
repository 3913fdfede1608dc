"""librdkafka's in-process broker: the Kafka protocol in memory, for a first look where there is no Java.

It keeps 5 MiB a partition and drops the oldest silently; no durability, no admin requests, no look-up by time, no
compaction, and its transactions are not real. Topics are therefore made here, when it starts.

    python -m connectors.local.embedded --topics '{"requests": 4}'

prints `bootstrap 127.0.0.1:PORT` and serves until SIGTERM, SIGINT or the end of the parent process.
"""

import argparse
import ctypes
import json
import os
import re
import signal
from pathlib import Path

from confluent_kafka import cimpl

from connectors.local.process import Service, python
from connectors.local.tether import tie_to_parent

_BOOTSTRAP = re.compile(r"^bootstrap (127\.0\.0\.1:(\d+))$", re.MULTILINE)
_PRODUCER = 0
_CLOSING = {signal.SIGTERM, signal.SIGINT}


class EmbeddedKafka(Service):
    """The embedded broker in a process of its own. A start after a stop begins empty, and on another port."""

    name = "embedded-kafka"

    def __init__(self, home: Path, topics: dict[str, int]) -> None:
        """`topics` gives each topic's number of partitions."""
        super().__init__(home, port=0)  # the broker takes a port of its own choice
        self.topics = topics

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return self.bootstrap

    def prepare(self) -> None:
        self.port = 0

    def command(self) -> list[str]:
        return python("connectors.local.embedded", "--topics", json.dumps(self.topics))

    def ready(self) -> bool:
        """Whether the process has told its address: it listens by then."""
        told = _BOOTSTRAP.search(self.written())
        if told:
            self.port = int(told.group(2))
        return told is not None


class MockCluster:
    """A mock cluster of one broker, by librdkafka's C interface.

    Raises:
        RuntimeError: the library refused.
    """

    def __init__(self, topics: dict[str, int]) -> None:
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(_PRODUCER, None, error, len(error))
        if not self._client:
            raise RuntimeError(error.value.decode())
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise RuntimeError("librdkafka made no mock cluster")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        for name, partitions in topics.items():
            self._create(name, partitions)

    def _create(self, name: str, partitions: int) -> None:
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise RuntimeError(f"topic {name}: librdkafka error {code}")

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`."""
        servers: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return servers.decode()

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


def _librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka brings, with the signatures of what we call.

    Symbols are looked up in the extension module and what it is linked with, so where the wheel keeps its
    libraries does not matter.
    """
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_destroy": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _topics(text: str) -> dict[str, int]:
    topics = json.loads(text)
    if not isinstance(topics, dict) or not all(isinstance(n, int) and n > 0 for n in topics.values()):
        raise ValueError(text)
    return topics


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="connectors.local.embedded")
    parser.add_argument("--topics", type=_topics, default={}, help='JSON, such as {"requests": 4}')
    topics = parser.parse_args().topics
    tie_to_parent(os.getppid())
    signal.pthread_sigmask(signal.SIG_BLOCK, _CLOSING)  # before librdkafka's threads, which inherit the mask
    cluster = MockCluster(topics)
    print(f"bootstrap {cluster.bootstrap}", flush=True)
    signal.sigwait(_CLOSING)
    cluster.close()


if __name__ == "__main__":
    main()
