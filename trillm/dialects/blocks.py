"""An answer as a row of blocks (thoughts, text, calls), out of a whole chat completion or of a stream of chunks.

Other dialects tell an answer block by block, one after the other; a chat stream just sends pieces. :class:`Retelling`
is the state machine between: frames in, the other dialect's events out, exactly one ending. Sans I/O.
"""

import abc
import enum
from collections.abc import Iterable
from typing import Any

import msgspec
from attrs import define, field

from trillm.dialects.calls import CallNumbers
from trillm.dialects.chat import Chat, Choice, Message, ToolCall, Usage, read_chunk
from trillm.dialects.reading import NOT_JSON
from trillm.errors import TrillmError, UpstreamFailed
from trillm.sse import Frame, Kind


class Is(enum.Enum):
    """What a block is."""

    THOUGHT = "thought"
    TEXT = "text"
    REFUSAL = "refusal"
    CALL = "call"


@define(eq=False)
class Block:
    """One block, growing.

    Args:
        kind: what it is.
        index: its place in the answer, from 0.
        call_id: of a call.
        name: of the called function.
        pieces: its text; of a call, the arguments as JSON.
    """

    kind: Is
    index: int = 0
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(factory=list)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)

    @property
    def complete(self) -> bool:
        """Whether nothing sensible can follow: the arguments of a call are whole."""
        return self.kind is not Is.CALL or is_json(self.text)


def is_json(text: str) -> bool:
    """Tell whether ``text`` is one whole JSON value."""
    try:
        msgspec.json.decode(text)
    except NOT_JSON:
        return False
    return True


def event(name: str, value: dict[str, Any]) -> bytes:
    """Return a typed event as bytes: its name, which is its ``type`` too, and its data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"type": name, **value}))


def ending(choice: Choice, *, called: bool) -> str:
    """Return why an answer ended, as chat completions name it; some servers say ``stop`` after calls."""
    reason = choice.finish_reason or "stop"
    return "tool_calls" if called and reason in {"stop", "function_call"} else reason


def call_id(call: ToolCall, answer_id: str, number: int) -> str:
    """Return a call's id; one is made up where a server gives none, for the result has to name it."""
    return call.id or f"call_{answer_id}_{number}"


def bare_id(chat: Chat) -> str:
    """Return the answer's id without the prefix that says what kind of answer it is."""
    return (chat.id or "").removeprefix("chatcmpl-")


def whole_blocks(message: Message, answer_id: str) -> list[Block]:
    """Return the blocks of a whole message, in the order in which they are told."""
    told = ((Is.THOUGHT, message.thought), (Is.TEXT, message.text), (Is.REFUSAL, message.refusal or ""))
    blocks = [Block(kind, pieces=[text]) for kind, text in told if text]
    for number, call in enumerate(message.tool_calls or ()):
        name = call.function.name or ""
        blocks.append(Block(Is.CALL, 0, call_id(call, answer_id, number), name, [call.arguments]))
    for index, block in enumerate(blocks):
        block.index = index
    return blocks


