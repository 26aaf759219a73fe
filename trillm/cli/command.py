"""What all commands share: how they run, how they are found, their examples, options that several have.

A quick command must not pay for what it does not use, so command modules are imported when named, and Trio
when a command is ``async``: asyncclick's tree is made of coroutines, but they wait only where a command does.
"""

import importlib
from collections.abc import Callable, Coroutine, Mapping
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import asyncclick as click

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

BUDGETS = ("chat", "embeddings", "rerank")
SECONDS = click.FloatRange(min=0, min_open=True, max=86_400)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits, without an event loop.

    Raises:
        RuntimeError: it did wait.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    message = "only an async command can wait"
    raise RuntimeError(message)


def only(error: BaseException) -> BaseException:
    """Return what is wrapped in groups of one: how many nurseries it came through is nobody's concern."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return only(error.exceptions[0])
    return error


class Command(click.Command):
    """A command. One that is an ``async`` function runs under Trio; the others never import it."""

    async def invoke(self, ctx: click.Context) -> Any:
        """Call the function."""
        if not iscoroutinefunction(self.callback):
            return await super().invoke(ctx)
        import trio

        try:
            return trio.run(super().invoke, ctx)
        except BaseExceptionGroup as group:
            raise only(group) from group


class Group(click.Group):
    """A group of such commands, listed in the order they were written."""

    command_class = Command

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of definition."""
        return list(self.commands)


class LazyGroup(Group):
    """A group whose commands are imported when they are needed.

    Args:
        modules: command name to the module that has it as ``command``.
        settings: see ``click.Group``.
    """

    def __init__(self, *, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self.modules = modules

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order given."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; one that does not exist is an error that names those that are near."""
        if cmd_name in self.modules:
            command: click.Command = importlib.import_module(self.modules[cmd_name]).command
            return command
        if ctx.resilient_parsing:
            return None
        raise click.NoSuchCommand(cmd_name, possibilities=self.modules, ctx=ctx)


def example(*lines: str) -> str:
    """Return an epilog that shows ``lines`` as they are."""
    return "\n  ".join(["\b\nExample:" if len(lines) == 1 else "\b\nExamples:", *lines])


def json_option(command: F) -> F:
    """Add ``--json``; the command gets ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def budget_options(command: F) -> F:
    """Add ``--chat-budget``, ``--embeddings-budget`` and ``--rerank-budget``, in seconds."""
    for name in reversed(BUDGETS):
        text = f"What a request for {name} may take, in seconds."
        command = click.option(f"--{name}-budget", type=SECONDS, metavar="SECONDS", help=text)(command)
    return command
