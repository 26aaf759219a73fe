"""``trillm discover``: looks for servers on this machine and says how to add them."""

import asyncclick as click

from trillm.cli.command import Command, example, json_option
from trillm.cli.output import note, say, say_json
from trillm.cli.registry import store_option
from trillm.registry.store import Store


@click.command(cls=Command, epilog=example("trillm discover", "trillm discover --json"))
@json_option
@store_option
async def command(store: Store, *, as_json: bool) -> None:
    """Look for servers on this machine, and show how to add them."""
    from trillm.backends.detect import discover
    from trillm.cli.probing import describe, found_json
    from trillm.wire.control import open_control

    names = {server.url: server.name for server in store.read().servers.values()}
    async with open_control() as http:
        discovered = await discover(http)
    if as_json:
        return say_json(
            [
                {"name": one.name, "url": one.url, "registered_as": names.get(one.url), **found_json(one.found)}
                for one in discovered
            ]
        )
    for one in discovered:
        for line in describe(one.url, one.found):
            say(line)
        known = names.get(one.url)
        say(f"  is server {known}\n" if known else f"  trillm server add {one.name} {one.url}\n")
    if not discovered:
        note("No server answers on the usual ports of this machine.")
    return None
