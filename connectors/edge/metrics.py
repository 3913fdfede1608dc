"""`/metrics` on a loopback port of its own: what this edge does, and the newest windows of `health`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from processors.events import Health

HOST = "127.0.0.1"

HEALTH_GAUGES = {
    "attempts": "Attempts in the newest window.",
    "failures": "Attempts of the newest window that failed.",
    "first_token_ms": "Time to the first token in the newest window, milliseconds.",
    "input_tokens": "Input tokens in the newest window.",
    "output_tokens": "Output tokens in the newest window.",
    "cost_micros": "Cost in the newest window, micro-units of its currency.",
    "window_s": "Length of the newest window, seconds.",
}


@dataclass
class Answers:
    """Answers of the HTTP endpoints, by endpoint and status; 499 is a client that left before its answer."""

    by_status: dict[tuple[str, int], int] = field(default_factory=dict)

    def count(self, endpoint: str, status: int) -> None:
        """One more."""
        self.by_status[endpoint, status] = self.by_status.get((endpoint, status), 0) + 1


@dataclass(frozen=True)
class Figure:
    """A figure read when it is asked for, so that counting it costs the hot path nothing."""

    name: str
    meaning: str
    read: Callable[[], float]
    counter: bool = False


class EdgeCollector(Collector):
    """Reads every figure at the moment of a scrape."""

    def __init__(self, figures: list[Figure], answers: Answers, health: Callable[[], Mapping[str, Any]]) -> None:
        self._figures = figures
        self._answers = answers
        self._health = health

    def collect(self) -> Iterator[Metric]:
        for figure in self._figures:
            family = CounterMetricFamily if figure.counter else GaugeMetricFamily
            yield family(f"sluice_edge_{figure.name}", figure.meaning, value=figure.read())
        yield self._answered()
        yield from self._windows()

    def _answered(self) -> Metric:
        family = CounterMetricFamily("sluice_edge_answers", "HTTP answers.", labels=("endpoint", "status"))
        for (endpoint, status), count in list(self._answers.by_status.items()):
            family.add_metric((endpoint, str(status)), count)
        return family

    def _windows(self) -> Iterator[Metric]:
        windows = [window for window in list(self._health().values()) if isinstance(window, Health)]
        for name, meaning in HEALTH_GAUGES.items():
            family = GaugeMetricFamily(f"sluice_health_{name}", meaning, labels=("provider", "model", "tenant"))
            for window in windows:
                value = getattr(window, name)
                if value is not None:
                    family.add_metric((window.provider, window.model, window.tenant), value)
            yield family


class MetricsServer:
    """Serves a collector's figures in a thread of its own."""

    def __init__(self, collector: Collector, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, HOST, registry)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving, unless it has stopped already."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
