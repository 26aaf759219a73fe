"""A comparison with peers as Markdown, for people."""

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.comparison import REFERENCES, Comparison
from benchmarks.faces import DIRECT
from benchmarks.rounds import Row
from benchmarks.tables import megabytes, number, table
from benchmarks.targets import Target

METHOD = """Every figure is the median of its rounds; in each round the proxies took turns under the same load. CPU is
user and system time of a proxy's whole process tree. Load generator, upstream and proxy share the machine, so rates and
times are of this machine in this hour; ratios last longer."""


def markdown(comparison: Comparison, targets: Sequence[Target]) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items() if version)
    missing = f"\n\nNot measured: {', '.join(comparison.missing)}." if comparison.missing else ""
    about = f"`{comparison.command}`, {comparison.environment}\n\nPeers: {versions}.{missing}"
    parts = [f"# trillm beside its peers\n\n{about}\n\n{METHOD}\n"]
    parts.append(f"## Targets\n\n{_targets(targets)}\n")
    notes = "".join(f"- {name}: {note}.\n" for name, note in (*comparison.notes.items(), *_errors(comparison)))
    parts.append(f"## CPU µs per request, per chunk of streams\n\n{_costs(comparison)}\n\n{notes}")
    parts += [f"## The same, as multiples of {to}'s\n\n{_ratios(comparison, to)}\n" for to in _references(comparison)]
    parts.append(f"## Plain chats\n\n{_plain(comparison)}\n")
    parts.append(f"## Streams, ms\n\n{_streams(comparison)}\n")
    parts.append(f"## Start and resident memory\n\n{_memory(comparison)}\n")
    return "\n".join(parts)


def _references(comparison: Comparison) -> list[str]:
    return [name for name in REFERENCES if name in comparison.faces]


def _errors(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield who failed at what, and how."""
    for row in comparison.rows:
        if what := sum((Counter(each.report.errors) for each in row.rounds), Counter[str]()):
            said = ", ".join(f"{count} of {error}" for error, count in what.items())
            yield row.face, f"errors at {row.scenario.name}: {said}"


def _costs(comparison: Comparison) -> str:
    def cell(face: str, scenario: str) -> str:
        row = comparison.find(face, scenario)
        failed = f" ({row.errors} errors)" if row and row.errors else ""
        return number(row.cpu_us if row else None, 0) + failed

    return _grid(
        comparison, [[face, *(cell(face, name) for name in comparison.scenarios)] for face in comparison.faces]
    )


def _ratios(comparison: Comparison, to: str) -> str:
    names = comparison.scenarios
    rows = [[face, *(number(comparison.ratio(face, name, to)) for name in names)] for face in comparison.proxies]
    return _grid(comparison, rows)


def _grid(comparison: Comparison, rows: Sequence[Sequence[str]]) -> str:
    return table(["proxy", *comparison.scenarios], rows, words=1)


def _plain(comparison: Comparison) -> str:
    headings = ["at once", "proxy", "requests/s", "p50 ms", "p99 ms", "added p50", "added p99", "errors"]
    return table(headings, [_plain_row(comparison, row) for row in comparison.rows if not row.scenario.streamed])


def _plain_row(comparison: Comparison, row: Row) -> list[str]:
    cells = [row.scenario.name, row.face, number(row.per_s, 0 if (row.per_s or 0) > 100 else 1)]
    cells += [number(row.time_ms("total", which)) for which in ("p50", "p99")]
    added = (None if row.face == DIRECT else comparison.added_ms(row, "total", which) for which in ("p50", "p99"))
    return [*cells, *map(number, added), str(row.errors)]


def _streams(comparison: Comparison) -> str:
    first = ("first token p50", "p99", "added p50", "added p99")
    headings = ["streams", "proxy", "chunks/s", *first, "gap p50", "p99", "max", "stalls", "errors"]
    return table(headings, [_stream_row(comparison, row) for row in comparison.rows if row.scenario.streamed])


def _stream_row(comparison: Comparison, row: Row) -> list[str]:
    cells = [number(row.time_ms("first_token", which)) for which in ("p50", "p99")]
    proxy = row.face != DIRECT
    cells += [number(comparison.added_ms(row, "first_token", which) if proxy else None) for which in ("p50", "p99")]
    cells += [number(row.time_ms("gap", which), 1) for which in ("p50", "p99", "max")]
    return [row.scenario.name, row.face, number(row.per_s, 0), *cells, str(row.stalls), str(row.errors)]


def _memory(comparison: Comparison) -> str:
    rows = []
    for face, memory in comparison.memory.items():
        peak = max((row.peak_bytes for row in comparison.of(face) if row.peak_bytes), default=None)
        sizes = [megabytes(size) for size in (memory.idle_bytes, peak, memory.after_bytes)]
        rows.append([face, number(memory.start_s), *sizes, number(comparison.saturation(face), 0)])
    return table(["proxy", "start s", "idle MB", "most under load", "after", "most requests/s"], rows, words=1)


def _targets(targets: Sequence[Target]) -> str:
    def row(each: Target) -> list[str]:
        return [each.figure, each.aim, each.verdict, number(each.value), number(each.limit), number(each.share)]

    return table(["figure", "at most", "", "trillm", "limit", "of the limit"], [row(each) for each in targets], words=3)
