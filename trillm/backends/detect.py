"""Finds out what kind of server answers at an address, and which servers run on this machine."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import trio
from attrs import frozen

from trillm.backends import KINDS
from trillm.backends.base import Backend, Signs, Site, root_of
from trillm.backends.failures import REJECTED_KEY
from trillm.errors import UpstreamBusy, UpstreamFailed
from trillm.models import Found
from trillm.wire.control import Answer, Control
from trillm.wire.net import CannotConnect

#: Seconds that a look at this machine takes at most: with what comes after, less than one.
WITHIN_S = 0.9
# Everything with a list of models is of this kind, for want of a better one: looked at anew when the list is another.
_GENERIC = "openai"
_NOTHING = Answer(0)
# Most kinds list their models here, and some say who they are.
_FIRST = "/v1/models"


@frozen
class Discovered:
    """A server that was found by looking.

    Args:
        name: its kind, with the port unless that is the kind's usual one, e.g. ``llamacpp-8080``.
        url: where it is, as it would be registered.
        found: what it is.
    """

    name: str
    url: str
    found: Found


async def inspect(
    http: Control,
    url: str,
    *,
    kind: str | None = None,
    api_key: str | None = None,
    known: Found | None = None,
) -> Found:
    """Find out what the server at ``url`` is and offers. Never runs a generation, never wakes a sleeping model.

    Args:
        http: asks.
        url: as registered.
        kind: a key of ``KINDS``, or None to find out.
        api_key: trillm's key for it.
        known: what was found here before. To be given while the server stays up, and not after it was away:
            with it nothing is asked again that costs the server something, or that keeps its model awake.

    Raises:
        UpstreamFailed: nothing answers, or nothing that trillm knows; the message is the reason.
    """
    sure = kind or (known.kind if known else None)
    if sure is not None:
        if sure not in KINDS:
            raise UpstreamFailed(f"there is no kind of server {sure!r}; there are: {', '.join(KINDS)}")
        found = await KINDS[sure].inspect(Site(KINDS[sure], http, url, api_key, known))
        if kind is not None or sure != _GENERIC or found == known:
            return found
    backend = await _recognised(http, url, api_key)
    if backend is not None:
        return await backend.inspect(Site(backend, http, url, api_key))
    return await _inspect_unknown(Site(KINDS[_GENERIC], http, url, api_key))


async def discover(
    http: Control,
    *,
    host: str = "127.0.0.1",
    within_s: float = WITHIN_S,
    ports: Mapping[str, Sequence[int]] | None = None,
    but: Collection[int] = (),
) -> list[Discovered]:
    """Look at the ports where servers usually listen, all at once.

    Args:
        http: asks.
        host: which machine.
        within_s: seconds; who did not answer by then is not there.
        ports: by kind, each kind's usual port first; None is those of all kinds. Any kind may turn up on any of them.
        but: ports to leave alone.

    Returns:
        What was found, sorted by name. Other trillms are left out.
    """
    usual = {kind: backend.ports for kind, backend in KINDS.items()} if ports is None else ports
    seen: list[Discovered] = []

    async def look(port: int) -> None:
        # infinity's API hangs under /v1 alone when its operator says so.
        for url in (f"http://{host}:{port}", f"http://{host}:{port}/v1"):
            try:
                found = await inspect(http, url)
            except UpstreamFailed:
                continue  # nothing there, or nothing we know
            seen.append(Discovered(_name(found.kind, port, usual), url, found))
            return

    with trio.move_on_after(within_s):
        async with trio.open_nursery() as nursery:
            for port in {port for each in usual.values() for port in each}.difference(but):
                nursery.start_soon(look, port)
    return sorted((one for one in seen if one.found.kind != "builtin"), key=lambda one: one.name)


def _name(kind: str, port: int, ports: Mapping[str, Sequence[int]]) -> str:
    return kind if [port] == list(ports.get(kind, ())[:1]) else f"{kind}-{port}"


async def _recognised(http: Control, url: str, api_key: str | None) -> Backend | None:
    """Ask what there is to ask, until it is clear what kind of server this is.

    The one question that tells most of them comes alone: where nobody answers, it is the only one.
    """
    signs = _Answers()
    failures: list[UpstreamFailed] = []
    root = root_of(url)

    async def get(path: str) -> None:
        try:
            signs[path] = await http.get(root + path, api_key=api_key)
        except UpstreamFailed as exc:
            failures.append(exc)

    await get(_FIRST)
    if failures and isinstance(failures[0], CannotConnect):
        raise failures[0]
    certain = _first_of(KINDS.values(), signs)
    if certain is not None and certain.kind != _GENERIC:
        return certain
    async with trio.open_nursery() as nursery:
        for path in {path for backend in KINDS.values() for path in backend.signs} - {_FIRST}:
            nursery.start_soon(get, path)
    if not signs:
        raise failures[0]
    return _first_of(KINDS.values(), signs)


class _Answers(dict[str, Answer]):
    """What was answered so far, by path."""

    def __missing__(self, path: str) -> Answer:
        return _NOTHING


def _first_of(backends: Iterable[Backend], signs: Signs) -> Backend | None:
    return next((backend for backend in backends if backend.recognises(signs)), None)


async def _inspect_unknown(site: Site) -> Found:
    """Try it as any OpenAI-compatible server, which also finds the best reason why it is none."""
    try:
        return await site.backend.inspect(site)
    except UpstreamFailed as exc:
        if exc.code == REJECTED_KEY or isinstance(exc, UpstreamBusy):
            raise
        raise UpstreamFailed(f"answers HTTP but is no server trillm knows: {exc.message}") from exc
