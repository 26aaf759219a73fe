"""What an MCP call through trillm to an upstream costs trillm: the hop of a gateway.

    python -m benchmarks.mcphop [--seconds 4]

The upstream is another trillm, whose ``list_models`` is called over WebSocket; CPU is the gateway's process alone.
"""

import argparse
import json
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.environment import Environment
from benchmarks.faces import write_registry
from benchmarks.mcp import ENVELOPE, measure, show, websocket_asks
from benchmarks.processes import Running, raise_file_limit, running
from benchmarks.upstream import MODEL


def call(number: int, *, tool: str, era: str) -> bytes:
    """Return a ``tools/call`` of the era."""
    params = {"name": tool, "arguments": {}} | ({"_meta": ENVELOPE} if era == "new" else {})
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def run(seconds: float) -> None:
    """Measure, and print as it goes."""
    raise_file_limit()
    with TemporaryDirectory() as name:
        async with AsyncExitStack() as stack:
            start = partial(_start, stack, Path(name))
            model = await start("model", ["benchmarks.upstream", "{port}", "--tokens", "8", "--gap", "0"])
            registry = write_registry(Path(name), model.url)
            serve = ["trillm", "serve", "--no-discover", "--port", "{port}", "--config"]
            behind = await start("behind", [*serve, str(registry)])
            document = json.loads(registry.read_text())
            document["mcp_servers"] = {
                "ws": {"url": behind.url.replace("http", "ws", 1) + "/mcp"},
                "http": {"url": behind.url + "/mcp"},
            }
            front_registry = Path(name) / "front.json"
            front_registry.write_text(json.dumps(document))
            front = await start("front", [*serve, str(front_registry)])
            url = front.url.replace("http", "ws", 1) + "/mcp"
            for upstream in ("ws", "http"):
                for era in ("old", "new"):
                    message = partial(call, tool=f"{upstream}__list_models", era=era)
                    async with websocket_asks(url, message, hello=era == "old") as asks:
                        show(await measure(f"WebSocket, {era} era, upstream {upstream}", front, asks, seconds))


async def _start(stack: AsyncExitStack, folder: Path, name: str, command: list[str]) -> Running:
    return await stack.enter_async_context(running(name, command, folder, MODEL))


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    args = parser.parse_args()
    print(Environment.now(), file=sys.stderr)
    trio.run(run, args.seconds)


if __name__ == "__main__":
    main()
