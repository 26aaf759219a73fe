"""A comparison with peers as Markdown, for people."""

from collections.abc import Sequence

from benchmarks.comparison import Comparison
from benchmarks.faces import DIRECT
from benchmarks.peerlist import NGINX, VLLM
from benchmarks.rounds import Row
from benchmarks.tables import NOTHING, megabytes, number, table

METHOD = """Every figure is the median of its rounds; in each round the proxies took turns under the same load. CPU is
user and system time of a proxy's whole process tree. Load generator, upstream and proxy share the machine, so rates and
times are of this machine in this hour; ratios last longer."""


def markdown(comparison: Comparison) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items() if version)
    missing = f"\n\nNot measured: {', '.join(comparison.missing)}." if comparison.missing else ""
    parts = [f"# trillm beside its peers\n\n{comparison.environment}\n\nPeers: {versions}.{missing}\n\n{METHOD}\n"]
    parts.append(f"## CPU µs per request, per chunk of streams\n\n{_costs(comparison)}\n")
    parts += [f"## The same, as multiples of {to}'s\n\n{_ratios(comparison, to)}\n" for to in _references(comparison)]
    parts.append(f"## Plain chats\n\n{_plain(comparison)}\n")
    parts.append(f"## Streams, ms\n\n{_streams(comparison)}\n")
    parts.append(f"## Start and resident memory\n\n{_memory(comparison)}\n")
    parts.append(f"## Targets of trillm's lane\n\n{_targets(comparison)}\n")
    return "\n".join(parts)


def _references(comparison: Comparison) -> list[str]:
    return [name for name in (NGINX, VLLM) if name in comparison.faces]


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
    headings = ["streams", "proxy", "chunks/s", "first token p50", "p99", "gap p50", "p99", "max", "stalls", "errors"]
    return table(headings, [_stream_row(row) for row in comparison.rows if row.scenario.streamed])


def _stream_row(row: Row) -> list[str]:
    times = [("first_token", "p50"), ("first_token", "p99"), ("gap", "p50"), ("gap", "p99"), ("gap", "max")]
    cells = [number(row.time_ms(what, which), 1) for what, which in times]
    return [row.scenario.name, row.face, number(row.per_s, 0), *cells, str(row.stalls), str(row.errors)]


def _memory(comparison: Comparison) -> str:
    rows = []
    for face, memory in comparison.memory.items():
        peak = max((row.rss_bytes for row in comparison.of(face) if row.rss_bytes), default=None)
        sizes = [megabytes(size) for size in (memory.idle_bytes, peak, memory.after_bytes)]
        rows.append([face, number(memory.start_s), *sizes, number(comparison.saturation(face), 0)])
    return table(["proxy", "start s", "idle MB", "under load", "after", "most requests/s"], rows, words=1)


def _targets(comparison: Comparison) -> str:
    rows = [[each.name, each.verdict, number(each.value), number(each.limit)] for each in comparison.targets()]
    return table(["at most", "", "trillm", "limit"], rows or [[NOTHING] * 4])
