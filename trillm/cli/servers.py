"""``trillm server``: what changes a server. What only looks is in :mod:`trillm.cli.serverviews`."""

from collections.abc import Callable
from typing import Any, TypeVar

import asyncclick as click
from attrs import evolve

from trillm.cli import serverviews
from trillm.cli.command import (
    BUDGETS,
    Group,
    budget_options,
    example,
)
from trillm.cli.live import say_followed
from trillm.cli.output import say
from trillm.cli.registry import find, server_argument, store_option
from trillm.errors import ConfigError
from trillm.registry.document import Document, Server
from trillm.registry.store import Store

F = TypeVar("F", bound=Callable[..., Any])

#: What each option says when it is cleared, by the name it has on the command line.
CLEARED: dict[str, dict[str, Any]] = {
    "kind": {"kind": None},
    "api-key-env": {"api_key_env": None},
    "model": {"models": ()},
    "max-concurrent": {"max_concurrent": None},
    "max-batch": {"max_batch": None},
    "score": {"score": None},
    "weight": {"weight": 1},
    **{f"{name}-budget": {f"{name}_budget": None} for name in BUDGETS},
}


class Kind(click.ParamType[str]):
    """The name of a kind of server; which there are is looked up when one is given."""

    name = "kind"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` if it is one."""
        from trillm.backends import KINDS

        if value not in KINDS:
            self.fail(f"{value!r} is not a kind of server; there are: {', '.join(KINDS)}", param, ctx)
        return value

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
        """Offer the kinds there are."""
        from asyncclick.shell_completion import CompletionItem

        from trillm.backends import KINDS

        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]


SETTINGS = (
    click.option("--kind", type=Kind(), metavar="KIND", help="What it is. [default: found by probing]"),
    click.option("--api-key-env", metavar="VAR", help="The environment variable that holds its key."),
    click.option("--model", "models", multiple=True, metavar="ID", help="Serve only this; repeatable."),
    click.option("--max-concurrent", type=click.IntRange(min=1), metavar="N", help="Requests at once."),
    click.option("--max-batch", type=click.IntRange(min=1), metavar="N", help="Inputs or documents in one request."),
    click.option("--score", type=click.Choice(("raw", "sigmoid")), help="What is done to its ranking scores."),
    click.option(
        "--truncate-dimensions/--no-truncate-dimensions",
        default=None,
        help="Serve 'dimensions' by cutting its vectors and giving them length 1.",
    ),
    budget_options,
    click.option("--weight", type=click.FloatRange(min=0, min_open=True), help="Its share among equals."),
    click.option("--enabled/--disabled", default=None, help="Whether it is sent requests."),
    click.option("--no-check", is_flag=True, help="Do not probe it."),
)


def server_options(command: F) -> F:
    """Add the settings of a server, each None or empty when not given."""
    for option in reversed(SETTINGS):
        command = option(command)
    return command


@click.group(cls=Group, epilog=example("trillm server add gpu1 http://gpu1.example:8000", "trillm server list"))
def command() -> None:
    """Add, change and look at the servers behind the address."""


@command.command(
    epilog=example(
        "trillm server add gpu1 http://gpu1.example:8000",
        "trillm server add local http://127.0.0.1:11434 --kind ollama --max-concurrent 4",
        "trillm server add cloud https://api.example/v1 --api-key-env CLOUD_KEY --model gpt-4o-mini",
    )
)
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="URL")
@server_options
@click.option("--replace", is_flag=True, help="Replace the server of that name.")
@store_option
async def add(store: Store, name: str, url: str, *, no_check: bool, replace: bool, **settings: Any) -> None:
    """Probe a server, say what it is, and add it."""
    server = _with_settings(Server(name, url), _given(settings))
    _refuse_taken(store.read(), server, replace=replace)
    if not no_check:
        await _check(server)

    def change(document: Document) -> Document:
        _refuse_taken(document, server, replace=replace)
        return document.with_server(server)

    _change(store, change, f"Added {name}.")


@command.command(
    epilog=example(
        "trillm server edit gpu1 --max-concurrent 8 --chat-budget 30",
        "trillm server edit gpu1 --clear chat-budget",
    )
)
@server_argument
@click.option("--url", metavar="URL", help="Where it is.")
@server_options
@click.option("--clear", multiple=True, type=click.Choice(tuple(CLEARED)), help="Unset an option; repeatable.")
@store_option
async def edit(store: Store, name: str, *, no_check: bool, clear: tuple[str, ...], **settings: Any) -> None:
    """Change what is given, keep the rest."""
    changes = {name: value for option in clear for name, value in CLEARED[option].items()} | _given(settings)
    if not changes:
        raise click.UsageError("Nothing to change: give an option.", click.get_current_context())
    if not no_check and changes.keys() & {"url", "kind", "api_key_env"}:
        await _check(_with_settings(find("servers", store.read().servers, name), changes))

    def change(document: Document) -> Document:
        return document.with_server(_with_settings(find("servers", document.servers, name), changes))

    _change(store, change, f"Changed {name}.")


@command.command(epilog=example("trillm server enable gpu1"))
@server_argument
@store_option
def enable(store: Store, name: str) -> None:
    """Send a server requests again."""
    _switch(store, name, enabled=True)


@command.command(epilog=example("trillm server disable gpu1"))
@server_argument
@store_option
def disable(store: Store, name: str) -> None:
    """Keep a server and send it nothing; what it works on is finished."""
    _switch(store, name, enabled=False)


@command.command(epilog=example("trillm server remove gpu1"))
@server_argument
@store_option
def remove(store: Store, name: str) -> None:
    """Remove a server; what it works on is finished."""
    _change(store, lambda document: document.without_server(name), f"Removed {name}.")


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in settings.items() if value not in (None, ())}


def _with_settings(server: Server, settings: dict[str, Any]) -> Server:
    """Return ``server`` with the options of ``settings``, of which some are budgets."""
    budgets = {name: settings[f"{name}_budget"] for name in BUDGETS if f"{name}_budget" in settings}
    own = {name: value for name, value in settings.items() if not name.endswith("_budget")}
    return evolve(server, **own, budgets=evolve(server.budgets, **budgets))


def _refuse_taken(document: Document, server: Server, *, replace: bool) -> None:
    if server.name in document.servers and not replace:
        problem = "there is a server of that name: choose another, add --replace, or use 'trillm server edit'"
        raise ConfigError(server.where, problem)


async def _check(server: Server) -> None:
    """Probe ``server`` and say what it is; what cannot be reached is refused."""
    from trillm.cli.probing import check, describe

    try:
        found = await check(server)
    except ConfigError as error:
        advice = "start it, correct the URL, or add --no-check"
        raise ConfigError(error.where, f"{error.problem}: {advice}") from error
    for line in describe(server.url, found, server.models):
        say(line)


def _switch(store: Store, name: str, *, enabled: bool) -> None:
    def change(document: Document) -> Document:
        return document.with_server(evolve(find("servers", document.servers, name), enabled=enabled))

    _change(store, change, f"{'Enabled' if enabled else 'Disabled'} {name}.")


def _change(store: Store, change: Callable[[Document], Document], done: str) -> None:
    store.update(change)
    say(done)
    say_followed(store.path)


for view in (serverviews.list_, serverviews.show, serverviews.test):
    command.add_command(view)
