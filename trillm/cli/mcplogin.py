"""``trillm mcp login`` and ``logout``: OAuth at an upstream MCP server, by a browser that comes back to us."""

import asyncclick as click
from attrs import evolve

from trillm.cli.command import Command, example
from trillm.cli.live import say_followed
from trillm.cli.output import note, say
from trillm.cli.registry import find, mcp_argument, store_option
from trillm.errors import ConfigError
from trillm.registry.store import Store

#: Seconds a person has for logging in.
PERSON_S = 300.0


@click.command("login", cls=Command, epilog=example("trillm mcp login docs", "trillm mcp login docs --scope read"))
@mcp_argument
@click.option("--scope", metavar="SCOPES", help="What to ask for. [default: what the server names]")
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@store_option
async def login(store: Store, name: str, *, scope: str | None, no_browser: bool) -> None:
    """Log in to an MCP server with a browser; tokens are renewed from then on."""
    from trillm.cli.mcpasking import ask, describe
    from trillm.mcp.callback import open_callback
    from trillm.mcp.logins import Logins
    from trillm.mcp.oauth import build_login

    server = find("mcp_servers", store.read().mcp_servers, name)
    if not (server.url or "").startswith("http"):
        raise ConfigError(server.where, "only a server with an http(s) URL can ask for a login")
    logins = Logins.beside(store.path)

    async def show(url: str) -> None:
        note("Log in here, with a browser on this machine:")
        say(url)
        if not no_browser:
            click.launch(url)

    logins.forget(name)
    async with open_callback() as callback:
        signer = build_login(
            server, logins, redirect_uri=callback.url, scope=scope, show=show, code=callback.wait_for_code
        )
        for line in await ask(evolve(server, start_s=PERSON_S), describe, auth=signer):
            note(line)
    if logins.find(server) is None:
        return note(f"{name} did not ask for a login.")
    say(f"Logged in to {name}.")
    return say_followed(store.path)


@click.command("logout", cls=Command, epilog=example("trillm mcp logout docs"))
@mcp_argument
@store_option
def logout(store: Store, name: str) -> None:
    """Forget the login at an MCP server."""
    from trillm.mcp.logins import Logins

    find("mcp_servers", store.read().mcp_servers, name)
    known = Logins.beside(store.path).forget(name)
    say(f"Logged out of {name}." if known else f"There was no login at {name}.")
