"""The lane before a gateway before a simulator, all in memory: one request's bytes in, its answer out."""

import json
from collections.abc import Sequence
from typing import Any

import h11
import trio
import trio.testing
from attrs import field, frozen

from support.pools import a_pool, a_server
from trillm.door.lane import Lane
from trillm.gateway.access import Access
from trillm.gateway.gateway import Gateway
from trillm.gateway.limits import Limits
from trillm.keys import Keyring
from trillm.metrics import Metrics
from trillm.models import Found, Model
from trillm.sim.endpoints import MODELS
from trillm.sim.server import Simulator, handle_connection
from trillm.sim.settings import SimSettings
from trillm.wire.exchange import Connections
from trillm.wire.net import Origin

JSON = (b"content-type", b"application/json")
_SIMULATED = Found("builtin", models=tuple(Model(name, frozenset(can)) for name, can in MODELS.items()))


@frozen
class Told:
    """An answer.

    Args:
        status: of HTTP.
        headers: names in lower case.
        body: all of it.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes = field(repr=lambda body: repr(body[:500]))

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def ask(path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (JSON,)) -> Told:
    """Post ``body`` to ``path``; return what is answered. Time is virtual."""
    return trio.run(_ask, path, body, headers, clock=trio.testing.MockClock(autojump_threshold=0))


async def _ask(path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Told:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lane(nursery).serve, theirs)
        told = await _exchange(ours, path, body, headers)
        await ours.aclose()
        nursery.cancel_scope.cancel()
    return told


def _lane(nursery: trio.Nursery) -> Lane:
    pool, _ = a_pool(a_server("one", kind="builtin"))
    pool.probed(pool.members["one"], _SIMULATED)
    simulator = Simulator(SimSettings())

    async def connect(_origin: Origin) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await trio.lowlevel.checkpoint()
        nursery.start_soon(handle_connection, theirs, simulator)
        return ours

    async def no_hand_over(_stream: trio.abc.Stream, read: bytes) -> None:
        raise AssertionError(f"not for the lane: {read!r}")

    gateway = Gateway(pool, Connections(connect), Limits, lambda _event: None, Metrics())
    access = Access(Keyring, operator_token="t", needs_keys=False)
    return Lane(gateway, access, no_hand_over)


async def _exchange(stream: trio.abc.Stream, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Told:
    length = (b"content-length", b"%d" % len(body))
    client = h11.Connection(h11.CLIENT)
    said = {b"host": b"127.0.0.1", **dict([*headers, length])}
    head = h11.Request(method="POST", target=path, headers=[*said.items()])
    await stream.send_all(client.send(head) + client.send(h11.Data(body)) + client.send(h11.EndOfMessage()))
    status, said, pieces = 0, {}, []
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            client.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            status, said = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            pieces.append(bytes(event.data))
        else:
            raise AssertionError(f"no whole answer: {event}")
    return Told(status, said, b"".join(pieces))
