"""``trillm serve``: turns its options into settings and runs the server."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncclick as click

from trillm.cli.command import Command, budget_options, example
from trillm.cli.registry import store_option
from trillm.errors import ConfigError
from trillm.keys import OAuthSettings
from trillm.registry.store import Store
from trillm.settings import DEFAULT_HOST, DEFAULT_PORT, LOCAL_PROXIES, ServeSettings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PATH = click.Path(dir_okay=False, path_type=Path)
LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_WORKERS = 256


class _Octal(click.ParamType[int]):
    """Permissions as chmod takes them."""

    name = "octal"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            mode = int(value, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"{value!r} is no file mode such as 660.", param, ctx)
        return mode


class _Workers(click.ParamType[int]):
    """How many processes, or ``auto``."""

    name = "workers"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if value == "auto":
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not value.isdecimal() or not 1 <= int(value) <= MAX_WORKERS:
            self.fail(f"{value!r} is neither a number from 1 to {MAX_WORKERS} nor 'auto'.", param, ctx)
        return int(value)


def _proxies(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    from trillm.gateway.proxies import Proxies

    try:
        Proxies.parse(value)
    except ConfigError as error:
        raise click.UsageError(error.message) from error
    return value


def _origin(given: str) -> str:
    """Return an origin as browsers write it."""
    parts = urlsplit(given.lower())
    if given != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/")):
        raise click.BadParameter(f"{given!r} is no origin: give scheme://host[:port], or '*'.")
    return given if given == "*" else f"{parts.scheme}://{parts.netloc}"


@click.command(
    cls=Command,
    epilog=example(
        "trillm serve",
        "trillm serve --port 9000 --chat-budget 30",
        "trillm serve --host 0.0.0.0 --log-format json",
        "trillm serve --host 0.0.0.0 --certfile server.pem --keyfile server.key",
        "trillm serve --uds /run/trillm/trillm.sock",
    ),
)
@click.option("--host", help=f"The address to listen on. [default: {DEFAULT_HOST}]")
@click.option("--port", type=click.IntRange(0, 65_535), help=f"0: any free one. [default: {DEFAULT_PORT}]")
@click.option("--uds", type=_PATH, help="Listen on a Unix socket; beside --host or --port if one of them is given.")
@click.option(
    "--uds-mode", type=_Octal(), default="660", show_default=True, help="Who may connect to it, as for chmod."
)
@budget_options
@click.option("--no-discover", is_flag=True, help="Do not look for local servers.")
@click.option("--inline-images", is_flag=True, help="Fetch images by their URL for servers that cannot (Ollama).")
@click.option("--no-lane", is_flag=True, help="Serve every route through the framework: slower, and the same.")
@click.option("--no-auth", is_flag=True, help="Let anyone call, even when there are keys.")
@click.option("--oauth-issuer", metavar="URL", help="Take tokens of this authorization server, beside keys.")
@click.option("--oauth-resource", metavar="URL", help="Our own URL, for which its tokens are made.")
@click.option("--oauth-scope", "oauth_scopes", multiple=True, metavar="SCOPE", help="That a token must have.")
@click.option("--allowed-host", "allowed_hosts", multiple=True, metavar="NAME", help="A name this address has.")
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    callback=lambda _ctx, _param, given: tuple(map(_origin, given)),
    help="Let web pages of this origin call, e.g. https://chat.example; '*' for any. Repeatable.",
)
@click.option("--no-mcp", is_flag=True, help="Do not serve the Model Context Protocol at /mcp.")
@click.option("--mcp-port", type=click.IntRange(0, 65_535), help="Serve MCP over WebSocket on a port of its own, too.")
@click.option(
    "--mcp-search-above",
    type=click.IntRange(min=0),
    metavar="N",
    help="Have more than N tools of MCP servers searched rather than listed.",
)
@click.option("--mcp-search-model", metavar="MODEL", help="The rerank model that finds them. [default: common words]")
@click.option(
    "--forwarded-allow-ips",
    default=LOCAL_PROXIES,
    show_default=True,
    envvar="TRILLM_FORWARDED_ALLOW_IPS",
    show_envvar=True,
    metavar="LIST",
    callback=_proxies,
    help="Proxies whose X-Forwarded-* headers count: addresses, networks, 'unix:', '*' for all; with commas.",
)
@click.option("--certfile", type=_FILE, help="Speak TLS with this certificate (PEM, with its chain).")
@click.option("--keyfile", type=_FILE, help="Its key, if that is in a file of its own.")
@click.option("--keyfile-password", envvar="TRILLM_KEYFILE_PASSWORD", show_envvar=True, help="The key's password.")
@click.option(
    "--workers",
    type=_Workers(),
    default="1",
    show_default=True,
    envvar="TRILLM_WORKERS",
    show_envvar=True,
    metavar="N|auto",
    help="Processes that serve, on one port; auto: one for each core.",
)
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
    options["oauth"] = _oauth(options.pop("oauth_issuer"), options.pop("oauth_resource"), options.pop("oauth_scopes"))
    options = {name.replace("_budget", "_budget_s"): value for name, value in options.items()}
    options |= {name: not options.pop(f"no_{name}") for name in ("discover", "lane", "auth", "mcp")}
    settings = ServeSettings(config=store.path, **options | _address(options))
    if settings.workers > 1:
        if settings.mcp_port is not None:
            raise click.UsageError("--mcp-port is for one process: with --workers, clients use /mcp on the one port.")
        from trillm.parent import serve_workers

        return await serve_workers(settings)
    from trillm.app import serve

    return await serve(settings)


def _address(options: dict[str, Any]) -> dict[str, Any]:
    """Return the address: a Unix socket that is given alone is all there is, as uvicorn has it."""
    host, port = options["host"], options["port"]
    alone = options["uds"] and host is port is None
    return {"host": host or DEFAULT_HOST, "port": DEFAULT_PORT if port is None and not alone else port}


def _oauth(issuer: str | None, resource: str | None, scopes: tuple[str, ...]) -> OAuthSettings | None:
    if issuer is None and resource is None and not scopes:
        return None
    if not issuer or not resource:
        raise click.UsageError("--oauth-issuer and --oauth-resource go together.")
    for option, url in (("--oauth-issuer", issuer), ("--oauth-resource", resource)):
        if not url.startswith(("https://", "http://")):
            raise click.UsageError(f"{option} needs a URL, https://…, not {url!r}.")
    return OAuthSettings(issuer, resource, scopes)
