"""What trillm's memory is while requests come and go: after the first tenth of them it should stay as it is.

    python -m benchmarks.memory                         20,000 requests, half a minute
    python -m benchmarks.memory --requests 1000000      as many as the target names, under ten minutes

A third each of plain chats, streamed chats and embeddings, through trillm with everything on, to an upstream on this
machine. Exit code 1 if memory did not stay. A table goes to standard output and, with JSON, to benchmarks/results/.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import asdict, frozen

from benchmarks.concurrency import RESULTS, say
from benchmarks.environment import Environment
from benchmarks.faces import Face
from benchmarks.peerlist import LANE, PEERS
from benchmarks.peers import open_peers
from benchmarks.processes import raise_file_limit
from benchmarks.scenarios import Pace
from benchmarks.tables import megabytes, number, table
from trillm.bench.asks import Ask, Kind, build_asks
from trillm.bench.load import Load, run_load

STEPS = 10
#: More than this above what it was after the first step is growth.
TOLERANCE = 0.05
#: Short streams: this is about requests.
PACE = Pace(gap_ms=0, tokens=4)
MOST_S = 3_600.0


@frozen
class Sample:
    """Memory at one moment.

    Args:
        requests: that were answered so far.
        seconds: since the first of them.
        rss_bytes: resident, of the whole process tree.
    """

    requests: int
    seconds: float
    rss_bytes: int


def growth(samples: Sequence[Sample]) -> float:
    """Return what memory gained, from the first sample to the largest later one, as a share of the first."""
    first, *later = (sample.rss_bytes for sample in samples)
    return max(later) / first - 1


async def run(requests: int, connections: int) -> list[Sample]:
    """Send so many requests and return what memory was after each tenth."""
    raise_file_limit()
    missing: list[str] = []
    lane = [peer for peer in PEERS if peer.name == LANE]
    with TemporaryDirectory() as folder:
        async with open_peers(lane, Path(folder), missing) as faces:
            if missing:
                raise SystemExit("trillm does not start")
            return await _sample(faces[-1], requests, connections)


async def _sample(face: Face, requests: int, connections: int) -> list[Sample]:
    samples: list[Sample] = []
    done, began = 0, time.perf_counter()
    for step in range(1, STEPS + 1):
        done += await _ask(face, requests * step // STEPS - done, connections)
        samples.append(Sample(done, time.perf_counter() - began, _rss(face)))
        say(f"after {done:9,d} requests, {samples[-1].seconds:5.0f} s: {samples[-1].rss_bytes / 1e6:.1f} MB")
    return samples


async def _ask(face: Face, requests: int, connections: int) -> int:
    """Send that many requests, a few more at the end; return how many there were."""
    asks = (*build_asks(face.target, Kind.PLAIN), *_streams(face), *build_asks(face.embedder, Kind.EMBEDDINGS))
    load = Load(face.target.origin, asks, connections, seconds=MOST_S, warmup_s=0, max_requests=requests)
    tally = await run_load(load)
    if tally.errors or tally.requests < requests:
        raise SystemExit(f"only {tally.requests} of {requests} requests were answered: {dict(tally.errors)}")
    return tally.requests


def _streams(face: Face) -> tuple[Ask, ...]:
    return (
        Ask.build(
            face.target, "/chat/completions", {"messages": [{"role": "user", "content": str(PACE)}], "stream": True}
        ),
    )


def _rss(face: Face) -> int:
    cost = face.server.cost()
    if cost is None:
        raise SystemExit("not available: this system has no /proc")
    return cost.rss_bytes


def markdown(environment: Environment, samples: Sequence[Sample]) -> str:
    """Return a table and the verdict."""
    rows = [[f"{each.requests:,d}", number(each.seconds, 0), megabytes(each.rss_bytes)] for each in samples]
    gained = growth(samples)
    verdict = "flat" if gained <= TOLERANCE else "grows"
    says = f"{gained:+.1%} from the first of these to the largest later one: {verdict} (at most {TOLERANCE:+.0%})."
    head = f"# Memory of trillm's lane\n\n{environment}\n\n"
    return head + table(["requests", "after s", "resident MB"], rows, words=0) + f"\n\n{says}\n"


def main() -> int:
    """Read the command line, run, say what was found; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="in all (default: 20000)")
    parser.add_argument("--connections", type=int, default=100, metavar="N", help="requests at once (default: 100)")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    environment = Environment.now()
    say(str(environment))
    samples = trio.run(run, args.requests, args.connections)
    text = markdown(environment, samples)
    found = {
        "environment": asdict(environment),
        "samples": [asdict(each) for each in samples],
        "growth": growth(samples),
    }
    stem = args.output / environment.stem("memory")
    args.output.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(text)
    return 1 if growth(samples) > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
