"""The turns of a call that is answered whole: each is read to its end, and the answer is made of all of them."""

from collections.abc import Collection

from attrs import define, evolve, field

from trillm.gateway.dispatch import Dispatch
from trillm.gateway.plain import PlainAnswer
from trillm.gateway.tools.decide import Run, Tally, Verdict
from trillm.gateway.tools.gather import Gather
from trillm.gateway.tools.outlet import with_times
from trillm.gateway.tools.spending import Spending
from trillm.gateway.tools.steps import Board


@define(eq=False)
class WholeTurns:
    """See the module's docstring.

    Args:
        request: what would answer the call if it asked for no tools.
        board: what the tools do.
        own: the names of the caller's own tools.
    """

    request: Dispatch
    board: Board
    own: Collection[str]
    _gather: Gather = field(init=False)
    _last: PlainAnswer | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._gather = Gather(self.own)

    def visible(self) -> bool:
        """Tell whether the caller has seen something: not before the end."""
        return False

    async def run(self, dispatch: Dispatch, tally: Tally, spending: Spending) -> Verdict:
        """Put a turn to the servers; return what follows."""
        last = self._last = await dispatch.run()
        if last is None:
            raise TypeError("a whole answer was streamed")
        spending.narrowed(dispatch.budget)
        verdict = tally.judge(self._gather.take(last.body))
        if isinstance(verdict, Run):
            self._gather.go_on()
        return verdict

    async def report(self) -> None:
        """Keep the caller informed while tools run: it cannot be, before the end."""

    def answer(self) -> PlainAnswer | None:
        """Return the answer, now that the last turn was one."""
        if self._last is None:
            return None
        journey = self.request.journey
        journey.content()
        about = {"tool_steps": list(self.board.steps.values())} if self.request.call.tool_steps else {}
        headers = with_times(self._last.headers, journey)
        return evolve(self._last, headers=headers, body=self._gather.end(**about))
