"""How trillm's cost grows: with streams, requests, servers and the size of a stream's frames.

    python -m benchmarks.scale            about four minutes; best on a machine that does nothing else
    python -m benchmarks.scale --quick    one round of each, two minutes

Loads are paced so that the machine is not saturated; where it is, the table says how much of the load was served. A
line is fitted through each: a slope of nothing means that only work costs, not the number of those who wait. With the
number of streams the cost of a chunk may grow by a fifth; exit code 1 if it grows by more.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from attrs import asdict, evolve, frozen

from benchmarks.concurrency import RESULTS, say
from benchmarks.environment import Environment
from benchmarks.faces import DIRECT, Face, write_registry
from benchmarks.fits import Fit
from benchmarks.processes import raise_file_limit, running
from benchmarks.rounds import Row, measure_once
from benchmarks.scenarios import Pace, Scenario, plain, streamed
from benchmarks.tables import number, table
from benchmarks.upstream import MODEL

CHUNKS_PER_S = 5_000
SERVERS = (1, 10, 50, 200)
#: A stream of so many tokens does not end while it is measured: what is measured is chunks alone, no requests.
ENDLESS = 1_000_000
SETTLE_S = 0.5
#: CPU per chunk must not grow with the number of streams: what is left is noise, and caches.
MOST_GROWTH = 0.2


@frozen
class Point:
    """One measurement of an axis.

    Args:
        x: where on the axis.
        face: who is asked.
        scenario: what.
        offered_per_s: chunks or requests that it should come to; None: as many as it can.
    """

    x: int
    face: Face
    scenario: Scenario
    offered_per_s: float | None = None


@frozen
class Axis:
    """Something that grows.

    Args:
        name: what, as a heading.
        unit: of its costs.
        points: smallest x first.
        most_growth: the most that the line may gain from its first to its last; None: there is no rule.
    """

    name: str
    unit: str
    points: Sequence[Point]
    most_growth: float | None = None


@asynccontextmanager
async def open_trillms(folder: Path) -> AsyncIterator[dict[int, Face]]:
    """Start an upstream, and trillm with as many servers in its registry as each key says; all are that upstream."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running(DIRECT, ["benchmarks.upstream", "{port}"], folder, MODEL))
        faces = {}
        for count in SERVERS:
            own = folder / str(count)
            own.mkdir()
            registry = write_registry(own, upstream.url, count)
            command = ["trillm", "serve", "--no-discover", "--port", "{port}", "--config", str(registry)]
            server = await stack.enter_async_context(running("trillm", command, own, MODEL))
            faces[count] = Face(f"trillm, {count} servers", server)
        yield faces


