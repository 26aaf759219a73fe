"""Rounds: every face under one load in turn, again and again, and the medians of what each round found.

A round's figures are reduced at once to a few numbers, so that thousands of streams can be measured all day. Medians
over rounds are quoted since one round may meet another program's busy second.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from attrs import define, field, frozen

from benchmarks.faces import Face
from benchmarks.processes import Cost
from benchmarks.scenarios import Scenario
from trillm.bench.load import Load, run_load
from trillm.bench.tally import Report, Spread, Tally

#: The 99th percentile of fewer times than these is the chance of one of them.
FEWEST_FOR_P99 = 50


@frozen
class Round:
    """What one round found.

    Args:
        units: chunks or requests that were served.
        per_s: of these.
        cpu_us: of the proxy's processes for each; None where that cannot be known.
        load_cpu_us: of the load generator for each.
        rss_bytes: of the proxy's processes at the end, still under load.
        stalls: gaps longer than three of the sender's.
        report: times and errors.
    """

    units: int
    per_s: float
    cpu_us: float | None
    load_cpu_us: float | None
    rss_bytes: int | None
    stalls: int
    report: Report


@define
class Row:
    """One face under one load."""

    face: str
    scenario: Scenario
    rounds: list[Round] = field(factory=list)

    @property
    def errors(self) -> int:
        """Requests that went wrong, in all rounds."""
        return sum(sum(each.report.errors.values()) for each in self.rounds)

    @property
    def per_s(self) -> float | None:
        """Chunks or requests per second."""
        return _median(each.per_s for each in self.rounds)

    @property
    def cpu_us(self) -> float | None:
        """Of the proxy, for each chunk or request."""
        return _median(each.cpu_us for each in self.rounds)

    @property
    def load_cpu_us(self) -> float | None:
        """Of the load generator."""
        return _median(each.load_cpu_us for each in self.rounds)

    @property
    def rss_bytes(self) -> int | None:
        """The most there was."""
        return max((each.rss_bytes for each in self.rounds if each.rss_bytes), default=None)

    @property
    def stalls(self) -> int:
        """Of all rounds."""
        return sum(each.stalls for each in self.rounds)

    def time_ms(self, what: str, which: str) -> float | None:
        """Return a time, as in ``time_ms("first_token", "p99")``; None if too few were taken."""
        return _median(_time(getattr(each.report, what), which) for each in self.rounds)


def _time(spread: Spread | None, which: str) -> float | None:
    if spread is None or (which == "p99" and spread.count < FEWEST_FOR_P99):
        return None
    time_ms: float = getattr(spread, which)
    return time_ms


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


async def measure(
    scenarios: Sequence[Scenario], faces: Callable[[Scenario], Sequence[Face]], progress: Callable[[str], None]
) -> list[Row]:
    """Measure each of the scenarios with its faces in turn.

    Args:
        scenarios: what to ask.
        faces: which of them are asked that.
        progress: is told a line after each.
    """
    rows: list[Row] = []
    for number, scenario in enumerate(scenarios, 1):
        able = faces(scenario)
        new = [Row(face.name, scenario) for face in able]
        for _ in range(scenario.rounds):
            for face, row in zip(able, new, strict=True):
                row.rounds.append(await measure_once(scenario, face))
        progress(f"[{number}/{len(scenarios)}] {scenario.name}: " + ", ".join(map(_briefly, new)))
        rows += new
    return rows


async def measure_once(scenario: Scenario, face: Face) -> Round:
    """Put a face under a load once."""
    costs: list[tuple[Cost | None, float]] = []

    def take() -> None:
        costs.append((face.server.cost(), time.process_time()))

    asks = scenario.asks(face.target)
    origin, times = face.target.origin, (scenario.seconds, scenario.warmup_s)
    load = Load(origin, asks, scenario.connections, *times, patience_s=scenario.patience_s)
    tally = await run_load(load, at_edges=take)
    (before, load_before), (after, load_after) = costs
    units = tally.chunks if scenario.streamed else tally.requests
    return Round(
        units=units,
        per_s=units / tally.seconds,
        cpu_us=_us(after.cpu_s - before.cpu_s, units) if before and after else None,
        load_cpu_us=_us(load_after - load_before, units),
        rss_bytes=after.rss_bytes if after else None,
        stalls=_stalls(tally, scenario),
        report=tally.report(),
    )


def _us(seconds: float, units: int) -> float | None:
    return seconds * 1e6 / units if units else None


def _stalls(tally: Tally, scenario: Scenario) -> int:
    if scenario.pace is None or not scenario.streamed:
        return 0
    longest_s = scenario.pace.gap_ms * 3 / 1000
    return sum(gap_s > longest_s for gap_s in tally.gap_s)


def _briefly(row: Row) -> str:
    cost = "" if row.cpu_us is None else f" {row.cpu_us:.0f} µs"
    return row.face + cost + (f" ({row.errors} errors)" if row.errors else "")
