"""``trillm route``: public model names that an operator makes, each with the targets that answer it."""

from collections.abc import Iterable
from typing import Any

import asyncclick as click

from trillm.cli.command import BUDGETS, Group, budget_options, example, json_option
from trillm.cli.live import say_followed
from trillm.cli.output import NOTHING, Cell, note, say, say_json, say_table
from trillm.cli.registry import completing, find, route_argument, store_option, without_unknown
from trillm.errors import ConfigError
from trillm.registry.document import Budgets, Document, Route, Target
from trillm.registry.store import Store

FAST = "trillm route add fast --to gpu1/llama-3.1-8b --to gpu2/llama-3.1-8b"


def _target_names(store: Store) -> list[str]:
    servers = store.read().servers.values()
    return [f"{server.name}/{model}" for server in servers for model in server.models or ("",)]


@click.group(cls=Group, epilog=example(FAST))
def command() -> None:
    """Give one name to models on several servers, with fallbacks."""


@command.command(epilog=example(FAST, f"{FAST} --fallback cloud/gpt-4o-mini"))
@click.argument("name", metavar="NAME")
@click.option(
    "--to",
    required=True,
    multiple=True,
    metavar="SERVER/MODEL",
    shell_complete=completing(_target_names),
    help="Who answers; repeated, they share the load.",
)
@click.option(
    "--fallback",
    multiple=True,
    metavar="SERVER/MODEL",
    shell_complete=completing(_target_names),
    help="Who answers when none of those can; repeated, in this order.",
)
@click.option("--rank-by", type=click.Choice(("embeddings",)), help="Rank by these where a server cannot rank.")
@click.option(
    "--mcp-server",
    "mcp_servers",
    multiple=True,
    metavar="NAME",
    shell_complete=completing(lambda store: list(store.read().mcp_servers)),
    help="An MCP server whose tools are run in every chat; repeated, several.",
)
@budget_options
@click.option("--replace", is_flag=True, help="Replace the route of that name.")
@store_option
def add(
    store: Store,
    name: str,
    *,
    to: tuple[str, ...],
    fallback: tuple[str, ...],
    rank_by: str | None,
    mcp_servers: tuple[str, ...],
    replace: bool,
    **budgets: Any,
) -> None:
    """Make a route."""
    route = Route(
        name,
        to=_targets("--to", to),
        fallback=_targets("--fallback", fallback),
        mcp_servers=mcp_servers,
        budgets=Budgets(**{kind: budgets[f"{kind}_budget"] for kind in BUDGETS}),
        rank_by=rank_by,
    )

    def change(document: Document) -> Document:
        if name in document.routes and not replace:
            raise ConfigError(route.where, "there is a route of that name: choose another, or add --replace")
        return document.with_route(route)

    store.update(change)
    say(f"Added route {name}.")
    say_followed(store.path)


@command.command("list", epilog=example("trillm route list", "trillm route list --json"))
@json_option
@store_option
def list_(store: Store, *, as_json: bool) -> None:
    """List routes."""
    routes = store.read().routes.values()
    if as_json:
        return say_json({"routes": [_as_json(route) for route in routes]})
    if not routes:
        return note("There are no routes. Make one: trillm route add NAME --to SERVER/MODEL")
    return say_table(
        ("NAME", "TO", "FALLBACK"),
        [[Cell(route.name, "bold"), Cell(_join(route.to)), Cell(_join(route.fallback))] for route in routes],
    )


@command.command(epilog=example("trillm route show fast"))
@route_argument
@json_option
@store_option
def show(store: Store, name: str, *, as_json: bool) -> None:
    """Show one route."""
    route = find("routes", store.read().routes, name)
    if as_json:
        return say_json(_as_json(route))
    budgets = ", ".join(f"{kind} {seconds:g} s" for kind, seconds in route.budgets.to_json().items())
    for label, value in (
        ("name", route.name),
        ("to", _join(route.to)),
        ("fallback", _join(route.fallback)),
        ("budgets", budgets),
        ("rank by", route.rank_by or ""),
        ("mcp", ", ".join(route.mcp_servers)),
    ):
        say(f"{label:<8}  {value or NOTHING}")
    return None


@command.command(epilog=example("trillm route remove fast"))
@route_argument
@store_option
def remove(store: Store, name: str) -> None:
    """Remove a route."""
    store.update(lambda document: document.without_route(name))
    say(f"Removed route {name}.")
    say_followed(store.path)


def _targets(where: str, texts: Iterable[str]) -> tuple[Target, ...]:
    return tuple(Target.parse(text, where=where) for text in texts)


def _join(targets: Iterable[Target]) -> str:
    return ", ".join(map(str, targets))


def _as_json(route: Route) -> dict[str, Any]:
    return {"name": route.name, **without_unknown(route).to_json()}
