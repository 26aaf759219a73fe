"""What the model said in one turn: its text, the tools it calls that are ours to run, and whether it called others.

A call belongs to the caller if the caller brought a tool of that name, or if it is no function call at all. Every other
is ours, also one of a name that nobody offered: the model is told so. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from attrs import field, frozen

from trillm.errors import UpstreamFailed

#: The members of a message that hold text: vLLM and Ollama say ``reasoning``, llama.cpp ``reasoning_content``.
TEXTS = ("content", "reasoning", "reasoning_content")
#: The server stopped before the model had finished: the last call may be a torso.
CUT_SHORT = frozenset({"length", "content_filter"})


@frozen
class ToolCall:
    """A call that is ours to run.

    Args:
        id: as the server gave it, ``""`` if it did not; what is to be run has one that is unique in the request.
        name: of the function.
        arguments: as the model wrote them, JSON or not.
    """

    id: str
    name: str
    arguments: str = field(repr=False)


@frozen
class Turn:
    """See the module's docstring.

    Args:
        texts: by member of the message, empty ones left out.
        calls: ours to run, in order.
        hands_back: whether the caller is asked for something too.
        finish_reason: as the server says.
    """

    texts: Mapping[str, str] = field(factory=dict, repr=False)
    calls: tuple[ToolCall, ...] = ()
    hands_back: bool = False
    finish_reason: str | None = None

    def message(self) -> dict[str, Any]:
        """Return it as a message of the next turn's request. What is no JSON would be refused there."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _valid(call.arguments)}}
            for call in self.calls
        ]
        return {"role": "assistant", "content": None, **self.texts, "tool_calls": calls}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class Called(msgspec.Struct):
    """A tool call, whole or the first piece of one, as far as it is looked at."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None

    def is_callers(self, own: Collection[str]) -> bool | None:
        """Tell whose it is; None if that cannot be told yet."""
        if self.type not in {None, "function"}:
            return True
        return self.name in own if self.name else None

    @property
    def name(self) -> str:
        """The function's name, ``""`` where there is none (yet)."""
        return (self.function and self.function.name) or ""

    @property
    def arguments(self) -> str:
        """The arguments as text: some servers send them as an object."""
        given = self.function.arguments if self.function else None
        if given is None or isinstance(given, str):
            return given or ""
        return msgspec.json.encode(given).decode()


class _Message(msgspec.Struct):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None


decode_called = msgspec.json.Decoder(Called).decode
_decode = msgspec.json.Decoder(_Answer).decode


def read_turn(body: bytes, own: Collection[str]) -> Turn:
    """Read a whole answer.

    Args:
        body: a JSON object.
        own: the names of the caller's own tools.

    Raises:
        UpstreamFailed: it is not of the shape of a chat completion.
    """
    try:
        choices = _decode(body).choices
        choice = choices[0] if choices else _Choice()
        message = choice.message or _Message()
        called = [decode_called(raw) for raw in message.tool_calls or ()]
    except msgspec.ValidationError as exc:
        raise UpstreamFailed(f"the server's answer is no chat completion: {exc}") from exc
    texts = {name: value for name in TEXTS if isinstance(value := getattr(message, name), str) and value}
    ours = [call for call in called if not call.is_callers(own)]
    calls = tuple(ToolCall(call.id or "", call.name, call.arguments) for call in ours)
    return Turn(texts, calls, len(ours) < len(called), choice.finish_reason)


def callers_calls(raws: Sequence[msgspec.Raw], own: Collection[str]) -> list[msgspec.Raw]:
    """Return those of a message's tool calls that are the caller's, as they came."""
    return [raw for raw in raws if decode_called(raw).is_callers(own)]


def _valid(arguments: str) -> str:
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "{}"
    return arguments
