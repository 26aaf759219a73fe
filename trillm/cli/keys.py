"""``trillm key``: who may call. A token is printed once, alone on stdout; what is kept is its digest."""

import asyncclick as click

from trillm.cli.command import Group, example, json_option
from trillm.cli.live import say_followed
from trillm.cli.output import Cell, note, say, say_json, say_table
from trillm.cli.registry import completing, store_option
from trillm.registry.store import Store


@click.group(cls=Group, epilog=example("trillm key create laptop"))
def command() -> None:
    """Make, list and revoke API keys. Once there is one, every call needs one."""


@command.command(epilog=example("trillm key create laptop", "KEY=$(trillm key create laptop)"))
@click.argument("name", metavar="NAME")
@store_option
def create(store: Store, name: str) -> None:
    """Make a key and print it, this once."""
    first = not store.keys.read()
    say(store.keys.create(name))
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
        return say_json({"keys": [{"name": key.name, "created": key.created} for key in keys]})
    if not keys:
        return note("There are no keys: anyone who reaches the address may call.")
    return say_table(("NAME", "CREATED"), [(Cell(key.name), Cell(key.created)) for key in keys])


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
