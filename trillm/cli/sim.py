"""``trillm sim``: the simulated backend on its own, for trying things out and for tests."""

from functools import partial
from typing import TYPE_CHECKING, Any

import asyncclick as click

from trillm.cli.command import Command, example
from trillm.cli.output import note
from trillm.errors import ConfigError

if TYPE_CHECKING:
    from trillm.sim.faults import FaultPlan

PACE = click.FloatRange(min=0)


def _plan(_ctx: click.Context, _param: click.Parameter, plans: tuple[str, ...]) -> "FaultPlan":
    from trillm.sim.faults import FaultPlan

    try:
        return FaultPlan.parse(",".join(plans))
    except ConfigError as error:
        raise click.BadParameter(error.problem) from error


@click.command(
    cls=Command,
    epilog=example(
        "trillm sim --ttft 0.2 --itl 0.02",
        "trillm sim --port 9001 --fail 500:0.05 --fail stall:0.02 --seed 7",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="[default: any free one]")
@click.option(
    "--ttft", "ttft_s", type=PACE, default=0.2, show_default=True, metavar="SECONDS", help="Time to the first token."
)
@click.option(
    "--itl", "itl_s", type=PACE, default=0.02, show_default=True, metavar="SECONDS", help="Time between tokens."
)
@click.option("--jitter", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="How much these vary.")
@click.option(
    "--tokens", type=click.IntRange(min=1), default=24, show_default=True, metavar="N", help="Length of an answer."
)
@click.option("--slots", type=click.IntRange(min=1), metavar="N", help="Requests at once. [default: all]")
@click.option(
    "--fail",
    multiple=True,
    callback=_plan,
    metavar="NAME:SHARE",
    help="What goes wrong how often, such as 500:0.05 or slow=8:0.1; repeatable.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="The same again.")
async def command(host: str, port: int, **settings: Any) -> None:
    """Run a simulated server: it answers like a model, and goes wrong as told."""
    import trio

    from trillm.sim.server import serve_sim
    from trillm.sim.settings import SimSettings

    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_sim, SimSettings(**settings), host=host, port=port))
        note(f"A simulated server answers at {url} until it is interrupted.")