def build_axes(faces: dict[int, Face]) -> list[Axis]:
    """Return everything that is measured."""
    one = faces[SERVERS[0]]
    streams = [(count, count * 1000 // CHUNKS_PER_S) for count in (50, 100, 250, 500, 1000, 2000)]
    frames = (200, 1_000, 4_000, 16_000, 64_000)
    paced = Pace(100)
    return [
        Axis(
            f"streams, together {CHUNKS_PER_S} chunks/s",
            "µs/chunk",
            [Point(count, one, endless(count, Pace(gap, ENDLESS)), CHUNKS_PER_S) for count, gap in streams],
            MOST_GROWTH,
        ),
        Axis(
            "requests/s",
            "µs/request",
            [Point(10 * n, one, evolve(plain(n), pace=paced), 10.0 * n) for n in (10, 30, 100, 200, 400, 800)],
        ),
        Axis("servers in the registry", "µs/request", [Point(n, face, plain(50)) for n, face in faces.items()]),
        Axis(
            "bytes in a frame",
            "µs/chunk",
            [Point(size, one, endless(50, Pace(50, ENDLESS, size)), 1_000.0) for size in frames],
        ),
    ]


def endless(streams: int, pace: Pace) -> Scenario:
    """Return streams that are left when they were measured, not waited for."""
    return evolve(streamed(streams), pace=pace, warmup_s=1.0 + streams / 300, patience_s=0.0)


async def measure_axis(axis: Axis, rounds: int) -> list[Row]:
    """Measure all points in turn, again and again."""
    rows = [Row(point.face.name, point.scenario) for point in axis.points]
    for _ in range(rounds):
        for point, row in zip(axis.points, rows, strict=True):
            row.rounds.append(await measure_once(point.scenario, point.face))
            await trio.sleep(SETTLE_S)  # streams that were left are another round's cost otherwise
    return rows


@frozen
class Found:
    """What was measured along an axis.

    Args:
        axis: which.
        rows: one for each of its points.
    """

    axis: Axis
    rows: Sequence[Row]

    @property
    def fit(self) -> Fit | None:
        """The line through the costs against x as it was offered; None if there were not two."""
        costs = [
            (p.x, row.cpu_us) for p, row in zip(self.axis.points, self.rows, strict=True) if row.cpu_us is not None
        ]
        return Fit.of(*zip(*costs, strict=True)) if len(costs) > 1 else None

    @property
    def verdict(self) -> str | None:
        """Whether it grows no more than it may; None where there is no rule, or no line."""
        growth, most = self.fit.growth if self.fit else None, self.axis.most_growth
        return None if growth is None or most is None else "met" if growth <= most else "missed"

    def to_json(self) -> dict[str, Any]:
        """Return the points, the line and the verdict."""
        points = [
            {"x": point.x, "offered_per_s": point.offered_per_s, "per_s": row.per_s, "cpu_us": row.cpu_us}
            for point, row in zip(self.axis.points, self.rows, strict=True)
        ]
        fit = self.fit
        line = {**asdict(fit), "growth": fit.growth} if fit else None
        return {"axis": self.axis.name, "unit": self.axis.unit, "points": points, "fit": line, "verdict": self.verdict}

    def __str__(self) -> str:
        """A table and a sentence on how it grows."""
        lines = [_line(point, row) for point, row in zip(self.axis.points, self.rows, strict=True)]
        headings = [self.axis.name, f"CPU {self.axis.unit}", "served/s", "of what was offered", "p99 ms"]
        return f"## {self.axis.name}\n\n{table(headings, lines, words=0)}\n\n{self._sentence()}"

    def _sentence(self) -> str:
        fit = self.fit
        if fit is None:
            return ""
        growth = "" if fit.growth is None else f", {fit.growth:+.0%} from the first to the last"
        line = f"{fit.intercept:.1f} + {fit.slope * 1000:.3f} per thousand {self.axis.unit}"
        rule = f" It may grow by {self.axis.most_growth:.0%}: **{self.verdict}**." if self.verdict else ""
        return f"Fitted: {line}{growth} (R² {fit.explained:.2f}).{rule}\n"


def _line(point: Point, row: Row) -> list[str]:
    share = row.per_s / point.offered_per_s if point.offered_per_s and row.per_s is not None else None
    time_ms = row.time_ms("gap" if point.scenario.streamed else "total", "p99")
    served = number(row.per_s, 0)
    return [str(point.x), number(row.cpu_us, 1), served, "-" if share is None else f"{share:.0%}", number(time_ms, 1)]


async def run(environment: Environment, rounds: int) -> list[Found]:
    """Measure everything."""
    say(str(environment))
    raise_file_limit()
    found: list[Found] = []
    with TemporaryDirectory() as folder:
        async with open_trillms(Path(folder)) as faces:
            for axis in build_axes(faces):
                found.append(Found(axis, await measure_axis(axis, rounds)))
                say(str(found[-1]))
    return found


def main() -> int:
    """Read the command line, run, write what was found; return 1 if something grows that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    environment = Environment.now()
    found = trio.run(run, environment, 1 if args.quick else 3)
    text = "\n".join([f"# How trillm's cost grows\n\n{environment}\n", *map(str, found)])
    everything = {"environment": asdict(environment), "axes": [each.to_json() for each in found]}
    stem = args.output / environment.stem("scale")
    args.output.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    print(text)
    return 1 if any(each.verdict == "missed" for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
