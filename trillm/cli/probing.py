"""Asking servers what they are, on behalf of a person who waits, and saying what they answered."""

from collections.abc import Iterable
from typing import Any

import trio

from trillm.cli.output import note, printable
from trillm.errors import ConfigError, TrillmError
from trillm.models import Found, Model
from trillm.pool.member import Member, Source
from trillm.pool.pool import Pool
from trillm.pool.probe import probe_once
from trillm.registry.document import Document, Server
from trillm.wire.control import open_control

PROBE_S = 5.0


async def check(server: Server) -> Found:
    """Return what a server is and offers.

    Raises:
        ConfigError: it does not answer, or not as a server of its kind does.
    """
    if server.api_key_env and not server.api_key:
        note(f"{server.api_key_env} is not set here. The trillm that runs needs it in its environment.")
    async with open_control() as http:
        outcome = await probe_once(Member(server), http, within_s=PROBE_S)
    if isinstance(outcome, TrillmError):
        raise ConfigError(f"{server.where}.url", f"{outcome.message} ({server.url})")
    return outcome


async def probe_all(document: Document) -> Pool:
    """Return a pool of the servers of ``document``, all asked once."""
    pool = Pool(publish=lambda _event: None)
    pool.configure([(server, Source.REGISTRY) for server in document.servers.values()], document.routes)

    async def probe(member: Member) -> None:
        pool.probed(member, await probe_once(member, http, within_s=PROBE_S))

    async with open_control() as http, trio.open_nursery() as nursery:
        for member in pool.members.values():
            if member.server.enabled:
                nursery.start_soon(probe, member)
    return pool


def describe(url: str, found: Found, wanted: Iterable[str] = ()) -> list[str]:
    """Return lines for a person: the kind, the version, what each model can do, and which ``wanted`` one is missing."""
    count = len(found.models)
    slots = f", {found.slots} at once" if found.slots else ""
    listed = {model.id for model in found.models}
    return [
        f"{url} is {_kind(found)}{slots}, with {count or 'no'} model{'' if count == 1 else 's'}.",
        *(f"  {printable(model.id)}  {_facts(model)}" for model in found.models),
        *(f"  {name}  asked for, but not among them" for name in wanted if name not in listed),
    ]


def _kind(found: Found) -> str:
    return printable(f"{found.kind} {found.version}") if found.version else found.kind


def _facts(model: Model) -> str:
    tokens = [f"{model.context_length} tokens"] if model.context_length else []
    return ", ".join(sorted(model.capabilities) + tokens) or "does not tell what it can do"


def found_json(found: Found) -> dict[str, Any]:
    """Return the same for programs."""
    models = [
        {"id": model.id, "capabilities": sorted(model.capabilities), "context_length": model.context_length}
        for model in found.models
    ]
    return {"kind": found.kind, "version": found.version, "slots": found.slots, "models": models}
