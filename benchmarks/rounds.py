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
from trillm.bench.asks import Kind
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
        before_bytes: resident memory of the proxy's processes before the first connection of this round.
        peak_bytes: the most it was since then.
        stalls: gaps longer than three of the sender's.
        report: times and errors.
    """

    units: int
    per_s: float
    cpu_us: float | None
    load_cpu_us: float | None
    before_bytes: int | None
    peak_bytes: int | None
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
    def peak_bytes(self) -> int | None:
        """The most resident memory there was."""
        return max((each.peak_bytes for each in self.rounds if each.peak_bytes), default=None)

    @property
    def grown_bytes(self) -> int | None:
        """That, over what there was before the first round."""
        before = self.rounds[0].before_bytes if self.rounds else None
        return self.peak_bytes - before if self.peak_bytes is not None and before is not None else None

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


async def measure(scenarios: Sequence[Scenario], faces: Sequence[Face], progress: Callable[[str], None]) -> list[Row]:
    """Measure each of the scenarios with its faces in turn: those that take so many connections.

    Args:
        scenarios: what to ask.
        faces: who is asked.
        progress: is told a line before each round, and what was found after the last.
    """
    rows: list[Row] = []
    for number, scenario in enumerate(scenarios, 1):
        able = [face for face in faces if scenario.connections <= face.most_connections]
        new = [Row(face.name, scenario) for face in able]
        name = f"[{number}/{len(scenarios)}] {scenario.name}"
        for turn in range(scenario.rounds):
            progress(f"{name}: round {turn + 1} of {scenario.rounds}")
            for face, row in zip(able, new, strict=True):
                if turn < face.most_rounds:
                    row.rounds.append(await measure_once(scenario, face))
        progress(f"{name}: " + ", ".join(map(_briefly, new)))
        rows += new
    return rows


async def measure_once(scenario: Scenario, face: Face) -> Round:
    """Put a face under a load once."""
    costs: list[tuple[Cost | None, float]] = []

    def take() -> None:
        costs.append((face.server.cost(), time.process_time()))

    unloaded = face.server.cost()
    face.server.forget_peak()
    asks = scenario.asks(face.embedder if scenario.kind is Kind.EMBEDDINGS else face.target)
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
        before_bytes=unloaded.rss_bytes if unloaded else None,
        peak_bytes=after.peak_bytes if after else None,
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
