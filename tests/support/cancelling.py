"""Cancels a piece of work at one of the places where it waits."""

from collections.abc import Awaitable, Callable

import trio
from attrs import define, field


@define(eq=False)
class _AtWait(trio.abc.Instrument):
    """Cancels ``scope`` when ``task`` goes to sleep for the ``wait``-th time (from 1); None is any task."""

    scope: trio.CancelScope
    wait: int
    task: trio.lowlevel.Task | None
    waits: int = field(default=0, init=False)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.task is None or task is self.task:
            self.waits += 1
            if self.waits == self.wait:
                self.scope.cancel()


async def run_cancelled_at(wait: int, work: Callable[[], Awaitable[object]], *, of_any_task: bool = False) -> bool:
    """Run ``work`` and cancel it at its ``wait``-th wait; return whether it came that far.

    To cancel at *every* await, call it with 1, 2, 3… until it returns False. Work that starts tasks waits in those
    too: then the waits ``of_any_task`` count, its servers' among them.
    """
    with trio.CancelScope() as scope:
        instrument = _AtWait(scope, wait, None if of_any_task else trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(instrument)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return instrument.waits >= wait
