"""``trillm server list``, ``show`` and ``test``: servers as they run, or as the registry file has them."""

from collections.abc import Iterator, Sequence
from typing import Any

import asyncclick as click
from attrs import asdict, frozen

from trillm.cli.command import Command, example, json_option
from trillm.cli.live import NotRunning, OfferedModel, ServerState, Status, read_status
from trillm.cli.output import NOTHING, Cell, note, printable, say, say_json, say_table, warn
from trillm.cli.registry import find, server_argument, store_option, without_unknown
from trillm.errors import ConfigError
from trillm.registry.document import Document, Server
from trillm.registry.store import Store

COLUMNS = ("NAME", "STATE", "KIND", "MODELS", "IN FLIGHT", "FIRST TOKEN", "LAST ERROR")
STYLES = {"up": "green", "busy": "yellow", "starting": "yellow", "down": "bold red", "disabled": "dim"}
MODELS_SHOWN = 3


@frozen
class Overview:
    """All servers at one moment.

    Args:
        document: the registry file; empty when it is broken and a trillm runs on the last good one.
        status: of the running trillm, if one runs.
        remark: why nothing is known of how the servers are doing, if nothing is.
        problem: what is wrong with the registry file, if anything is.
    """

    document: Document
    status: Status | None = None
    remark: str | None = None
    problem: str | None = None

    @property
    def servers(self) -> dict[str, ServerState]:
        """Those that run, then those that the running trillm has not seen yet, by name."""
        running = {server.name: server for server in self.status.servers} if self.status else {}
        written = {server.name: _as_written(server) for server in self.document.servers.values()}
        return running | {name: server for name, server in written.items() if name not in running}

    def say_remarks(self) -> None:
        """Tell a person what is out of the ordinary."""
        if self.remark:
            note(f"{self.remark}; this is what the registry file says.")
        if self.problem:
            warn(f"The registry file is broken, the last good one is served: {self.problem}")


def look(store: Store) -> Overview:
    """Ask the running trillm, and read the file; without a trillm that runs, a broken file is an error."""
    try:
        status = read_status(store.path)
    except NotRunning as reason:
        return Overview(store.read(), remark=str(reason))
    try:
        return Overview(store.read(), status, problem=status.error)
    except ConfigError as error:
        return Overview(Document(), status, problem=status.error or error.message)


def _as_written(server: Server) -> ServerState:
    return ServerState(
        server.name,
        server.url,
        state="" if server.enabled else "disabled",
        kind=server.kind,
        models=tuple(map(OfferedModel, server.models)),
        limit=server.max_concurrent,
    )


@click.command("list", cls=Command, epilog=example("trillm server list", "trillm server list --json"))
@json_option
@store_option
def list_(store: Store, *, as_json: bool) -> None:
    """List servers and how they are doing."""
    overview = look(store)
    if as_json:
        return say_json(_overview_json(overview))
    overview.say_remarks()
    if not overview.servers:
        return note("There are no servers. Add one: trillm server add NAME URL; or look for some: trillm discover")
    return say_table(COLUMNS, map(_row, overview.servers.values()))


def _overview_json(overview: Overview) -> dict[str, Any]:
    status = overview.status
    running = {"pid": status.pid, "version": status.version, "ready": status.ready} if status else None
    servers = [_state_json(server) for server in overview.servers.values()]
    return {"running": running, "error": overview.problem, "servers": servers}


def _state_json(server: ServerState) -> dict[str, Any]:
    return asdict(server) | {"state": server.state or None}


def _row(server: ServerState) -> list[Cell]:
    return [
        Cell(server.name, "bold"),
        Cell(server.state, STYLES.get(server.state, "")),
        Cell(server.kind or ""),
        Cell(_shortened([model.id for model in server.models])),
        Cell(_load(server)),
        Cell(_first_token(server)),
        Cell(server.last_error or "", "red"),
    ]


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - MODELS_SHOWN
    return ", ".join(names[:MODELS_SHOWN]) + (f" +{more}" if more > 0 else "")


def _load(server: ServerState) -> str:
    if server.in_flight is None and server.limit is None:
        return ""
    load = "/".join(NOTHING if count is None else str(count) for count in (server.in_flight, server.limit))
    return f"{load} +{server.waiting}" if server.waiting else load


def _first_token(server: ServerState) -> str:
    if server.first_token_p50_ms is None or server.first_token_p95_ms is None:
        return ""
    return f"{server.first_token_p50_ms:.0f}/{server.first_token_p95_ms:.0f} ms"


@click.command("show", cls=Command, epilog=example("trillm server show gpu1"))
@server_argument
@json_option
@store_option
def show(store: Store, name: str, *, as_json: bool) -> None:
    """Show one server: how it is doing, and its settings."""
    overview = look(store)
    server = find("servers", overview.servers, name)
    written = overview.document.servers.get(name)
    settings = without_unknown(written).to_json() if written else {}
    if as_json:
        return say_json(_state_json(server) | {"settings": settings})
    overview.say_remarks()
    for label, value in [*_facts(server), *_settings(settings)]:
        say(f"{label:<17} {printable(value) or NOTHING}")
    return None


def _facts(server: ServerState) -> Iterator[tuple[str, str]]:
    yield "name", server.name
    yield "url", server.url
    yield "state", server.state
    yield "kind", " ".join(filter(None, [server.kind, server.version]))
    yield "source", server.source
    yield "in flight", _load(server)
    yield "from others", str(server.elsewhere or "")
    yield "first token", _first_token(server)
    yield "last error", server.last_error or ""
    for model in server.models:
        tokens = [f"{model.context_length} tokens"] if model.context_length else []
        facts = ", ".join([*model.capabilities, *tokens])
        yield "model", f"{model.id} ({facts})" if facts else model.id


def _settings(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that :func:`_facts` does not show."""
    for key, value in settings.items():
        if key == "budgets":
            yield from ((f"{name} budget", f"{seconds} s") for name, seconds in value.items())
        elif key not in {"url", "kind", "models"}:
            yield key.replace("_", " "), str(value)


@click.command("test", cls=Command, epilog=example("trillm server test gpu1"))
@server_argument
@json_option
@store_option
async def test(store: Store, name: str, *, as_json: bool) -> None:
    """Probe a server now, from here, and say what it is."""
    from trillm.cli.probing import check, describe, found_json

    server = find("servers", store.read().servers, name)
    found = await check(server)
    if as_json:
        return say_json({"name": name, "url": server.url, **found_json(found)})
    for line in describe(server.url, found, server.models):
        say(line)
    return None
