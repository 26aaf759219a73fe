"""``trillm mcp stdio``: what a desktop client starts to reach trillm."""

import asyncclick as click

from trillm.cli.command import Command, example
from trillm.cli.live import NotRunning, find_running
from trillm.cli.output import note
from trillm.cli.registry import store_option
from trillm.errors import Unavailable
from trillm.registry.store import Store


@click.command(
    "stdio",
    cls=Command,
    epilog=example(
        "trillm mcp stdio",
        "trillm mcp stdio --server files",
        "TRILLM_KEY=tl-… trillm mcp stdio --url https://llm.example",
    ),
)
@click.option("--url", metavar="URL", help="A trillm elsewhere. [default: the one of this registry that runs]")
@click.option("--key", envvar="TRILLM_KEY", metavar="KEY", help="Shown to it. Better in the variable TRILLM_KEY.")
@click.option("--server", metavar="NAME", help="Only this upstream MCP server, its tools under their own names.")
@store_option
async def command(store: Store, url: str | None, key: str | None, server: str | None) -> None:
    """Serve one MCP client on standard input and output.

    The running trillm answers it. If none runs, this one does by itself.
    """
    if url is None:
        try:
            running = find_running(store.path)
        except NotRunning as reason:
            note(f"{reason.message}: serving alone, from {store.path}.")
            return await _serve_alone(store, server)
        return await _pipe(_endpoint(running.url, server), key or running.token, trusting=True)
    return await _pipe(_endpoint(url, server), key)


def _endpoint(url: str, server: str | None) -> str:
    """Return the WebSocket of a trillm at ``url``; a URL that names an endpoint already is taken as it is."""
    if url.partition(":")[0] not in {"http", "https", "ws", "wss"}:
        raise click.UsageError(f"--url needs http(s):// or ws(s)://, not {url!r}.")
    socket = "ws" + url.removeprefix("http") if url.startswith("http") else url
    base = socket.rstrip("/")
    if "/mcp" not in base.partition("://")[2]:
        base += "/mcp"
    return f"{base}/{server}" if server else base


async def _pipe(url: str, key: str | None, *, trusting: bool = False) -> None:
    """Carry messages; ``trusting`` where the run file has told whom we speak to, and no certificate has to."""
    import trio

    from trillm.mcp.stdio import pipe
    from trillm.wire.net import connect, connect_trusting

    try:
        await pipe(url, key, connect=connect_trusting if trusting else connect)
    except* trio.BrokenResourceError as group:
        raise Unavailable(f"{url} ended the connection.") from group


async def _serve_alone(store: Store, server: str | None) -> None:
    from trillm import logs
    from trillm.app import open_alone
    from trillm.errors import NotFound
    from trillm.gateway.access import OPERATOR
    from trillm.mcp.stdio import serve_here
    from trillm.settings import ServeSettings

    logs.configure(level="warning")
    async with open_alone(ServeSettings(store.path)) as mcp:
        view = (await mcp.face()).endpoint.views(server or "")
        if view is None:
            raise NotFound(f"There is no MCP server named {server!r} in {store.path}.")
        await serve_here(view, OPERATOR)
