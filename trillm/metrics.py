"""What is counted, in Prometheus' terms. Owns its registry, so that two servers in one process do not mix.

Names and units follow https://prometheus.io/docs/practices/naming/. Labels hold server names, operations and outcomes,
never model names that a caller may invent, never keys.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import accumulate

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)

_SERVED = ("operation", "server")

_digits = cache(str)


@define(eq=False)
class _Total:
    """A counter with labels: a dictionary, because a locked object for each label costs more than counting."""

    name: str
    text: str
    labels: tuple[str, ...]
    values: defaultdict[tuple[str, ...], float] = field(factory=lambda: defaultdict(float), init=False)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in tuple(self.values.items()):
            family.add_metric(labels, value)
        yield family


@define(eq=False)
class _Times:
    """A histogram of seconds, by two labels."""

    name: str
    text: str
    labels: tuple[str, str] = _SERVED
    values: dict[tuple[str, str], list[float]] = field(factory=dict, init=False)

    def observe(self, served: tuple[str, str], seconds: float) -> None:
        counts = self.values.get(served)
        if counts is None:
            counts = self.values[served] = [0.0] * (len(_SECONDS) + 2)
        counts[bisect_left(_SECONDS, seconds)] += 1
        counts[-1] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for served, (*counts, total) in tuple(self.values.items()):
            buckets = zip((*map(floatToGoString, _SECONDS), "+Inf"), accumulate(counts), strict=True)
            family.add_metric(served, list(buckets), total)
        yield family


@define
class Metrics:
    """Counters and histograms; counting on them takes no locks and makes no strings."""

    registry: CollectorRegistry = field(factory=CollectorRegistry)
    _requests: _Total = field(init=False)
    _seconds: _Times = field(init=False)
    _first_token: _Times = field(init=False)
    _queue: _Times = field(init=False)
    _tokens: _Total = field(init=False)
    _retries: _Total = field(init=False)
    _restarts: _Total = field(init=False)
    _malformed: _Total = field(init=False)
    _tools: _Times = field(init=False)

    def __attrs_post_init__(self) -> None:
        total, times = self._total, self._times
        self._requests = total("trillm_requests", "Requests that have ended.", *_SERVED, "outcome", "status")
        self._seconds = times("trillm_request_seconds", "From arrival to the end.")
        self._first_token = times("trillm_first_token_seconds", "From arrival to the first content.")
        self._queue = times("trillm_queue_seconds", "From arrival to a slot.")
        self._tokens = total("trillm_tokens", "Tokens, as the servers count them.", *_SERVED, "direction")
        self._retries = total("trillm_retries", "Attempts that another one followed.", "server")
        self._restarts = total("trillm_module_failures", "Failures of a module.", "module")
        self._malformed = total(
            "trillm_malformed_frames", "Stream frames that were no JSON and were dropped.", "server"
        )
        self._tools = times("trillm_tool_seconds", "Tool calls that chats have had run.", ("mcp_server", "outcome"))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def _total(self, name: str, text: str, *labels: str) -> _Total:
        total = _Total(name, text, labels)
        self.registry.register(total)
        return total

    def _times(self, name: str, text: str, labels: tuple[str, str] = _SERVED) -> _Times:
        times = _Times(name, text, labels)
        self.registry.register(times)
        return times

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge whose value is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def gauge_per_server(self, name: str, text: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add a gauge with a value for each server there is when it is asked for."""
        self.registry.register(_PerServer(name, text, read))

    def finished(self, operation: str, server: str, outcome: str, status: int) -> None:
        """Count a request that has ended."""
        self._requests.values[operation, server, outcome, _digits(status)] += 1

    def took(
        self, operation: str, server: str, *, total_s: float, first_token_s: float | None, queue_s: float | None
    ) -> None:
        """Note a request's times."""
        served = (operation, server)
        self._seconds.observe(served, total_s)
        if first_token_s is not None:
            self._first_token.observe(served, first_token_s)
        if queue_s is not None:
            self._queue.observe(served, queue_s)

    def used(self, operation: str, server: str, *, prompt: int, completion: int) -> None:
        """Count tokens; the -1 of a server that does not know is none."""
        self._tokens.values[operation, server, "prompt"] += max(0, prompt)
        self._tokens.values[operation, server, "completion"] += max(0, completion)

    def dropped(self, server: str, frames: int) -> None:
        """Count frames of ``server`` that were no JSON."""
        self._malformed.values[(server,)] += frames

    def retried(self, server: str) -> None:
        """Count a failed attempt at ``server`` that another attempt follows."""
        self._retries.values[(server,)] += 1

    def tool_called(self, mcp_server: str, *, failed: bool, seconds: float) -> None:
        """Note a tool call that has ended."""
        self._tools.observe((mcp_server, "failed" if failed else "ok"), seconds)

    def module_failed(self, module: str) -> None:
        """Count a failure of a module."""
        self._restarts.values[(module,)] += 1

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
