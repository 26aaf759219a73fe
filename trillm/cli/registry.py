"""How a command reaches the registry file: ``--config``, names of what is in it, and completing those."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncclick as click
from attrs import evolve

from trillm.errors import ConfigError

if TYPE_CHECKING:
    from trillm.registry.document import Route, Server
    from trillm.registry.store import Store

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
E = TypeVar("E", "Server", "Route")


def store_option(command: F) -> F:
    """Add ``--config PATH``; the command gets the registry file as ``store``."""
    text = "The registry file. [default: $TRILLM_CONFIG, or the platform's folder for configuration]"
    path = click.Path(dir_okay=False, path_type=Path)
    return click.option("--config", "store", type=path, metavar="PATH", callback=_store, help=text)(command)


def _store(ctx: click.Context, _param: click.Parameter, path: Path | None) -> "Store":
    from trillm.registry.store import Store

    chosen = path or ctx.find_root().params.get("config")
    return Store(chosen.expanduser() if chosen else Store.default_path())


def find(section: str, entries: Mapping[str, T], name: str) -> T:
    """Return the entry ``name`` of ``section`` (``servers``, ``mcp_servers``…), or raise :class:`ConfigError`."""
    if name not in entries:
        there = ", ".join(entries) or "none"
        raise ConfigError(f"{section}.{name}", f"no {section[:-1].replace('_', ' ')} of that name; there are: {there}")
    return entries[name]


def without_unknown(entry: E) -> E:
    """Return a server or a route without what is not known of it: somebody may have written a secret there."""
    return evolve(entry, extra={}, budgets=evolve(entry.budgets, extra={}))


def completing(names: "Callable[[Store], list[str]]") -> Callable[..., list[str]]:
    """Return a ``shell_complete`` that offers ``names`` of the registry the command line means."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            store = ctx.params.get("store") or _store(ctx, param, None)
            return [name for name in names(store) if name.startswith(incomplete)]
        except ConfigError:
            return []  # a shell that is completing has no place for complaints

    return complete


server_argument = click.argument(
    "name", metavar="NAME", shell_complete=completing(lambda store: list(store.read().servers))
)
route_argument = click.argument(
    "name", metavar="NAME", shell_complete=completing(lambda store: list(store.read().routes))
)
mcp_argument = click.argument(
    "name", metavar="NAME", shell_complete=completing(lambda store: list(store.read().mcp_servers))
)
