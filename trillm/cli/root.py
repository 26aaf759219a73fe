"""The command tree: which commands there are, and where."""

from pathlib import Path

import asyncclick as click

from trillm import __version__
from trillm.cli.command import LazyGroup, example

MODULES = {
    "serve": "trillm.cli.serve",
    "server": "trillm.cli.servers",
    "model": "trillm.cli.models",
    "route": "trillm.cli.routes",
    "mcp": "trillm.cli.mcp",
    "key": "trillm.cli.keys",
    "discover": "trillm.cli.discover",
    "sim": "trillm.cli.sim",
    "bench": "trillm.cli.bench",
    "completion": "trillm.cli.completion",
}

HELP = "One address in front of your LLM servers."
EPILOG = example("trillm server add gpu1 http://gpu1.example:8000", "trillm serve")

root = LazyGroup(
    modules=MODULES,
    name="trillm",
    help=HELP,
    epilog=EPILOG,
    params=[
        click.Option(
            ["--config"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="PATH",
            help="The registry file, for any command.",
        )
    ],
)
click.version_option(__version__, prog_name="trillm", message="%(prog)s %(version)s")(root)
