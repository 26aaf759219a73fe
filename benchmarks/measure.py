"""One measurement: a load on one face, and what the processes cost meanwhile; and many of them, interleaved."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property

from attrs import define, field, frozen

from benchmarks.faces import Face
from benchmarks.processes import Cost
from trillm.bench.asks import Kind, build_asks
from trillm.bench.load import Load, run_load
from trillm.bench.tally import Report, Spread, Tally

#: The 99th percentile of fewer times than these is the chance of one of them.
FEWEST_FOR_P99 = 50

#: What 500 streams at once take through a slow proxy is no error.
PATIENCE_S = 40.0


@frozen
class Plan:
    """What is measured.

    Args:
        kinds: of requests.
        concurrency: requests at once.
        rounds: how often each is measured; the faces take turns.
        seconds: how long is counted, each time.
        warmup_s: before that, each time.
    """

    kinds: Sequence[Kind] = (Kind.PLAIN, Kind.STREAM)
    concurrency: Sequence[int] = (1, 10, 50, 100, 200, 500)
    rounds: int = 3
    seconds: float = 2.0
    warmup_s: float = 1.0


@define
class Sample:
    """Everything that was measured of one face under one load.

    Args:
        face: its name.
        kind: of the requests.
        connections: requests at once.
        tally: of all rounds.
        cpu_s: of the face's processes meanwhile; None where that cannot be known.
        load_cpu_s: of the load generator meanwhile.
    """

    face: str
    kind: Kind
    connections: int
    tally: Tally = field(factory=Tally)
    cpu_s: float | None = 0.0
    load_cpu_s: float = 0.0

    def add(self, tally: Tally, cpu_s: float | None, load_cpu_s: float) -> None:
        """Add a round."""
        self.tally.add(tally)
        self.cpu_s = None if self.cpu_s is None or cpu_s is None else self.cpu_s + cpu_s
        self.load_cpu_s += load_cpu_s

    @property
    def unit(self) -> str:
        """What the work is counted in."""
        return "chunk" if self.kind is Kind.STREAM else "request"

    @property
    def units(self) -> int:
        """How many of these were done."""
        return self.tally.chunks if self.kind is Kind.STREAM else self.tally.requests

    @property
    def per_s(self) -> float:
        """How many per second."""
        return self.units / self.tally.seconds if self.tally.seconds else 0.0

    def per_unit_us(self, cpu_s: float | None) -> float | None:
        """Return CPU time for each piece of work, in microseconds."""
        return cpu_s * 1e6 / self.units if cpu_s is not None and self.units else None

    @cached_property
    def report(self) -> Report:
        """The figures of all rounds together, to be asked for when they are over: it sorts all times."""
        return self.tally.report()

    def time_ms(self, what: str, percentile: str) -> float | None:
        """Return a time, as in ``time_ms("first_token", "p99")``; None if too few were taken."""
        spread: Spread | None = getattr(self.report, what)
        if spread is None or (percentile == "p99" and spread.count < FEWEST_FOR_P99):
            return None
        time_ms: float = getattr(spread, percentile)
        return time_ms


async def measure_all(plan: Plan, faces: Sequence[Face], progress: Callable[[str], None]) -> list[Sample]:
    """Measure every face under every load. A load's faces take turns, so that all meet the same weather."""
    samples: list[Sample] = []
    total = len(plan.kinds) * len(plan.concurrency)
    for kind in plan.kinds:
        for connections in plan.concurrency:
            row = [Sample(face.name, kind, connections) for face in faces]
            for _ in range(plan.rounds):
                for face, sample in zip(faces, row, strict=True):
                    await _measure(plan, face, sample)
            samples += row
            done = len(samples) // len(faces)
            progress(f"[{done}/{total}] {kind} {connections:4d} at once: " + ", ".join(map(_briefly, row)))
    return samples


async def _measure(plan: Plan, face: Face, sample: Sample) -> None:
    costs: list[tuple[Cost | None, float]] = []

    def take() -> None:
        costs.append((face.server.cost(), time.process_time()))

    asks = build_asks(face.target, sample.kind)
    load = Load(face.target.origin, asks, sample.connections, plan.seconds, plan.warmup_s, patience_s=PATIENCE_S)
    tally = await run_load(load, at_edges=take)
    (before, load_before), (after, load_after) = costs
    cpu_s = after.cpu_s - before.cpu_s if before and after else None
    sample.add(tally, cpu_s, load_after - load_before)


def _briefly(sample: Sample) -> str:
    errors = f" ({sample.tally.errors.total()} errors)" if sample.tally.errors else ""
    return f"{sample.face} {sample.per_s:.0f} {sample.unit}s/s{errors}"
