"""``trillm model``: every name that a caller can ask for, who serves it, what it can do."""

import asyncclick as click
from attrs import asdict

from trillm.cli.command import Group, example, json_option
from trillm.cli.live import NotRunning, PublicModel, read_status
from trillm.cli.output import Cell, note, say_json, say_table
from trillm.cli.registry import store_option
from trillm.registry.store import Store


@click.group(cls=Group, epilog=example("trillm model list"))
def command() -> None:
    """Look at the models that callers can ask for."""


@command.command("list", epilog=example("trillm model list", "trillm model list --json"))
@json_option
@store_option
async def list_(store: Store, *, as_json: bool) -> None:
    """List models; without a running trillm the servers are asked from here."""
    models = _ask_running(store)
    if models is None:
        models = await _ask_servers(store)
    if as_json:
        return say_json({"models": [asdict(model) for model in models]})
    if not models:
        return note("No server offers any model. Add a server: trillm server add NAME URL")
    return say_table(("MODEL", "SERVERS", "CONTEXT", "CAN DO"), map(_row, models))


def _ask_running(store: Store) -> tuple[PublicModel, ...] | None:
    try:
        return read_status(store.path).models
    except NotRunning as reason:
        note(f"{reason}; asking the servers of the registry file.")
        return None


async def _ask_servers(store: Store) -> tuple[PublicModel, ...]:
    from trillm.cli.probing import probe_all

    pool = await probe_all(store.read())
    for member in pool.members.values():
        if member.last_error:
            note(f"{member.name}: {member.last_error}")
    return tuple(
        PublicModel(
            name,
            servers=[candidate.member.name for candidate in entry.plan.candidates],
            capabilities=sorted(entry.capabilities),
            context_length=entry.context_length,
            route=entry.is_route,
        )
        for name, entry in sorted(pool.catalog.entries.items())
    )


def _row(model: PublicModel) -> list[Cell]:
    name = f"{model.id} (route)" if model.route else model.id
    context = "" if model.context_length is None else str(model.context_length)
    return [Cell(name, "bold"), Cell(", ".join(model.servers)), Cell(context), Cell(", ".join(model.capabilities))]
