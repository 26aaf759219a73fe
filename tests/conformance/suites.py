"""MCP's official conformance suite against trillm, with the SDK's everything-server behind it.

    python tests/conformance/suites.py [http] [stdio] [ws]

Prints the table of the documentation and exits with 1 when anything is not as ``expected.json`` says. What it needs
comes from npm and PyPI, once, into ``$TRILLM_CONFORMANCE`` or the user's folder for caches.
"""

import json
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest does; this is also run by itself
from support.foreign import folder, node, npm, python, run

HERE = Path(__file__).resolve().parent
EXPECTED = json.loads((HERE / "expected.json").read_text())["suites"]
TRANSPORTS = ("http", "stdio", "ws")

OLD, NEW = "@modelcontextprotocol/conformance@0.1.16", "@modelcontextprotocol/conformance@0.2.0-alpha.12"
SDK = "mcp==2.3.0"
VARIABLE = "TRILLM_CONFORMANCE"
SUITE_S, START_S = 240, 60


@frozen
class Outcome:
    """How a suite went: its checks, and the scenarios with a failing one."""

    passed: int
    failed: int
    failing: tuple[str, ...]


@frozen
class Tools:
    """What was fetched.

    Args:
        node: Node.js.
        modules: the suites.
        python: an interpreter that has the SDK.
        everything: the everything-server's source.
    """

    node: Path
    modules: Path
    python: Path
    everything: Path

    def suite(self, name: str) -> list[str]:
        package = "old" if name == "0.1.16" else "new"
        return [str(self.node), str(self.modules / package / "dist" / "index.js"), "server"]


def prepare() -> Tools:
    """Fetch what is not there yet; raises ``support.foreign.Unavailable``."""
    modules = npm(folder("node", VARIABLE), f"old@npm:{OLD}", f"new@npm:{NEW}")
    interpreter = python(folder("python", VARIABLE), SDK, "trio", "trio-websocket", "uvicorn", "click")
    return Tools(node(), modules, interpreter, _everything(folder("sdk", VARIABLE)))


def _everything(within: Path) -> Path:
    """Return the everything-server, which is in the SDK's source distribution only; it is to run on Trio as well."""
    example = "examples/servers/everything-server"
    if not any(within.glob(f"mcp-*/{example}")):
        run(within, sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", SDK)
        with tarfile.open(next(within.glob("mcp-*.tar.gz"))) as archive:
            archive.extractall(within, filter="data")
        source = next(within.glob(f"mcp-*/{example}/mcp_everything_server/server.py"))
        text = source.read_text().replace("import asyncio\n", "import anyio\n").replace("asyncio.sleep", "anyio.sleep")
        source.write_text(text)
    return next(within.glob(f"mcp-*/{example}"))


@contextmanager
def gateway(tools: Tools, transport: str, folder: Path) -> Iterator[str]:
    """Run trillm before the everything-server; yields the URL at which that one is served."""
    program = [str(tools.python), "-W", "ignore", str(HERE / "everything.py"), str(tools.everything), transport]
    with ExitStack() as stack:
        if transport == "stdio":
            entry = {"command": program[0], "args": program[1:]}
        else:
            port = _free_port()
            stack.enter_context(_running([*program, str(port)], folder / "everything.log"))
            _await_port(port)
            entry = {"url": f"{transport}://127.0.0.1:{port}/mcp"}
        config = folder / "servers.json"
        config.write_text(json.dumps({"mcp_servers": {"everything": entry}}))
        port = _free_port()
        serve = [sys.executable, "-m", "trillm", "--config", str(config), "serve", "--no-discover", "--port", str(port)]
        stack.enter_context(_running(serve, folder / "trillm.log"))
        _await_port(port)
        yield f"http://127.0.0.1:{port}/mcp/everything"


def run_suite(tools: Tools, suite: str, url: str, folder: Path) -> Outcome:
    """Run one suite against ``url``."""
    arguments = [*EXPECTED[suite]["arguments"], "--url", url, "-o", str(folder / suite)]
    command = [*tools.suite(suite), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_S, check=False).stdout
    (folder / f"{suite}.txt").write_text(told)
    total = re.search(r"^Total: (\d+) passed, (\d+) failed", told, re.MULTILINE)
    if total is None:
        raise AssertionError(f"the suite said nothing: {told[-500:]}")
    failing = re.findall(r"^✗ ([\w-]+): ", told, re.MULTILINE)
    return Outcome(int(total[1]), int(total[2]), tuple(sorted(set(failing))))


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        return once.getsockname()[1]


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main(transports: list[str]) -> int:
    """Run all suites and print the table."""
    tools = prepare()
    good = True
    print("| upstream transport | " + " | ".join(EXPECTED) + " |")
    print("|---" * (len(EXPECTED) + 1) + "|")
    for transport in transports or TRANSPORTS:
        with tempfile.TemporaryDirectory() as temporary, gateway(tools, transport, Path(temporary)) as url:
            outcomes = {suite: run_suite(tools, suite, url, Path(temporary)) for suite in EXPECTED}
        for suite, outcome in outcomes.items():
            if unexpected := sorted(set(outcome.failing) ^ set(EXPECTED[suite]["failing"])):
                good = False
                print(f"{transport} {suite}: not as expected: {', '.join(unexpected)}", file=sys.stderr)
        cells = [f"{o.passed} passed, {o.failed} failed" for o in outcomes.values()]
        print(f"| {transport} | " + " | ".join(cells) + " |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
