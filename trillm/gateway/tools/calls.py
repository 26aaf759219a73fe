"""Runs the tool calls of one turn, all at the same time, and makes messages of what they come to.

Whatever goes wrong with a call is told to the model, which may do better; only what the caller may not do at all ends
the request. The calls run in a nursery of the request's own task: they are cancelled with it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import trio
from attrs import define, field

from trillm.errors import Forbidden, TrillmError
from trillm.gateway.access import Caller
from trillm.gateway.tools import steps
from trillm.gateway.tools.decide import Run, arguments_of
from trillm.gateway.tools.offer import Offered
from trillm.gateway.tools.source import ToolResult, ToolSource
from trillm.gateway.tools.steps import Board
from trillm.gateway.tools.together import all_of
from trillm.gateway.tools.turn import ToolCall
from trillm.metrics import Metrics
from trillm.registry.document import ToolLimits


@define(eq=False)
class Calls:
    """Runs calls; see the module's docstring.

    Args:
        source: has them run.
        offered: the tools by function name.
        limits: in force.
        caller: who asks.
        board: told what happens.
        metrics: likewise.
    """

    source: ToolSource
    offered: Mapping[str, Offered]
    limits: ToolLimits
    caller: Caller
    board: Board
    metrics: Metrics
    _limiter: trio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limiter = trio.CapacityLimiter(self.limits.parallel)

    def announce(self, run: Run) -> None:
        """Note that the calls begin."""
        for call in run.calls:
            self.board.put(steps.begun(call, self.offered.get(call.name)))

    async def run(self, run: Run) -> list[dict[str, Any]]:
        """Run what is to be run; return one message for each call, in the order in which the model made them.

        Raises:
            Forbidden: the caller may not use a tool any more.
        """
        results = await all_of([partial(self._noted, call) for call in run.calls])
        over = ToolResult(f"Not run: only {len(run.calls)} more calls were allowed. Answer now.", is_error=True)
        for call in run.refused:
            self.board.put(steps.ended(steps.begun(call, self.offered.get(call.name)), over, 0))
        told = [*zip(run.calls, results, strict=True), *((call, over) for call in run.refused)]
        return [_message(call, result) for call, result in told]

    async def _noted(self, call: ToolCall) -> ToolResult:
        offered = self.offered.get(call.name)
        async with self._limiter:
            began = trio.current_time()
            result = cut(await self._result(call, offered), self.limits.result_bytes)
        seconds = trio.current_time() - began
        self.board.put(steps.ended(self.board.steps[call.id], result, seconds))
        if offered is not None:
            self.metrics.tool_called(offered.server, failed=result.is_error, seconds=seconds)
        return result

    async def _result(self, call: ToolCall, offered: Offered | None) -> ToolResult:
        if offered is None:
            names = ", ".join(self.offered)
            return ToolResult(f"There is no tool {call.name[:200]!r}. There are: {names}.", is_error=True)
        try:
            arguments = arguments_of(call)
        except ValueError as exc:
            return ToolResult(str(exc), is_error=True)
        with trio.move_on_after(self.limits.call_s):
            return await self._call(call, offered, arguments)
        return ToolResult(f"The tool did not answer within {self.limits.call_s:g} s.", is_error=True)

    async def _call(self, call: ToolCall, offered: Offered, arguments: Mapping[str, Any]) -> ToolResult:
        on_progress = partial(self.board.progress, call.id)
        try:
            return await self.source.call_tool(
                offered.server, offered.tool.name, arguments, caller=self.caller, on_progress=on_progress
            )
        except Forbidden:
            raise
        except TrillmError as error:
            return ToolResult(error.message, is_error=True)


def cut(result: ToolResult, most_bytes: int) -> ToolResult:
    """Return ``result`` with at most so many bytes of text, and say in it if there was more."""
    text = result.text.encode("utf-8", "replace")
    kept = text[:most_bytes].decode("utf-8", "ignore")
    if len(text) > most_bytes:
        kept += f"\n[cut off: {most_bytes} of {len(text)} bytes]"
    return ToolResult(kept, result.is_error)


def _message(call: ToolCall, result: ToolResult) -> dict[str, Any]:
    text = f"Error: {result.text}" if result.is_error else result.text
    return {"role": "tool", "tool_call_id": call.id, "content": text}
