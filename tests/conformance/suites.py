"""MCP's official conformance suite against trillm, with the SDK's everything-server behind it.

    python tests/conformance/suites.py [http] [stdio] [ws]

Prints the table of the documentation and exits with 1 when anything is not as ``expected.json`` says. What it needs
comes from npm and PyPI, once, into ``$TRILLM_CONFORMANCE`` or the user's folder for caches.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import platformdirs
from attrs import frozen

HERE = Path(__file__).resolve().parent
EXPECTED = json.loads((HERE / "expected.json").read_text())["suites"]
TRANSPORTS = ("http", "stdio", "ws")

NODE = "node@22"
OLD, NEW = "@modelcontextprotocol/conformance@0.1.16", "@modelcontextprotocol/conformance@0.2.0-alpha.12"
SDK = "mcp==2.3.0"
PREPARE_S, SUITE_S, START_S = 300, 240, 60


class Unavailable(Exception):
    """What the suite needs cannot be had here, and why."""


@frozen
class Outcome:
    """How a suite went: its checks, and the scenarios with a failing one."""

    passed: int
    failed: int
    failing: tuple[str, ...]


@frozen
class Tools:
    """What was fetched into a folder."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def everything(self) -> Path:
        return next(self.folder.glob("mcp-*/examples/servers/everything-server"))

    def suite(self, name: str) -> list[str]:
        package = "old" if name == "0.1.16" else "new"
        node = self.folder / "node_modules" / "node" / "bin" / "node"
        return [str(node), str(self.folder / "node_modules" / package / "dist" / "index.js"), "server"]


def prepare() -> Tools:
    """Fetch what is not there yet; raise :class:`Unavailable`."""
    chosen = os.environ.get("TRILLM_CONFORMANCE")
    tools = Tools(Path(chosen) if chosen else platformdirs.user_cache_path("trillm-conformance"))
    done = tools.folder / "done"
    wanted = f"{NODE} {OLD} {NEW} {SDK}"
    if done.exists() and done.read_text() == wanted:
        return tools
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("no npm: the conformance suite runs on Node")
    tools.folder.mkdir(parents=True, exist_ok=True)
    _run(npm, "install", "--no-audit", "--no-fund", "--silent", NODE, f"old@npm:{OLD}", f"new@npm:{NEW}", within=tools)
    _fetch_sdk(tools)
    _run(sys.executable, "-m", "venv", "env", within=tools)
    _run(
        str(tools.python), "-m", "pip", "install", "-q", SDK, "trio", "trio-websocket", "uvicorn", "click", within=tools
    )
    done.write_text(wanted)
    return tools


def _fetch_sdk(tools: Tools) -> None:
    """Unpack the everything-server, which is in the source distribution only; it is to run on Trio as well."""
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", SDK, within=tools)
    with tarfile.open(next(tools.folder.glob("mcp-*.tar.gz"))) as archive:
        archive.extractall(tools.folder, filter="data")
    source = tools.everything / "mcp_everything_server" / "server.py"
    text = source.read_text().replace("import asyncio\n", "import anyio\n").replace("asyncio.sleep", "anyio.sleep")
    source.write_text(text)


def _run(*command: str, within: Tools) -> None:
    try:
        subprocess.run(command, cwd=within.folder, check=True, capture_output=True, text=True, timeout=PREPARE_S)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{Path(command[0]).name} failed: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{Path(command[0]).name} took longer than {PREPARE_S} s") from error


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


def run(tools: Tools, suite: str, url: str, folder: Path) -> Outcome:
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
            outcomes = {suite: run(tools, suite, url, Path(temporary)) for suite in EXPECTED}
        good &= all(list(o.failing) == EXPECTED[suite]["failing"] for suite, o in outcomes.items())
        cells = [f"{o.passed} passed, {o.failed} failed" for o in outcomes.values()]
        print(f"| {transport} | " + " | ".join(cells) + " |", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
