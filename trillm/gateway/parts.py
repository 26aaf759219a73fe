"""Several exchanges for one call, side by side: each with a slot and attempts of its own, all in the call's one budget.

A part that fails is tried elsewhere like any call. When one has failed for good the others are cancelled, and their
slots and connections are free when :func:`gather` has raised.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import trio
from attrs import define, field

from trillm.budget import Phase
from trillm.errors import TrillmError
from trillm.gateway.call import Call
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.incoming import refusal
from trillm.gateway.journey import Journey
from trillm.gateway.plain import MAX_BYTES
from trillm.gateway.reply import Headers
from trillm.gateway.retry import Attempts
from trillm.pool.catalog import Entry
from trillm.pool.pool import Lease
from trillm.wire.exchange import Request

#: How many parts of one call are under way at once: a long list must not take every slot from everybody else.
MAX_AT_ONCE = 8

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Ask(Protocol[T_co]):
    """What one part asks of whichever server it gets."""

    def request(self, call: Call, lease: Lease) -> Request:
        """Build the request to the leased server."""

    def read(self, lease: Lease, body: bytes, headers: Headers) -> T_co:
        """Make a value of the server's whole answer.

        Raises:
            UpstreamFailed: it makes no sense; another server may do better.
        """


@define(eq=False)
class Part(Dispatch, Generic[T]):
    """One part of a call, dispatched like a whole one.

    Args:
        ask: what is asked.
        headers: of the answer, names in lower case.
    """

    ask: Ask[T]
    headers: Headers = field(factory=list, init=False)
    #: What the server said, once :meth:`run` has returned.
    told: T = field(init=False)

    async def _exchange(self, lease: Lease) -> None:
        backend = lease.member.backend
        request = self.ask.request(self.call, lease)
        async with self.connections.exchange(request, self.budget, Phase.TOTAL) as exchange:
            self.journey.connected = exchange.connected
            if exchange.status >= 300:
                raise await refusal(exchange, backend)
            body = await exchange.read(MAX_BYTES)
            error = backend.hidden_error(body)
            if error is not None:
                raise error
            self.headers = exchange.headers
            self.told = self.ask.read(lease, body, exchange.headers)
        self.journey.content()
        lease.member.first_token.add(self.journey.first_token_since_lease_s)


async def gather(whole: Dispatch, entry: Entry, asks: Sequence[Ask[T]]) -> Sequence[Part[T]]:
    """Put every ask to a server of ``entry``; return the parts with what was told, in the order of ``asks``.

    Args:
        whole: the call that they are parts of.
        entry: who may answer.
        asks: at least one.

    Raises:
        TrillmError: the first failure that no other attempt could mend.
    """
    parts = [_part(whole, entry, ask) for ask in asks]
    try:
        if len(parts) == 1:
            await parts[0].run()
        else:
            await _run_all(parts)
    finally:
        for part in parts:
            whole.journey.join(part.journey)
    return parts


async def _run_all(parts: Sequence[Part[T]]) -> None:
    failures: list[TrillmError] = []
    waiting = iter(parts)

    async def work() -> None:
        for part in waiting:
            try:
                await part.run()
            except TrillmError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(min(len(parts), MAX_AT_ONCE)):
            nursery.start_soon(work)
    if failures:
        raise failures[0]


def _part(whole: Dispatch, entry: Entry, ask: Ask[T]) -> Part[T]:
    return Part(
        whole.pool,
        whole.connections,
        None,
        whole.metrics,
        whole.limits,
        whole.call,
        entry,
        whole.budget,
        whole.reply,
        Journey(whole.call),
        Attempts(entry.plan, whole.attempts.tokens),
        ask,
    )


def smallest_batch(entry: Entry) -> int | None:
    """Return how many inputs fit into one request to whichever server of ``entry``; None is any number."""
    limits = [candidate.member.max_batch for candidate in entry.plan.candidates]
    return min((limit for limit in limits if limit is not None), default=None)
