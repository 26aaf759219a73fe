"""``trillm key``: who may call. A token is printed once, alone on stdout; what is kept is its digest."""

from typing import Any

import asyncclick as click

from trillm.cli.command import Group, example, json_option
from trillm.cli.live import say_followed
from trillm.cli.output import Cell, note, say, say_json, say_table
from trillm.cli.registry import completing, store_option
from trillm.keys import Grants, KeyRecord
from trillm.registry.keyfile import grants_to_json
from trillm.registry.store import Store


@click.group(cls=Group, epilog=example("trillm key create laptop"))
def command() -> None:
    """Make, list and revoke API keys. Once there is one, every call needs one."""


@command.command(
    epilog=example(
        "trillm key create laptop",
        "KEY=$(trillm key create laptop)",
        "trillm key create notes --allow-model 'llama3*' --allow-mcp-server files --allow-tool 'files__read_*'",
        "trillm key create ops --admin",
    )
)
@click.argument("name", metavar="NAME")
@click.option("--admin", is_flag=True, help="It may also change what is served.")
@click.option("--allow-model", "models", multiple=True, metavar="PATTERN", help="Only these models. * is any text.")
@click.option("--allow-mcp-server", "mcp_servers", multiple=True, metavar="PATTERN", help="Only these MCP servers.")
@click.option("--allow-tool", "tools", multiple=True, metavar="PATTERN", help="Only these MCP tools.")
@store_option
def create(store: Store, name: str, *, admin: bool, **allowed: tuple[str, ...]) -> None:
    """Make a key and print it, this once. It may use everything, unless you say what."""
    first = not store.keys.read()
    lists = {kind: patterns for kind, patterns in allowed.items() if patterns}
    say(store.keys.create(name, Grants(**lists, admin=admin)))
    note("Keep it: it is not shown again. Callers send it as 'Authorization: Bearer <key>'.")
    if first:
        note("This is the first key: from now on every call needs one.")
    say_followed(store.path)


@command.command("list", epilog=example("trillm key list --json"))
@json_option
@store_option
def list_(store: Store, *, as_json: bool) -> None:
    """List keys by name, without what would let anyone in."""
    keys = store.keys.read().records
    if as_json:
        return say_json({"keys": [_shown(key) for key in keys]})
    if not keys:
        return note("There are no keys: anyone who reaches the address may call.")
    rows = [(Cell(key.name), Cell(key.created), Cell(_may(key.grants))) for key in keys]
    return say_table(("NAME", "CREATED", "MAY USE"), rows)


def _shown(key: KeyRecord) -> dict[str, Any]:
    return {"name": key.name, "created": key.created, **grants_to_json(key.grants)}


def _may(grants: Grants) -> str:
    """Say in a few words what a key may use."""
    named = (("models", grants.models), ("MCP servers", grants.mcp_servers), ("tools", grants.tools))
    limits = [f"{what} {', '.join(patterns)}" for what, patterns in named if patterns is not None]
    return "; ".join([*(limits or ["everything"]), *(["administer"] if grants.admin else [])])


_key_names = completing(lambda store: [key.name for key in store.keys.read().records])


@command.command(epilog=example("trillm key revoke laptop"))
@click.argument("name", metavar="NAME", shell_complete=_key_names)
@store_option
def revoke(store: Store, name: str) -> None:
    """Forget a key: calls that use it are refused."""
    store.keys.revoke(name)
    say(f"Revoked key {name}.")
    if not store.keys.read():
        note("That was the last key: anyone who reaches the address may call now.")
    say_followed(store.path)