@define(eq=False)
class Retelling(abc.ABC):
    """Tells a chat stream in another dialect, see the module's docstring.

    Subclasses say how it begins, how a block opens, grows and closes, and how it all ends, by :meth:`_tell`.
    """

    usage: Usage = field(factory=Usage, init=False)
    _choice: Choice = field(factory=Choice, init=False)
    _chat: Chat = field(factory=Chat, init=False)
    _out: list[bytes] = field(factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    #: Every block that was opened, in order; the last may be open.
    _blocks: list[Block] = field(factory=list, init=False)
    _open: Block | None = field(default=None, init=False)
    _calls: dict[int, Block] = field(factory=dict, init=False)
    _numbers: CallNumbers = field(factory=CallNumbers, init=False)

    def feed(self, frame: Frame) -> bytes:
        """Take a frame; return the events it makes, maybe none.

        Raises:
            UpstreamFailed: it is no chunk of a chat completion, or one that makes no sense.
        """
        if frame.kind is Kind.COMMENT:
            return frame.raw
        if frame.kind is Kind.DONE:
            return self.finish()
        if frame.kind is not Kind.MALFORMED:
            self._read(read_chunk(_data(frame.raw)))
        return self._told()

    def finish(self) -> bytes:
        """The server has finished: return what is still to be told, and the ending."""
        if not self._ended:
            self._begin_once()
            self._close_all()
            self._ended = True
            self._end(ending(self._choice, called=bool(self._calls)))
        return self._told()

    def fail(self, error: TrillmError) -> bytes:
        """Something went wrong: return the ending that says so, once."""
        if not self._ended:
            self._ended = True
            self._fail(error)
        return self._told()

    def _read(self, chat: Chat) -> None:
        if not self._begun:
            self._chat = chat
        self._begin_once()
        if chat.usage is not None:
            self.usage = chat.usage
        for choice in chat.choices:
            if not choice.index:  # nobody can ask for a second one
                self._take(choice)

    def _take(self, choice: Choice) -> None:
        if choice.delta is not None:
            self._take_delta(choice.delta)
        if choice.finish_reason:
            self._choice = choice
            self._close_all()

    def _take_delta(self, delta: Message) -> None:
        if thought := delta.thought:
            self._grow(self._block(Is.THOUGHT), thought)
        if text := delta.text:
            self._grow(self._block(Is.TEXT), text)
        if delta.refusal:
            self._grow(self._block(Is.REFUSAL), delta.refusal)
        for call in delta.tool_calls or ():
            self._take_call(call)

    def _begin_once(self) -> None:
        if not self._begun:
            self._begun = True
            self._begin()

    def _block(self, kind: Is) -> Block:
        """Return the open block if it is of that kind, else open one."""
        if self._open is None or self._open.kind is not kind:
            return self._opened(Block(kind))
        return self._open

    def _take_call(self, piece: ToolCall) -> None:
        number = self._numbers.number(piece.index, piece.id, named=bool(piece.function.name))
        call = self._calls.get(number)
        if call is None:
            call = Block(Is.CALL, 0, call_id(piece, bare_id(self._chat), number), piece.function.name or "")
            self._calls[number] = call
        if call is self._open:
            self._grow(call, piece.arguments)
            return
        if call in self._blocks and piece.arguments.strip():
            raise UpstreamFailed("the server's stream went on with a tool call that was over")
        call.pieces.append(piece.arguments)
        # Only one block can be open: what comes of another call before this one is whole has to wait.
        if self._open is None or self._open.complete:
            self._tell_whole(call)

    def _close_all(self) -> None:
        for call in self._calls.values():
            if call not in self._blocks:
                self._tell_whole(call)
        self._close_open()

    def _tell_whole(self, block: Block) -> None:
        """Open a block that has begun already, and tell what there is of it."""
        pieces, block.pieces = block.pieces, []
        self._grow(self._opened(block), "".join(pieces))

    def _opened(self, block: Block) -> Block:
        self._close_open()
        block.index = len(self._blocks)
        self._blocks.append(block)
        self._open = block
        self._open_block(block)
        return block

    def _close_open(self) -> None:
        if self._open is not None:
            block, self._open = self._open, None
            self._close_block(block)

    def _grow(self, block: Block, text: str) -> None:
        if text:
            block.pieces.append(text)
            self._grow_block(block, text)

    def _tell(self, name: str, value: dict[str, Any]) -> None:
        self._out.append(event(name, value))

    def _told(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    @abc.abstractmethod
    def _begin(self) -> None:
        """Tell the beginning."""

    @abc.abstractmethod
    def _open_block(self, block: Block) -> None:
        """Tell that a block begins."""

    @abc.abstractmethod
    def _grow_block(self, block: Block, text: str) -> None:
        """Tell a piece of the open block."""

    @abc.abstractmethod
    def _close_block(self, block: Block) -> None:
        """Tell that a block is whole."""

    @abc.abstractmethod
    def _end(self, reason: str) -> None:
        """Tell the good ending; ``reason`` is a chat's ``finish_reason``."""

    @abc.abstractmethod
    def _fail(self, error: TrillmError) -> None:
        """Tell the bad one."""


def _data(raw: bytes) -> bytes:
    """Return the data of a frame as the scanner leaves it: lines that begin with ``data:``."""
    if raw.count(b"\n") == 2:
        return raw[5:]
    return b"\n".join(_values(raw))


def _values(raw: bytes) -> Iterable[bytes]:
    return (line[5:].removeprefix(b" ") for line in raw.split(b"\n") if line)
