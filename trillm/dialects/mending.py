"""Chat completions as OpenAI describes them, where servers leave something out or call it otherwise. Pure.

Answers that need nothing are recognised by a search for a few bytes and stay as they are. A key is found so for sure:
inside a JSON string its quotes would be escaped.

What is mended: ``refusal`` and ``logprobs``, which OpenAI's description requires and many leave out; thoughts, which
are ``reasoning`` to some servers and clients and ``reasoning_content`` to others; tool calls without a sane ``index``.
"""

import re
from typing import Any

import msgspec
from attrs import define, field

from trillm.dialects.calls import CallNumbers
from trillm.dialects.reading import NOT_JSON

Members = dict[str, msgspec.Raw]

_NULL = msgspec.Raw(b"null")
_THOUGHT = re.compile(rb'([{,]\s*)"(reasoning|reasoning_content)"\s*:\s*("(?:[^"\\]|\\.)*")')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_OTHER = {b"reasoning": b"reasoning_content", b"reasoning_content": b"reasoning"}

_members = msgspec.json.Decoder(Members).decode
_choices = msgspec.json.Decoder(list[Members]).decode


class _Function(msgspec.Struct):
    name: Any = None


class _Piece(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    tool_calls: list[_Piece] | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_chunk = msgspec.json.Decoder(_Chunk).decode


def mended(body: bytes) -> bytes:
    """Return a whole reply with the keys that its clients may rely on."""
    if b'"refusal"' in body and b'"logprobs"' in body and b'"reasoning' not in body:
        return body
    try:
        reply = _members(body)
        choices = [_whole(choice) for choice in _choices(reply["choices"])]
    except (KeyError, *NOT_JSON):
        return body  # no chat completion; that is for others to say
    reply["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(reply) if choices else body


def _whole(choice: Members) -> Members:
    message = _members(choice["message"])
    thought = message.get("reasoning") or message.get("reasoning_content")
    thoughts = {} if thought is None else {"reasoning": thought, "reasoning_content": thought}
    filled = {"refusal": _NULL, **thoughts, **message}
    return {"logprobs": _NULL, **choice, "message": msgspec.Raw(msgspec.json.encode(filled))}


@define
class Mender:
    """Mends the frames of one stream, in their order."""

    _numbers: dict[int | None, CallNumbers] = field(factory=dict, init=False)

    def mend(self, frame: bytes) -> bytes:
        """Return a frame with thoughts under both names and tool calls that can be told apart."""
        if b'"reasoning' in frame:
            frame = _both_thoughts(frame)
        return self._numbered(frame) if b'"tool_calls"' in frame else frame

    def _numbered(self, frame: bytes) -> bytes:
        try:
            said = _chunk(frame[5:]).choices
        except NOT_JSON:
            return frame
        numbers = [[self._number(choice, piece) for piece in _pieces(choice)] for choice in said]
        if numbers == [[piece.index for piece in _pieces(choice)] for choice in said]:
            return frame
        value = msgspec.json.decode(frame[5:])
        for choice, right in zip(value["choices"], numbers, strict=True):
            for piece, number in zip((choice.get("delta") or {}).get("tool_calls") or (), right, strict=True):
                piece["index"] = number
        return b"data: " + msgspec.json.encode(value) + b"\n\n"

    def _number(self, choice: _Choice, piece: _Piece) -> int:
        numbers = self._numbers.setdefault(choice.index, CallNumbers())
        index = piece.index if isinstance(piece.index, int) else None
        call_id = piece.id if isinstance(piece.id, str) else None
        return numbers.number(index, call_id, named=bool(piece.function and piece.function.name))


def _pieces(choice: _Choice) -> list[_Piece]:
    return (choice.delta.tool_calls if choice.delta else None) or []


def _both_thoughts(frame: bytes) -> bytes:
    found = _THOUGHT.search(frame)
    if found is None:
        return frame
    before, name, thought = found.groups()
    other = _OTHER[name]
    if b'"%b"' % other in frame:
        return frame  # it has both
    return b'%b%b"%b":%b,%b' % (frame[: found.start()], before, other, thought, frame[found.start() + len(before) :])


def renamed_thoughts(body: bytes, name: str) -> bytes:
    """Return a request whose messages call their thoughts by the ``name`` that a server reads."""
    other = _OTHER[name.encode()].decode()
    if b'"%b"' % other.encode() not in body:
        return body
    try:
        request = _members(body)
        messages = _choices(request["messages"])
    except (KeyError, *NOT_JSON):
        return body  # no chat request; that is for the server to say
    for message in messages:
        thought = message.pop(other, None)
        if thought is not None:
            message.setdefault(name, thought)
    request["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    return msgspec.json.encode(request)


def counted(body: bytes) -> bytes:
    """Return a streamed request without ``stream_options`` that asks for its tokens to be counted."""
    begin = body.index(b"{") + 1
    return b'%b"stream_options":{"include_usage":true},%b' % (body[:begin], body[begin:])


def only_counts(frame: bytes) -> bool:
    """Tell whether a frame with token counts has nothing else."""
    return _NO_CHOICES.search(frame) is not None
