"""Several things at the same time, whose errors are no groups: the caller gets one answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from trillm.errors import TrillmError
from trillm.gateway.reply import ClientLeft


async def all_of(works: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Run all at the same time; return their results in order.

    Raises:
        TrillmError: the first that one of them raises; the others are cancelled. ``ClientLeft`` likewise.
    """
    results: dict[int, Any] = {}
    errors: list[TrillmError | ClientLeft] = []

    async with trio.open_nursery() as nursery:

        async def run(i: int, work: Callable[[], Awaitable[Any]]) -> None:
            try:
                results[i] = await work()
            except (TrillmError, ClientLeft) as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        for i, work in enumerate(works):
            nursery.start_soon(run, i, work)
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(works))]
