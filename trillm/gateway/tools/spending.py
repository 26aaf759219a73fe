"""How one request's budget is spent on several turns and on the tools between them.

Until the caller has seen something, everything counts from the request's arrival, as without tools. From then on no gap
may be longer than the stall limit: not one between two pieces of a turn, nor one that tools are run in, nor the wait
for the first piece of the turn after them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from trillm.budget import Budget, Phase


@define(eq=False)
class StepBudget(Budget):
    """The budget of one step: a turn, or the tools between two.

    Args:
        visible: tells whether the caller has seen something. Before that nothing stops the clock.
    """

    visible: Callable[[], bool] = field(kw_only=True)

    def shrink(self, limit_s: float) -> None:
        """See :meth:`Budget.shrink`; a gap in what the caller sees has the stall limit and no other."""
        if not self.visible():
            super().shrink(limit_s)

    def flow(self) -> None:
        """See :meth:`Budget.flow`; pieces that the caller does not see are no flow."""
        if self.visible():
            super().flow()

    def hold(self) -> None:
        """See :meth:`Budget.hold`."""
        if self.visible():
            super().hold()


@define(eq=False)
class Spending:
    """Opens the budget of each step inside the request's own, whose scope is what a shutdown cuts.

    Args:
        whole: the request's, entered.
        visible: tells whether the caller has seen something.
    """

    whole: Budget
    visible: Callable[[], bool]
    limit_s: float = field(init=False)
    stall_s: float = field(init=False)
    _answered: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.limit_s, self.stall_s = self.whole.limit_s, self.whole.stall_s
        self.whole.hold()  # each step has the deadline itself

    @contextmanager
    def step(self, phase: Phase = Phase.QUEUE) -> Iterator[StepBudget]:
        """Run a step in a ``with`` block.

        Raises:
            BudgetSpent: it took too long.
        """
        if self._flows():
            limit_s, started = self.stall_s, trio.current_time()
        else:
            limit_s, started = self.limit_s, self.whole.started
        budget = StepBudget(limit_s, self.stall_s, started=started, phase=phase, visible=self._flows)
        with budget.spend():
            yield budget

    def narrowed(self, budget: Budget) -> None:
        """Take over what the settings of the server that answers have made of a turn's ``budget``."""
        self.stall_s = budget.stall_s
        if budget.started == self.whole.started:
            self.limit_s = min(self.limit_s, budget.limit_s)
        if budget.total_s is not None:
            self.whole.total_s = budget.total_s
            self.whole.hold()

    def answered(self) -> None:
        """The answer is on its way: from here on the time is the caller's own."""
        self._answered = True
        self.whole.total_s = None
        self.whole.hold()

    def _flows(self) -> bool:
        return self._answered or self.visible()
