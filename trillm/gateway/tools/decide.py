"""What follows a turn: tools are run and the model asked again, or it was the answer. Pure."""

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import define, evolve, field, frozen

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.turn import CUT_SHORT, ToolCall, Turn
from trillm.registry.document import ToolLimits


class ToolLimitExceeded(UpstreamFailed):
    """The model goes on calling tools although it may not any more."""

    code = "tool_limit_exceeded"
    worth_repeating = False


@frozen
class Run:
    """These calls are to be run; what they come to, and what the others are told instead, goes to the next turn.

    Args:
        turn: the one that asks for it.
        calls: to be run, all at once.
        refused: the others, in order after these: over the limit.
    """

    turn: Turn
    calls: Sequence[ToolCall]
    refused: Sequence[ToolCall] = ()


@frozen
class Answered:
    """The turn is the answer; any calls of ours in it are dropped."""


@frozen
class Endless:
    """No more tools may be run, the model was told so, and it calls them all the same."""

    def error(self, limits: ToolLimits) -> ToolLimitExceeded:
        """Return what the caller is told."""
        return ToolLimitExceeded(
            "The model went on calling tools instead of answering, also in the turn after its limit "
            f"({limits.turns} turns, {limits.calls} calls)."
        )


Verdict = Run | Answered | Endless


@define
class Tally:
    """How much of the limits a request has used.

    Args:
        limits: in force.
        max_calls: the request's own limit, if it has one.
    """

    limits: ToolLimits
    max_calls: int | None = None
    turns: int = 0
    calls: int = 0
    _ids: set[str] = field(factory=set, init=False)

    @property
    def spent(self) -> bool:
        """Whether the next turn is the last."""
        return self.turns >= self.limits.turns or self.calls >= self._most

    @property
    def _most(self) -> int:
        return min(self.limits.calls, self.max_calls or self.limits.calls)

    def judge(self, turn: Turn) -> Verdict:
        """Decide what follows ``turn``, and count what is to be run.

        A turn that asks the caller for something too is the answer: the calls of ours in it are not run, for their
        results could not be kept until the caller is back. The model will ask for them again if it still needs them.
        """
        if turn.hands_back or not turn.calls or turn.finish_reason in CUT_SHORT:
            return Answered()
        if self.spent:
            return Endless()
        left = self._most - self.calls
        self.turns += 1
        self.calls += min(left, len(turn.calls))
        turn = evolve(turn, calls=tuple(map(self._named, turn.calls)))
        return Run(turn, turn.calls[:left], turn.calls[left:])

    def _named(self, call: ToolCall) -> ToolCall:
        """Return ``call`` with an id that no other of the request has: some servers give none, or count anew."""
        if not call.id or call.id in self._ids:
            call = evolve(call, id=f"call_{uuid.uuid4().hex[:24]}")
        self._ids.add(call.id)
        return call


def arguments_of(call: ToolCall) -> dict[str, object]:
    """Return a call's arguments; none at all is how some models write an empty object.

    Raises:
        ValueError: they are no JSON object; the message is for the model.
    """
    if not call.arguments.strip():
        return {}
    try:
        arguments: dict[str, object] = msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise ValueError(f"The arguments are no JSON object ({exc}): {call.arguments[:200]}") from exc
    return arguments
