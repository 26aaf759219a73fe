"""What is counted, in Prometheus' terms. Owns its registry, so that two servers in one process do not mix.

Names and units follow https://prometheus.io/docs/practices/naming/. Labels hold server names, operations and outcomes,
never model names that a caller may invent, never keys.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)


@define
class Metrics:
    """Counters and histograms, touched without locks of ours."""

    registry: CollectorRegistry = field(factory=CollectorRegistry)
    _requests: Counter = field(init=False)
    _seconds: Histogram = field(init=False)
    _first_token: Histogram = field(init=False)
    _queue: Histogram = field(init=False)
    _tokens: Counter = field(init=False)
    _retries: Counter = field(init=False)
    _restarts: Counter = field(init=False)
    _malformed: Counter = field(init=False)
    #: Finding a labelled child takes longer than counting on it.
    _children: dict[tuple[object, ...], Any] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        own = self.registry
        served = ["operation", "server"]
        self._requests = Counter(
            "trillm_requests", "Requests that have ended.", [*served, "outcome", "status"], registry=own
        )
        self._seconds = Histogram(
            "trillm_request_seconds", "From arrival to the end.", served, buckets=_SECONDS, registry=own
        )
        self._first_token = Histogram(
            "trillm_first_token_seconds", "From arrival to the first content.", served, buckets=_SECONDS, registry=own
        )
        self._queue = Histogram(
            "trillm_queue_seconds", "From arrival to a slot.", served, buckets=_SECONDS, registry=own
        )
        self._tokens = Counter(
            "trillm_tokens", "Tokens, as the servers count them.", [*served, "direction"], registry=own
        )
        self._retries = Counter("trillm_retries", "Attempts that another one followed.", ["server"], registry=own)
        self._restarts = Counter("trillm_module_failures", "Failures of a module.", ["module"], registry=own)
        self._malformed = Counter(
            "trillm_malformed_frames", "Stream frames that were no JSON and were dropped.", ["server"], registry=own
        )
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def gauge_per_server(self, name: str, text: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add a gauge with a value for each server there is when it is asked for."""
        self.registry.register(_PerServer(name, text, read))

    def finished(self, operation: str, server: str, outcome: str, status: int) -> None:
        """Count a request that has ended."""
        self._labelled(self._requests, operation, server, outcome, str(status)).inc()

    def took(
        self, operation: str, server: str, *, total_s: float, first_token_s: float | None, queue_s: float | None
    ) -> None:
        """Note a request's times."""
        self._labelled(self._seconds, operation, server).observe(total_s)
        if first_token_s is not None:
            self._labelled(self._first_token, operation, server).observe(first_token_s)
        if queue_s is not None:
            self._labelled(self._queue, operation, server).observe(queue_s)

    def used(self, operation: str, server: str, *, prompt: int, completion: int) -> None:
        """Count tokens; the -1 of a server that does not know is none."""
        self._labelled(self._tokens, operation, server, "prompt").inc(max(0, prompt))
        self._labelled(self._tokens, operation, server, "completion").inc(max(0, completion))

    def dropped(self, server: str, frames: int) -> None:
        """Count frames of ``server`` that were no JSON."""
        self._malformed.labels(server).inc(frames)

    def retried(self, server: str) -> None:
        """Count a failed attempt at ``server`` that another attempt follows."""
        self._retries.labels(server).inc()

    def module_failed(self, module: str) -> None:
        """Count a failure of a module."""
        self._restarts.labels(module).inc()

    def _labelled(self, metric: Counter | Histogram, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


@frozen
class _PerServer:
    """Makes the samples when they are asked for, so that a server that is gone leaves none behind."""

    name: str
    text: str
    read: Callable[[], Mapping[str, float]]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self.name, self.text, labels=["server"])
        for server, value in self.read().items():
            family.add_metric([server], value)
        yield family
