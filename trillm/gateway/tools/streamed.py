"""The turns of a call that is streamed: what is to be seen of them leaves as it comes, the last one's end as well.

Each turn is relayed like any stream, to a :class:`TurnReply` in the place of the caller's. When its end is there it is
judged at once, so that the answer's leaves in the same wake.
"""

from collections.abc import Collection

import trio
from attrs import define, evolve, field

from trillm.gateway.dispatch import Dispatch
from trillm.gateway.reply import Headers
from trillm.gateway.tools.decide import Answered, Run, Tally, Verdict
from trillm.gateway.tools.merge import Merge
from trillm.gateway.tools.outlet import Outlet
from trillm.gateway.tools.spending import Spending
from trillm.gateway.tools.steps import Board

#: Seconds without a byte, while tools run, after which a stream that has begun gets a comment.
KEEP_ALIVE_S = 5.0

COMMENT = b": \n\n"


@define(eq=False)
class StreamedTurns:
    """See the module's docstring, and :class:`trillm.gateway.tools.whole.WholeTurns`, its other kind."""

    request: Dispatch
    board: Board
    own: Collection[str]
    outlet: Outlet = field(init=False)
    merge: Merge = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outlet = Outlet(self.request.reply, self.request.journey)
        self.merge = Merge(self.own)

    def visible(self) -> bool:
        """Tell whether the caller has seen something of an answer."""
        return self.merge.visible

    async def run(self, dispatch: Dispatch, tally: Tally, spending: Spending) -> Verdict:
        """Put a turn to the servers; return what follows. If it is the answer it has been sent."""
        reply = TurnReply(self, dispatch, tally, spending)
        await evolve(dispatch, reply=reply).run()
        if reply.verdict is None:
            raise TypeError("a stream ended without an end")
        if isinstance(reply.verdict, Run):
            self.merge.go_on()
        return reply.verdict

    async def report(self) -> None:
        """Keep the caller informed while tools run. Nothing is cancelled when they are done: half a frame is none."""
        while self.board.busy:
            with trio.move_on_after(KEEP_ALIVE_S) as silence:
                await self.board.changed()
            if silence.cancelled_caught and self.outlet.reply.started:
                await self.outlet.send(COMMENT)
            await self._tell()
        await self._tell()

    async def _tell(self) -> None:
        steps = self.board.take_news()
        if steps and self.request.call.tool_steps:
            await self.outlet.send(self.merge.about(tool_steps=steps))

    def answer(self) -> None:
        """Nothing is left to be returned."""


@define(eq=False)
class TurnReply:
    """The reply of one turn. See :class:`trillm.gateway.reply.Reply`.

    Args:
        turns: where it goes.
        dispatch: of the turn.
        tally: judges the turn.
        spending: told how far it is.
    """

    turns: StreamedTurns
    dispatch: Dispatch
    tally: Tally
    spending: Spending
    verdict: Verdict | None = field(default=None, init=False)
    started: bool = field(default=False, init=False)
    finished: bool = field(default=False, init=False)

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:  # noqa: ARG002 - 200, a stream
        """The server answers well. By now it is known which, and within which limits."""
        self.started = True
        self.turns.outlet.headers = headers
        self.turns.outlet.journey.follow(self.dispatch.journey)
        self.spending.narrowed(self.dispatch.budget)

    async def send(self, data: bytes) -> None:
        """Pass on what is to be seen of some frames."""
        out = self.turns.merge.feed(data)
        if out:
            self.turns.outlet.journey.content()
            self.dispatch.budget.hold()  # the relay's came before it was known that there is something to see
        await self.turns.outlet.send(out)

    async def finish(self, data: bytes = b"") -> None:
        """Judge the turn; if it is the answer, send its end."""
        self.finished = True
        await self.send(data)
        self.verdict = self.tally.judge(self.turns.merge.turn())
        if isinstance(self.verdict, Answered):
            self.spending.answered()
            self.dispatch.budget.hold()
            self.turns.outlet.journey.content()
            await self.turns.outlet.finish(self.turns.merge.end())

    @property
    def instant(self) -> bool:
        """What comes has to be taken apart first."""
        return False

    def send_now(self, data: bytes) -> bool:
        """Never called, see :attr:`instant`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Nothing is ever left over."""

    def abort(self) -> None:
        """Nothing to do: who holds the caller's reply aborts that."""
