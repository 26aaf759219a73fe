"""A chat whose tools are run here: the model is asked, its calls are run, it is asked again, until it answers.

One task, one budget, one scope: when the request is cancelled, for whatever reason, so is what is under way, be it a
turn or calls. Each turn goes the way of any call (lease, attempts, relay) and is recorded as a part of the request's
journey.
"""

from functools import partial
from typing import Any

import trio
from attrs import define, evolve, field

from trillm.budget import Budget, Phase
from trillm.gateway.access import Caller
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.journey import Journey
from trillm.gateway.plain import PlainAnswer
from trillm.gateway.retry import Attempts
from trillm.gateway.tools.asked import Asked
from trillm.gateway.tools.calls import Calls
from trillm.gateway.tools.conversation import Conversation
from trillm.gateway.tools.decide import Endless, Run, Tally
from trillm.gateway.tools.offer import Offer, build_offer
from trillm.gateway.tools.source import ToolSource
from trillm.gateway.tools.spending import Spending
from trillm.gateway.tools.steps import Board
from trillm.gateway.tools.streamed import StreamedTurns
from trillm.gateway.tools.together import all_of
from trillm.gateway.tools.whole import WholeTurns
from trillm.registry.document import ToolLimits


@define(eq=False)
class ToolLoop:
    """Answers one call; see the module's docstring.

    Args:
        dispatch: of the call; each turn has one like it.
        asked: which tools the call asks for.
        source: where they come from.
        limits: in force.
        board: told what the tools do.
    """

    dispatch: Dispatch
    asked: Asked
    source: ToolSource
    limits: ToolLimits
    board: Board = field(factory=Board)
    _turns: StreamedTurns | WholeTurns = field(init=False)
    _spending: Spending = field(init=False)
    _tally: Tally = field(init=False)

    def __attrs_post_init__(self) -> None:
        dispatch = self.dispatch
        kind = StreamedTurns if dispatch.call.stream else WholeTurns
        self._turns = kind(dispatch, self.board, self.asked.own)
        self._spending = Spending(dispatch.budget, self._turns.visible)
        self._tally = Tally(self.limits, self.asked.max_calls)

    async def run(self) -> PlainAnswer | None:
        """Run turns and tools until there is an answer. A stream has been sent on return, a whole one is returned.

        Raises:
            TrillmError: there is none; if the reply has started, what was sent stands.
            ClientLeft: nobody takes it.
        """
        with self._spending.step(Phase.TOOLS):
            offer = await self._offer()
        self.board.offered = offer.offered
        calls = Calls(self.source, offer.offered, self.limits, self._caller, self.board, self.dispatch.metrics)
        conversation = Conversation.of(self.dispatch.call.body)
        changed = offer.first()
        while (run := await self._turn(conversation.body(changed))) is not None:
            conversation.add(run.turn.message(), *await self._run(calls, run))
            changed = offer.last() if self._tally.spent else offer.next()
        return self._turns.answer()

    @property
    def _caller(self) -> Caller:
        call = self.dispatch.call
        return Caller(call.caller, grants=call.grants, client=call.client)

    async def _offer(self) -> Offer:
        """Ask all servers for their tools, at the same time."""
        servers = self.asked.servers
        lists = [partial(self.source.list_tools, s.server, caller=self._caller, only=s.allowed or ()) for s in servers]
        listed = await all_of(lists)
        return build_offer(self.asked, {s.server: tools for s, tools in zip(servers, listed, strict=True)})

    async def _turn(self, body: bytes) -> Run | None:
        """Put one turn to the servers; return what it asks for, None if it was the answer."""
        journey = Journey(self.dispatch.call)
        self.dispatch.journey.turns += (journey,)
        try:
            with self._spending.step() as budget:
                verdict = await self._turns.run(self._part(body, budget, journey), self._tally, self._spending)
        finally:
            self.dispatch.journey.follow(journey)
        if isinstance(verdict, Endless):
            raise verdict.error(self.limits)
        return verdict if isinstance(verdict, Run) else None

    def _part(self, body: bytes, budget: Budget, journey: Journey) -> Dispatch:
        """Return what puts a turn to the servers, as if it were a call of its own."""
        request = self.dispatch
        return evolve(
            request,
            call=evolve(request.call, body=body),
            budget=budget,
            journey=journey,
            attempts=Attempts(request.entry.plan, request.attempts.tokens),
            # A later turn has what the others, and the tools, have left of the time.
            blames=len(request.journey.turns) == 1,
        )

    async def _run(self, calls: Calls, run: Run) -> list[dict[str, Any]]:
        """Run what a turn asks for; return the messages of what came of it."""
        journey, began = self.dispatch.journey, trio.current_time()
        journey.tool_calls = self._tally.calls
        calls.announce(run)

        async def ran() -> list[dict[str, Any]]:
            results = await calls.run(run)
            budget.hold()  # what is still to be told the caller takes the caller's time
            return results

        messages: list[dict[str, Any]]
        try:
            with self._spending.step(Phase.TOOLS) as budget:
                messages, _ = await all_of([ran, self._turns.report])
        finally:
            journey.tools_s += trio.current_time() - began
        return messages
