"""What it costs trillm to look after its servers, and how long it takes to discover some.

    python -m benchmarks.probing                   50 servers of mixed kinds, half a minute
    python -m benchmarks.probing --servers 200

The servers answer as recorded ones did, from a process of their own. trillm has nothing else to do meanwhile; what it
costs with no servers is taken off. Exit code 1 if probing takes more than 1 % of a core, or discovery more than a
second.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import frozen

from benchmarks.processes import Cost, Running, free_port, running_program
from tests.support.recorded import Recorded, names, serve_recorded
from trillm.backends.detect import discover
from trillm.bench.asks import Target
from trillm.wire.control import open_control

#: Of a core, for 50 servers.
MOST_SHARE = 0.01
MOST_DISCOVERY_S = 1.0
#: trillm has seen them all by then, and shows it.
SETTLE_S = 6.0
BLACK_HOLES = 5


@frozen
class Found:
    """What was measured.

    Args:
        servers: that were probed.
        probing: share of a core with them, less what trillm takes with none.
        idle: share of a core with none.
        discovery_s: for the slowest of the looks, at ports that answer, are silent, and are closed.
        discovered: servers that the look found.
    """

    servers: int
    probing: float
    idle: float
    discovery_s: float
    discovered: int

    @property
    def kept(self) -> bool:
        """Whether both figures are as they should be."""
        return self.probing <= MOST_SHARE and self.discovery_s <= MOST_DISCOVERY_S

    def __str__(self) -> str:
        """Two sentences."""
        return (
            f"{self.servers} servers: {self.probing:.2%} of a core for probes (at most {MOST_SHARE:.0%}), "
            f"beside {self.idle:.2%} when there are none.\n"
            f"Discovery: {self.discovered} servers in {self.discovery_s:.2f} s with {BLACK_HOLES} ports that accept "
            f"and stay silent (at most {MOST_DISCOVERY_S:g} s)."
        )


async def measure(count: int, seconds: float) -> Found:
    """Measure everything."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        async with running_program(
            "recorded", _again("--serve", str(count)), path, _listening, chats=False
        ) as recorded:
            urls = _urls((path / "recorded.log").read_text())
            assert recorded.target.url == urls[0]
            idle = await _share(path, [], seconds)
            busy = await _share(path, urls, seconds)
    discovery_s, discovered = await _discovery()
    return Found(count, busy - idle, idle, discovery_s, discovered)


async def _share(folder: Path, urls: Sequence[str], seconds: float) -> float:
    """Return the share of a core that a trillm with these servers takes."""
    registry = folder / f"{len(urls)}.json"
    servers = {f"server-{number}": {"url": url} for number, url in enumerate(urls)}
    registry.write_text(json.dumps({"version": 1, "servers": servers}))
    port = free_port()
    command = ["trillm", "serve", "--no-discover", "--port", str(port), "--config", str(registry)]
    target = Target(f"http://127.0.0.1:{port}", "none")
    arguments = [sys.executable, "-m", *command]
    async with running_program(f"trillm-{len(urls)}", arguments, folder, target, chats=False) as trillm:
        await trio.sleep(SETTLE_S)
        await _all_up(target.url, len(urls))
        before = _cost(trillm)
        await trio.sleep(seconds)
        return (_cost(trillm).cpu_s - before.cpu_s) / seconds


async def _all_up(url: str, count: int) -> None:
    async with open_control() as http:
        ready = (await http.get(f"{url}/health/ready")).json()
    if ready["servers_up"] < count:
        raise SystemExit(f"only {ready['servers_up']} of {count} servers are up")


def _cost(server: Running) -> Cost:
    cost = server.cost()
    if cost is None:
        raise SystemExit("what a process costs is only known on Linux")
    return cost


async def _discovery() -> tuple[float, int]:
    """Return the seconds that a look at good, silent and closed ports takes, and how many servers it found."""
    async with trio.open_nursery() as nursery:
        good = await serve_recorded(nursery, "ollama", "vllm_chat", "lmstudio", "tei_rerank", "infinity_prefix")
        silent = await serve_recorded(nursery, *["openai"] * BLACK_HOLES)
        for one in silent:
            one.pause_s = float("inf")
        ports = {f"kind {number}": [one.port] for number, one in enumerate([*good, *silent])}
        ports["nothing"] = [free_port() for _ in range(10)]
        began = trio.current_time()
        async with open_control() as http:
            found = await discover(http, ports=ports)
        took_s = trio.current_time() - began
        nursery.cancel_scope.cancel()
    return took_s, len(found)


async def serve(count: int) -> None:
    """Answer as so many recorded servers, of all kinds in turn; print where each is."""
    async with trio.open_nursery() as nursery:
        served: list[Recorded] = await serve_recorded(nursery, *islice(cycle(names()), count))
        print(" ".join([*(one.url for one in served), "all"]), flush=True)


def _again(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.probing", *arguments]


def _listening(printed: str) -> Target | None:
    return Target(_urls(printed)[0], "none") if printed.strip().endswith("all") else None


def _urls(printed: str) -> list[str]:
    return printed.split()[:-1]


def main() -> int:
    """Measure and print; 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=50, metavar="N", help="how many (default: 50)")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="that are counted (default: 20)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve)
        return 0
    found = trio.run(partial(measure, options.servers, options.seconds))
    print(found)
    return 0 if found.kept else 1


if __name__ == "__main__":
    sys.exit(main())
