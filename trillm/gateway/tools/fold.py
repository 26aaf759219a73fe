"""Gathers the tool calls of a streamed turn from their pieces, and lets the caller's own through as they come. Pure.

OpenAI sends id and name with the first piece of a call and its index with every one. Others send calls whole, without
an index, or all of them with index 0; ids tell them apart then.
"""

from collections.abc import Collection, Sequence

import msgspec
from attrs import define, field

from trillm.gateway.tools.turn import Called, ToolCall, decode_called


@define
class _Open:
    """A call of which more pieces may come."""

    index: int
    id: str = ""
    name: str = ""
    is_callers: bool | None = None
    arguments: list[str] = field(factory=list)
    #: Its place among the caller's.
    place: int = 0
    #: Pieces that came before it was known whose it is.
    early: list[msgspec.Raw] = field(factory=list)


@define
class Fold:
    """The calls of one turn.

    Args:
        own: the names of the caller's own tools.
    """

    own: Collection[str]
    _open: list[_Open] = field(factory=list, init=False)
    _passed: int = field(default=0, init=False)

    def take(self, pieces: Sequence[msgspec.Raw]) -> list[msgspec.Raw]:
        """Take the pieces of one frame; return those that are the caller's, numbered as if there were no others.

        Raises:
            msgspec.ValidationError: they are no pieces of tool calls.
        """
        passed: list[msgspec.Raw] = []
        for raw in pieces:
            piece = decode_called(raw)
            call = self._find(piece)
            if call.is_callers is None:
                self._settle(call, piece)
            if call.is_callers is None:
                call.early.append(raw)
            elif call.is_callers:
                passed += [_renumbered(each, call.place) for each in (*call.early, raw)]
                call.early.clear()
            call.arguments.append(piece.arguments)
        return passed

    @property
    def hands_back(self) -> bool:
        """Whether a call is the caller's."""
        return self._passed > 0

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls that are ours, in the order in which they began."""
        return tuple(ToolCall(c.id, c.name, "".join(c.arguments)) for c in self._open if not c.is_callers)

    def _find(self, piece: Called) -> _Open:
        """Return the call that ``piece`` is of, a new one if it begins one."""
        index = piece.index
        if index is None:
            begins = bool(piece.name) or not self._open
            index = len(self._open) if begins else self._open[-1].index
        for call in reversed(self._open):
            if call.index == index and not (piece.id and call.id and piece.id != call.id):
                call.id = call.id or piece.id or ""
                return call
        self._open.append(_Open(index, piece.id or ""))
        return self._open[-1]

    def _settle(self, call: _Open, piece: Called) -> None:
        """Find out whose the call is, if ``piece`` tells."""
        call.is_callers = piece.is_callers(self.own)
        if call.is_callers:
            call.place, self._passed = self._passed, self._passed + 1
        call.name = piece.name


def _renumbered(raw: msgspec.Raw, index: int) -> msgspec.Raw:
    members: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({**members, "index": index}))
