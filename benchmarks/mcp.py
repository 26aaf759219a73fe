"""What an MCP call costs trillm, beside the least a WebSocket in Python can cost; and an idle session's memory.

    python -m benchmarks.mcp [--seconds 4] [--sessions 1000]

The tool called is ``list_models``, which asks nobody. CPU is the server process's own, from Linux's /proc, so what the
load costs does not count.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import trio_websocket as tw
from attrs import frozen

from benchmarks.environment import Environment
from benchmarks.faces import write_registry
from benchmarks.processes import Running, free_port, raise_file_limit, running, running_program
from benchmarks.upstream import MODEL
from trillm.bench.asks import Target
from trillm.wire.net import Origin, connect
from trillm.wire.response import ResponseReader

META = "io.modelcontextprotocol/"
NEW = "2026-07-28"
IN_FLIGHT = 32
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
ENVELOPE = {f"{META}protocolVersion": NEW, f"{META}clientCapabilities": {}}

#: Asks once and returns when the answer is there.
Ask = Callable[[], Awaitable[None]]


@frozen
class Row:
    """One line of the table.

    Args:
        name: what was called how.
        calls_s: calls answered per second.
        cpu_us: of the server, per call.
    """

    name: str
    calls_s: float
    cpu_us: float


def call(number: int, era: str) -> bytes:
    """Return a ``tools/call`` of the era."""
    params = {"name": "list_models", "arguments": {}} | ({"_meta": ENVELOPE} if era == "new" else {})
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def measure(name: str, server: Running, asks: list[Ask], seconds: float) -> Row:
    """Let each of ``asks`` ask again and again, and return what that cost."""
    count = 0

    async def keep_asking(ask: Ask) -> None:
        nonlocal count
        while True:
            await ask()
            count += 1

    async with trio.open_nursery() as nursery:
        for ask in asks:
            nursery.start_soon(keep_asking, ask)
        await trio.sleep(0.5)
        before, began, at = _cpu_s(server), count, trio.current_time()
        await trio.sleep(seconds)
        used, done, took_s = _cpu_s(server) - before, count - began, trio.current_time() - at
        nursery.cancel_scope.cancel()
    return Row(name, done / took_s, used / max(done, 1) * 1e6)


# ── WebSocket ───────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def websocket_asks(url: str, message: Callable[[int], bytes], *, hello: bool = False) -> AsyncIterator[list[Ask]]:
    """Yield what asks over one WebSocket, so many at once; answers are told apart by their ids."""
    waiting: dict[int, trio.Event] = {}
    numbers = iter(range(2, 1 << 60))

    async with tw.open_websocket_url(url, subprotocols=["mcp"], disconnect_timeout=1) as socket:
        if hello:
            await socket.send_message(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}))
            await socket.get_message()

        async def ask() -> None:
            number = next(numbers)
            answered = waiting[number] = trio.Event()
            await socket.send_message(message(number).decode())
            await answered.wait()

        async def read() -> None:
            while True:
                answer = json.loads(await socket.get_message())
                if "error" in answer:
                    raise SystemExit(f"not answered: {answer}")
                waiting.pop(answer["id"]).set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            yield [ask] * IN_FLIGHT
            nursery.cancel_scope.cancel()


# ── Streamable HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def http_asks(url: str, era: str) -> AsyncIterator[list[Ask]]:
    """Yield what asks over HTTP, each on a connection that is kept."""
    origin = Origin.of(url)
    headers = {
        "host": origin.authority,
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    if era == "new":
        headers |= {"mcp-protocol-version": NEW, "mcp-method": "tools/call", "mcp-name": "list_models"}
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await connect(origin)) for _ in range(IN_FLIGHT)]
        if era == "old":
            hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}).encode()
            given = await _exchange(streams[0], _post(headers, hello))
            headers |= {"mcp-session-id": dict(given)[b"mcp-session-id"].decode()}
        yield [partial(_ask_http, stream, _post(headers, call(n, era))) for n, stream in enumerate(streams, 2)]


async def _ask_http(stream: trio.abc.Stream, request: bytes) -> None:
    await _exchange(stream, request)


def _post(headers: dict[str, str], body: bytes) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


async def _exchange(stream: trio.abc.Stream, request: bytes) -> list[tuple[bytes, bytes]]:
    """Send a request, read its whole answer and return its headers."""
    await stream.send_all(request)
    reader = ResponseReader()
    while not reader.complete:
        reader.feed(await stream.receive_some(65536))
    if reader.status != 200:
        raise SystemExit(f"not answered: {reader.status}")
    return list(reader.headers)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def idle_bytes(server: Running, url: str, sessions: int) -> float:
    """Return what one idle session adds to the server's memory."""
    async with trio.open_nursery() as nursery:

        async def open_one() -> None:
            socket = await tw.connect_websocket_url(nursery, url, subprotocols=["mcp"])
            await socket.send_message(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}))
            await socket.get_message()

        for _ in range(50):
            await open_one()
        before = _rss(server)
        for _ in range(sessions):
            await open_one()
        await trio.sleep(1)
        grown = _rss(server) - before
        nursery.cancel_scope.cancel()
    return grown / sessions


def _cpu_s(server: Running) -> float:
    cost = server.cost()
    if cost is None:
        raise SystemExit("not available: this system has no /proc")
    return cost.cpu_s


def _rss(server: Running) -> int:
    cost = server.cost()
    if cost is None:
        raise SystemExit("not available: this system has no /proc")
    return cost.rss_bytes


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def run(seconds: float, sessions: int) -> None:
    """Measure, and print as it goes."""
    raise_file_limit()
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(
                running("upstream", ["benchmarks.upstream", "{port}", "--tokens", "8", "--gap", "0"], folder, MODEL)
            )
            registry = write_registry(folder, upstream.url)
            command = ["trillm", "serve", "--no-discover", "--port", "{port}", "--config", str(registry)]
            server = await stack.enter_async_context(running("trillm", command, folder, MODEL))
            port = free_port()
            program = [sys.executable, "-m", "benchmarks.mcpecho", str(port)]
            target = Target(f"http://127.0.0.1:{port}", MODEL)
            echo = await stack.enter_async_context(running_program("echo", program, folder, target, chats=False))
            socket, bare = f"{server.url.replace('http', 'ws')}/mcp", f"{echo.url.replace('http', 'ws')}/mcp"
            async with websocket_asks(bare, partial(call, era="old")) as asks:
                show(await measure("bare trio-websocket, echo", echo, asks, seconds))
            for era in ("old", "new"):
                async with websocket_asks(socket, partial(call, era=era), hello=era == "old") as asks:
                    show(await measure(f"trillm, WebSocket, {era} era", server, asks, seconds))
                async with http_asks(server.url, era) as asks:
                    show(await measure(f"trillm, Streamable HTTP, {era} era", server, asks, seconds))
            grown = await idle_bytes(server, socket, sessions)
            print(f"idle WebSocket session: {grown / 1000:.1f} kB ({sessions} sessions)")


def show(row: Row) -> None:
    """Print a row."""
    print(f"{row.name:36} {row.calls_s:8,.0f} calls/s {row.cpu_us:8,.0f} µs of CPU per call", flush=True)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--sessions", type=int, default=1000, help="idle ones")
    args = parser.parse_args()
    print(Environment.now(), file=sys.stderr)
    trio.run(run, args.seconds, args.sessions)


if __name__ == "__main__":
    main()
