"""The results as a picture: what it costs, what it adds, what gets through, over the number of requests at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks import svg
from benchmarks.faces import DIRECT, NAIVE, TRILLM
from benchmarks.measure import Sample
from benchmarks.results import Results
from trillm.bench.asks import Kind

#: Blue, vermilion and grey are told apart by every eye (Okabe and Ito).
COLOURS = {DIRECT: "#6b7280", TRILLM: "#0072b2", NAIVE: "#d55e00"}

Value = Callable[[Sample], float | None]


def draw(results: Results) -> str:
    """Return an SVG: a row of panels for each kind of request."""
    panels = [panel for kind in results.plan.kinds for panel in _PANELS[kind](results)]
    environment = results.environment
    title = f"What a proxy costs ({environment.cores} cores, {environment.date[:10]})"
    concurrency = [str(count) for count in results.plan.concurrency]
    return svg.draw(title, "requests at once", concurrency, panels, dashes="99th percentile")


def _plain(results: Results) -> list[svg.Panel]:
    faces = {face: results.of(Kind.PLAIN, face) for face in results.faces}
    rates = [_line(face, samples, lambda sample: sample.per_s) for face, samples in faces.items()]
    return [
        _costs(results, Kind.PLAIN, "Plain: CPU per request"),
        _added(results, Kind.PLAIN, "total", "Plain: added to the answer"),
        svg.Panel("Plain: answered", "requests per second", rates, floor=10),
    ]


def _streamed(results: Results) -> list[svg.Panel]:
    return [
        _costs(results, Kind.STREAM, "Streamed: CPU per chunk"),
        _added(results, Kind.STREAM, "first_token", "Streamed: added to the first token"),
        _added(results, Kind.STREAM, "gap", "Streamed: added to the gap between tokens"),
    ]


_PANELS = {Kind.PLAIN: _plain, Kind.STREAM: _streamed}


def _costs(results: Results, kind: Kind, title: str) -> svg.Panel:
    lines = [_line(face, results.of(kind, face), lambda s: s.per_unit_us(s.cpu_s)) for face in _proxies(results)]
    return svg.Panel(title, "µs", lines)


def _added(results: Results, kind: Kind, what: str, title: str) -> svg.Panel:
    def added(percentile: str) -> Iterator[svg.Line]:
        for face in _proxies(results):
            value = partial(results.added_ms, what=what, percentile=percentile)
            yield _line(face, results.of(kind, face), value, dashed=percentile == "p99")

    return svg.Panel(title, "ms", [*added("p50"), *added("p99")], floor=0.1)


def _line(face: str, samples: Sequence[Sample], value: Value, *, dashed: bool = False) -> svg.Line:
    return svg.Line(face, COLOURS[face], [value(sample) for sample in samples], dashed=dashed)


def _proxies(results: Results) -> list[str]:
    return [face for face in results.faces if face != DIRECT]
