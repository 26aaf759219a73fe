"""Fails on a gross regression of trillm's data path: by ratios within one run, never by absolute times.

    python -m benchmarks.regression     under a minute, twice that if a bound is broken; exit code 1 if twice

The bounds are about twice what was measured when they were set, so that a busy machine does not break them and a
mistake of a factor does. What only drifts is for :mod:`benchmarks.peers` to show.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import evolve, frozen

from benchmarks.concurrency import say
from benchmarks.faces import DIRECT
from benchmarks.peerlist import APP, LANE, PEERS
from benchmarks.peers import open_peers
from benchmarks.processes import raise_file_limit
from benchmarks.rounds import Row, measure
from benchmarks.scenarios import EMBEDDINGS, IMAGE, plain, streamed
from benchmarks.tables import number, table

LOADS = tuple(
    evolve(each, seconds=0.8, rounds=2, warmup_s=0.2)
    for each in (plain(50), streamed(50), streamed(100), EMBEDDINGS, evolve(IMAGE, name="image"))
)


@frozen
class Bound:
    """A ratio of two CPU costs and what it must stay below.

    Args:
        over: face and scenario.
        under: of the divisor.
        limit: the bound.
    """

    over: tuple[str, str]
    under: tuple[str, str]
    limit: float

    def __str__(self) -> str:
        return " / ".join(f"{face}, {scenario}" for face, scenario in (self.over, self.under))


# The upstream is a small server of the same language and parser: what it costs says how fast this machine is now.
BOUNDS = (
    Bound((LANE, "plain 50"), (APP, "plain 50"), 0.5),
    Bound((LANE, "embeddings 50"), (APP, "embeddings 50"), 0.6),
    Bound((LANE, "stream 50"), (APP, "stream 50"), 0.9),
    Bound((LANE, "image"), (APP, "image"), 1.0),
    Bound((LANE, "plain 50"), (DIRECT, "plain 50"), 55.0),
    Bound((LANE, "stream 50"), (DIRECT, "stream 50"), 6.0),
    Bound((LANE, "stream 100"), (LANE, "stream 50"), 1.4),
    Bound((LANE, "image"), (DIRECT, "image"), 2.0),
)


async def run() -> list[Row]:
    """Measure both faces of trillm and the upstream."""
    raise_file_limit()
    peers = [peer for peer in PEERS if peer.name in (LANE, APP)]
    missing: list[str] = []
    with TemporaryDirectory() as folder:
        async with open_peers(peers, Path(folder), missing) as faces:
            if missing:
                raise SystemExit(f"does not start: {', '.join(missing)}")
            return await measure(LOADS, faces, say)


def verdicts(rows: Sequence[Row]) -> Iterator[tuple[Bound, float | None]]:
    """Yield every bound with the ratio that was measured; None if there was nothing to divide."""
    costs = {(row.face, row.scenario.name): row.cpu_us for row in rows}
    for bound in BOUNDS:
        over, under = costs.get(bound.over), costs.get(bound.under)
        yield bound, over / under if over is not None and under else None


def judge(rows: Sequence[Row]) -> bool:
    """Say what was found; tell whether all bounds are held and nothing went wrong."""
    found = list(verdicts(rows))
    broken = [bound for bound, ratio in found if ratio is None or ratio >= bound.limit]
    cells = [[str(bound), "broken" if bound in broken else "held", number(r), f"{bound.limit:g}"] for bound, r in found]
    print(table(["CPU", "", "ratio", "below"], cells), flush=True)
    errors = sum(row.errors for row in rows)
    if errors:
        print(f"{errors} requests went wrong", flush=True)
    return not broken and not errors


def main() -> int:
    """Run, and once more if a bound was broken: another program may have had its busy minute. Return an exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    return 0 if any(judge(trio.run(run)) for _ in range(2)) else 1


if __name__ == "__main__":
    sys.exit(main())
