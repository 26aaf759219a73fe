"""``trillm serve``: turns its options into settings and runs the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncclick as click

from trillm.cli.command import Command, budget_options, example
from trillm.cli.registry import store_option
from trillm.registry.store import Store
from trillm.settings import DEFAULT_PORT, ServeSettings

if TYPE_CHECKING:
    from trillm.gateway.tokens import OAuthSettings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LOG_LEVELS = ("debug", "info", "warning", "error")


@click.command(
    cls=Command,
    epilog=example(
        "trillm serve",
        "trillm serve --port 9000 --chat-budget 30",
        "trillm serve --host 0.0.0.0 --log-format json",
        "trillm serve --host 0.0.0.0 --certfile server.pem --keyfile server.key",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any free one."
)
@budget_options
@click.option("--no-discover", is_flag=True, help="Do not look for local servers.")
@click.option("--no-lane", is_flag=True, help="Serve every route through the framework: slower, and the same.")
@click.option("--no-auth", is_flag=True, help="Let anyone call, even when there are keys.")
@click.option("--oauth-issuer", metavar="URL", help="Take tokens of this authorization server, beside keys.")
@click.option("--oauth-resource", metavar="URL", help="Our own URL, for which its tokens are made.")
@click.option("--oauth-scope", "oauth_scopes", multiple=True, metavar="SCOPE", help="That a token must have.")
@click.option("--allowed-host", "allowed_hosts", multiple=True, metavar="NAME", help="A name this address has.")
@click.option("--no-mcp", is_flag=True, help="Do not serve the Model Context Protocol at /mcp.")
@click.option("--mcp-port", type=click.IntRange(0, 65_535), help="Serve MCP over WebSocket on a port of its own, too.")
@click.option(
    "--mcp-search-above",
    type=click.IntRange(min=0),
    metavar="N",
    help="Have more than N tools of MCP servers searched rather than listed.",
)
@click.option("--mcp-search-model", metavar="MODEL", help="The rerank model that finds them. [default: common words]")
@click.option("--certfile", type=_FILE, help="Speak TLS with this certificate (PEM, with its chain).")
@click.option("--keyfile", type=_FILE, help="Its key, if that is in a file of its own.")
@click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option(
    "--drain",
    "drain_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="What running requests get when it stops.",
)
@store_option
async def command(store: Store, **options: Any) -> int:
    """Run the server: one address in front of all."""
    if options["keyfile"] and not options["certfile"]:
        raise click.UsageError("--keyfile goes with --certfile.")
    if options["no_mcp"] and options["mcp_port"] is not None:
        raise click.UsageError("--mcp-port makes no sense with --no-mcp.")
    from trillm.app import serve

    options["oauth"] = _oauth(options.pop("oauth_issuer"), options.pop("oauth_resource"), options.pop("oauth_scopes"))
    options = {name.replace("_budget", "_budget_s"): value for name, value in options.items()}
    options |= {name: not options.pop(f"no_{name}") for name in ("discover", "lane", "auth", "mcp")}
    return await serve(ServeSettings(config=store.path, **options))


def _oauth(issuer: str | None, resource: str | None, scopes: tuple[str, ...]) -> "OAuthSettings | None":
    if issuer is None and resource is None and not scopes:
        return None
    if not issuer or not resource:
        raise click.UsageError("--oauth-issuer and --oauth-resource go together.")
    for option, url in (("--oauth-issuer", issuer), ("--oauth-resource", resource)):
        if not url.startswith(("https://", "http://")):
            raise click.UsageError(f"{option} needs a URL, https://…, not {url!r}.")
    from trillm.gateway.tokens import OAuthSettings

    return OAuthSettings(issuer, resource, scopes)
