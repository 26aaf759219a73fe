"""The results as Markdown, for people."""

from collections.abc import Sequence

from benchmarks.faces import DIRECT, NAIVE, TRILLM
from benchmarks.measure import Sample
from benchmarks.results import Results
from trillm.bench.asks import Kind

NOTHING = "-"

TITLES = {Kind.PLAIN: "Plain chats", Kind.STREAM: "Streamed chats"}
COLUMNS = {
    Kind.PLAIN: ("requests/s", "CPU µs/request", "p50 ms", "p99 ms", "added p50", "added p99"),
    Kind.STREAM: (
        *("chunks/s", "CPU µs/chunk", "first token p50 ms", "p99 ms", "added p50", "added p99"),
        *("gap p50 ms", "p99 ms", "added p50", "added p99"),
    ),
}
PERCENTILES = ("p50", "p99")
TIMES = {Kind.PLAIN: ("total",), Kind.STREAM: ("first_token", "gap")}


def markdown(results: Results) -> str:
    """Return the tables."""
    parts = [f"# Concurrency\n\n{results.environment}\n\n{results.pace}\n"]
    parts += [f"## {TITLES[kind]}\n\n{_load_table(results, kind)}\n" for kind in results.plan.kinds]
    parts += [f"## Resident memory, MB\n\n{_memory_table(results)}\n", "\n".join(_remarks(results)) + "\n"]
    return "\n".join(parts)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2) -> str:
    """Return a Markdown table whose columns are also aligned for the eye; all but the first ``words`` to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = ["-" * width if i < words else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(_aligned(line, widths, words)) + " |" for line in (headings, rule, *rows))


def _aligned(line: Sequence[str], widths: Sequence[int], words: int) -> list[str]:
    cells = zip(line, widths, strict=True)
    return [text.ljust(width) if i < words else text.rjust(width) for i, (text, width) in enumerate(cells)]


def _load_table(results: Results, kind: Kind) -> str:
    rows = [_load_row(results, sample) for sample in results.of(kind)]
    return table(["at once", "way", *COLUMNS[kind], "errors"], rows)


def _load_row(results: Results, sample: Sample) -> list[str]:
    proxy = sample.face != DIRECT
    cost = sample.per_unit_us(sample.cpu_s) if proxy else None
    cells = [str(sample.connections), sample.face, f"{sample.per_s:.0f}", number(cost, 0)]
    for what in TIMES[sample.kind]:
        cells += [number(sample.time_ms(what, percentile)) for percentile in PERCENTILES]
        cells += [number(results.added_ms(sample, what, p) if proxy else None) for p in PERCENTILES]
    return [*cells, ", ".join(f"{count} {what}" for what, count in sample.tally.errors.items()) or "0"]


def _memory_table(results: Results) -> str:
    rows = []
    for face, both in results.rss_bytes.items():
        before, after = both or (None, None)
        rows.append([face, megabytes(before), megabytes(after)])
    return table(["way", "before", "after"], rows)


def _remarks(results: Results) -> list[str]:
    """Say in a sentence for each kind what people ask first."""
    connections = min(results.plan.concurrency, key=lambda count: abs(count - 50))
    return [_remark(results, kind, connections) for kind in results.plan.kinds]


def _remark(results: Results, kind: Kind, connections: int) -> str:
    direct, ours = (results.find(face, kind, connections) for face in (DIRECT, TRILLM))
    cost, load = ours.per_unit_us(ours.cpu_s), direct.per_unit_us(direct.load_cpu_s)
    says = [f"trillm takes {number(cost, 0)} µs of CPU per {ours.unit}"]
    if NAIVE in results.faces:
        naive = results.find(NAIVE, kind, connections)
        theirs = naive.per_unit_us(naive.cpu_s)
        says.append(f"{NAIVE} {number(cost and theirs and theirs / cost)} times that")
    says.append(f"the load generator {number(load, 0)} µs")
    return f"- {TITLES[kind]}, {connections} at once: {', '.join(says)}."


def number(value: float | None, digits: int = 2) -> str:
    """Return a cell for a figure that may be unknown."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def megabytes(count: int | None) -> str:
    """Return a cell for a number of bytes."""
    return number(None if count is None else count / 1e6, 1)
