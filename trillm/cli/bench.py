"""``trillm bench``: how much a server answers at once, and how quickly. For any server with OpenAI's API."""

import os
from typing import TYPE_CHECKING, Any

import asyncclick as click

from trillm.cli.command import SECONDS, Command, example, json_option
from trillm.cli.output import Cell, complain, note, say_json, say_table
from trillm.errors import ConfigError

if TYPE_CHECKING:
    from trillm.bench.asks import Kind, Target
    from trillm.bench.tally import Report, Spread

MOST_CONNECTIONS = 10_000
WARMUP_S = 1.0


class Concurrency(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "concurrency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        numbers = tuple(int(text) if text.strip().isdecimal() else 0 for text in str(value).split(","))
        if not all(0 < number <= MOST_CONNECTIONS for number in numbers):
            self.fail(f"{value!r} is not a list of numbers from 1 to {MOST_CONNECTIONS}, such as 1,50,200", param, ctx)
        return numbers


def _checked_url(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    from trillm.registry.document import Server

    try:
        return Server("bench", value).url
    except ConfigError as error:
        raise click.BadParameter(error.problem) from error


def _key(_ctx: click.Context, _param: click.Parameter, variable: str | None) -> str | None:
    if variable is not None and variable not in os.environ:
        raise click.BadParameter(f"the environment variable {variable!r} is not set")
    return os.environ[variable] if variable else None


@click.command(
    cls=Command,
    epilog=example(
        "trillm bench http://127.0.0.1:8377 --model sim-chat",
        "trillm bench http://127.0.0.1:8377 --model sim-chat --plain --concurrency 1,50,200 --seconds 10",
    ),
)
@click.argument("url", callback=_checked_url)
@click.option("--model", required=True, metavar="NAME", help="The chat model to ask.")
@click.option(
    "--concurrency",
    type=Concurrency(),
    default="1,50,200",
    show_default=True,
    metavar="N,N,...",
    help="Requests at once; one round for each.",
)
@click.option("--stream/--plain", default=True, show_default=True, help="Streamed answers, or whole ones.")
@click.option("--seconds", type=SECONDS, default=5.0, show_default=True, metavar="SECONDS", help="What is counted.")
@click.option("--api-key-env", "api_key", callback=_key, metavar="VAR", help="The environment variable with the key.")
@json_option
async def command(
    url: str,
    model: str,
    concurrency: tuple[int, ...],
    *,
    stream: bool,
    seconds: float,
    api_key: str | None,
    as_json: bool,
) -> int | None:
    """Put load on a server and say how it does: chats, each followed at once by the next.

    A server that bills will bill them.
    """
    from trillm.bench.asks import Kind, Target

    target, kind = Target(url, model, api_key), Kind.STREAM if stream else Kind.PLAIN
    reports = {count: await _measure(target, kind, count, seconds) for count in concurrency}
    if as_json:
        rounds = [{"connections": count, **report.to_json()} for count, report in reports.items()]
        say_json({"url": url, "model": model, "kind": kind.value, "rounds": rounds})
    else:
        _say_reports(kind, reports)
    return None if any(report.requests for report in reports.values()) else complain("no request was answered", 1)


async def _measure(target: "Target", kind: "Kind", connections: int, seconds: float) -> "Report":
    from trillm.bench.asks import build_asks
    from trillm.bench.load import Load, run_load

    note(f"{connections} at once for {seconds:g} s …")
    load = Load(target.origin, build_asks(target, kind), connections, seconds, WARMUP_S)
    return (await run_load(load)).report()


def _say_reports(kind: "Kind", reports: dict[int, "Report"]) -> None:
    streamed = kind == "stream"
    titles = ["AT ONCE", "REQUESTS/S", "TOTAL P50/P95/P99 MS"]
    titles += ["CHUNKS/S", "FIRST TOKEN P50/P95/P99 MS", "GAP P50/P95/P99 MS"] if streamed else []
    say_table([*titles, "ERRORS"], [_row(count, report, streamed=streamed) for count, report in reports.items()])


def _row(connections: int, report: "Report", *, streamed: bool) -> list[Cell]:
    texts = [str(connections), f"{report.requests_per_s:.1f}", _times(report.total)]
    if streamed:
        texts += [f"{report.chunks_per_s:.0f}", _times(report.first_token), _times(report.gap)]
    errors = ", ".join(f"{count} {what}" for what, count in report.errors.items())
    return [*map(Cell, texts), Cell(errors, "bold red")]


def _times(spread: "Spread | None") -> str:
    return f"{spread.p50:.1f} / {spread.p95:.1f} / {spread.p99:.1f}" if spread else ""
