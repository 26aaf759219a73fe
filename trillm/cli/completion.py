"""``trillm completion``: the script that makes a shell complete commands, options and names."""

import asyncclick as click
from asyncclick.shell_completion import get_completion_class

from trillm.cli.command import Command, example
from trillm.cli.output import say

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    epilog=example(
        'eval "$(trillm completion bash)"', "trillm completion fish > ~/.config/fish/completions/trillm.fish"
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell."""
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101  # SHELLS are those asyncclick brings
    say(complete(ctx.find_root().command, {}, "trillm", "_TRILLM_COMPLETE").source())
