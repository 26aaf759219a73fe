"""trillm beside its peers: the same load on each in turn, and what it cost them.

    python -m benchmarks.peers --all                 all peers; best on a machine that does nothing else
    python -m benchmarks.peers                       without LiteLLM, which takes minutes to install
    python -m benchmarks.peers --quick               one short round of each, none of 1,000 at once
    python -m benchmarks.peers --only nginx,vllm-router --scenarios plain,stream

Each peer is a process of its own before the same upstream. Those that are missing are installed where possible: those
of PyPI and npm into folders under benchmarks/results/.peers/, nginx and haproxy by apt-get if this runs as root. What
cannot be had is named and left out. Tables go to standard output and, with JSON and a picture, to benchmarks/results/.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import asdict

from benchmarks import bars, peertables, scenarios
from benchmarks.comparison import Comparison, Memory
from benchmarks.concurrency import RESULTS, say
from benchmarks.environment import Environment
from benchmarks.faces import DIRECT, Face
from benchmarks.peer import Peer, Setting
from benchmarks.peerlist import APP, LANE, PEERS
from benchmarks.processes import NotAnswering, free_port, raise_file_limit, running, running_program
from benchmarks.rounds import measure
from benchmarks.scenarios import Scenario
from benchmarks.targets import targets
from benchmarks.upstream import MODEL


@asynccontextmanager
async def open_peers(peers: Sequence[Peer], folder: Path, missing: list[str]) -> AsyncIterator[list[Face]]:
    """Start an upstream and the peers before it.

    Args:
        peers: who is wanted.
        folder: for configurations and logs.
        missing: gets the names of those that cannot be had or do not start.

    Yields:
        Every face, the upstream itself first.
    """
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running(DIRECT, ["benchmarks.upstream", "{port}"], folder, MODEL))
        faces = [Face(DIRECT, upstream)]
        for number, peer in enumerate(peers):
            own = folder / str(number)
            own.mkdir()
            face = await _start(stack, peer, Setting(own, free_port(), upstream.url))
            if face is None:
                missing.append(peer.name)
            else:
                faces.append(face)
        yield faces


async def _start(stack: AsyncExitStack, peer: Peer, setting: Setting) -> Face | None:
    program = await trio.to_thread.run_sync(peer.find, say)
    if program is None:
        say(f"{peer.name}: not here and cannot be installed")
        return None
    started = peer.prepare(program, setting)
    program_runs = running_program("output", list(started.arguments), setting.folder, started.target, peer.start_s)
    try:
        server = await stack.enter_async_context(program_runs)
    except NotAnswering as exc:
        say(f"{peer.name}: {exc}")
        return None
    say(f"{peer.name}: answers after {server.start_s:.2f} s")
    return Face(peer.name, server, started.embedding_model, peer.most_connections, peer.most_rounds)


async def run(peers: Sequence[Peer], loads: Sequence[Scenario]) -> Comparison:
    """Start everything, measure, end everything."""
    environment = Environment.now()
    say(str(environment))
    raise_file_limit()
    missing: list[str] = []
    with TemporaryDirectory() as folder:
        async with open_peers(peers, Path(folder), missing) as faces:
            if LANE in missing:
                raise SystemExit("trillm itself does not start")
            idle = {face.name: _rss(face) for face in faces}
            rows = await measure(loads, faces, say)
            memory = {face.name: Memory(face.server.start_s, idle[face.name], _rss(face)) for face in faces}
    there = [peer for peer in peers if peer.name not in missing]
    notes = {peer.name: peer.note for peer in there if peer.note}
    command = " ".join(["python -m benchmarks.peers", *sys.argv[1:]])
    return Comparison(environment, command, _versions(there), notes, missing, rows, memory)


def _rss(face: Face) -> int | None:
    cost = face.server.cost()
    return cost.rss_bytes if cost else None


def _versions(peers: Sequence[Peer]) -> dict[str, str]:
    return {peer.name: peer.version or _asked(peer) for peer in peers if peer.name not in (LANE, APP)}


def _asked(peer: Peer) -> str:
    """Return what ``-v`` says, where that is how a program tells its version."""
    if not peer.tells_version or (program := peer.find(say)) is None:
        return ""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else ""


def write(comparison: Comparison, folder: Path) -> None:
    """Write JSON, Markdown and SVG under the date of the run, and the Markdown to standard output."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = comparison.environment.stem("peers")
    verdicts = list(targets(comparison))
    text = peertables.markdown(comparison, verdicts)
    judged = [{**asdict(each), "verdict": each.verdict, "share_of_limit": each.share} for each in verdicts]
    everything = {**comparison.to_json(), "targets": judged}
    (folder / f"{stem}.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    (folder / f"{stem}.md").write_text(text, encoding="utf-8")
    (folder / f"{stem}.svg").write_text(bars.draw_comparison(comparison), encoding="utf-8")
    print(text)
    say(f"Written: {folder / stem}.json, .md, .svg")


def wanted(only: Sequence[str], *, everyone: bool) -> list[Peer]:
    """Return trillm and the peers asked for; those that take minutes to install only if named or all are wanted."""
    unknown = set(only) - {peer.name for peer in PEERS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(unknown)}; there are {', '.join(peer.name for peer in PEERS)}")
    if only:
        return [peer for peer in PEERS if peer.name in (LANE, APP, *only)]
    return [peer for peer in PEERS if everyone or not peer.optional]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each, none of 1,000 at once")
    parser.add_argument("--all", action="store_true", help="with those that take minutes to install")
    parser.add_argument("--only", type=_names, default=[], metavar="PEER,...", help="these beside trillm")
    parser.add_argument("--scenarios", type=_names, default=[], metavar="NAME,...", help="whose names begin so")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    args = parser.parse_args()
    loads = scenarios.chosen(args.scenarios, scenarios.QUICK if args.quick else scenarios.FULL)
    write(trio.run(run, wanted(args.only, everyone=args.all), loads), args.output)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


if __name__ == "__main__":
    main()
