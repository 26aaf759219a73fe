"""What trillm's memory is after 2,000 requests and after 20,000: it should be the same.

    python -m benchmarks.memory [--requests 2000 20000] [--connections 50]

A third each of plain chats, streamed chats and embeddings, through trillm, to an upstream on this machine.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.environment import Environment
from benchmarks.faces import TRILLM, Face, open_faces
from benchmarks.processes import raise_file_limit
from trillm.bench.asks import Kind, build_asks
from trillm.bench.load import Load, run_load

KINDS = (Kind.PLAIN, Kind.STREAM, Kind.EMBEDDINGS)
MOST_S = 600.0


async def run(counts: list[int], connections: int) -> list[int]:
    """Return the resident bytes after each of so many requests, counted from the start."""
    raise_file_limit()
    with TemporaryDirectory() as folder:
        async with open_faces(Path(folder), tokens=8, gap_s=0.0, naive=False) as faces:
            face = next(face for face in faces if face.name == TRILLM)
            sizes, done = [], 0
            for count in counts:
                done += await _ask(face, count - done, connections)
                sizes.append(_rss(face))
                print(f"after {done:6,d} requests: {sizes[-1] / 1e6:.1f} MB", flush=True)
            return sizes


async def _ask(face: Face, requests: int, connections: int) -> int:
    """Send that many requests, a few more at the end; return how many there were."""
    asks = tuple(ask for kind in KINDS for ask in build_asks(face.target, kind))
    load = Load(face.target.origin, asks, connections, seconds=MOST_S, warmup_s=0, max_requests=requests)
    tally = await run_load(load)
    if tally.errors or tally.requests < requests:
        raise SystemExit(f"only {tally.requests} of {requests} requests were answered: {dict(tally.errors)}")
    return tally.requests


def _rss(face: Face) -> int:
    cost = face.server.cost()
    if cost is None:
        raise SystemExit("not available: this system has no /proc")
    return cost.rss_bytes


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, nargs=2, default=[2_000, 20_000], metavar="N")
    parser.add_argument("--connections", type=int, default=50, metavar="N", help="requests at once")
    args = parser.parse_args()
    print(Environment.now(), file=sys.stderr)
    early, late = trio.run(run, args.requests, args.connections)
    print(f"ratio: {late / early:.3f}")


if __name__ == "__main__":
    main()
