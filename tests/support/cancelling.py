"""Cancels a piece of work at one of the places where it waits."""

from collections.abc import Awaitable, Callable

import trio
from attrs import define, field


@define(eq=False)
class _AtWait(trio.abc.Instrument):
    """Cancels ``scope`` when ``task`` goes to sleep for the ``wait``-th time (from 1)."""

    scope: trio.CancelScope
    wait: int
    task: trio.lowlevel.Task = field(factory=trio.lowlevel.current_task)
    waits: int = field(default=0, init=False)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.waits += 1
            if self.waits == self.wait:
                self.scope.cancel()


async def run_cancelled_at(wait: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Run ``work`` and cancel it at its ``wait``-th wait; return whether it came that far.

    To cancel at *every* await, call it with 1, 2, 3… until it returns False.
    """
    with trio.CancelScope() as scope:
        instrument = _AtWait(scope, wait)
        trio.lowlevel.add_instrument(instrument)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return instrument.waits >= wait
