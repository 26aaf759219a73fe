"""Several streamed turns as one stream: one id, one role, one finish_reason, one usage. Sans-I/O.

Text goes through as it comes, for nobody knows yet whether the turn will end with calls. Pieces of calls that are ours
stay here, and so does a turn's end, until it is decided what follows.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from attrs import define, field

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.fold import Fold
from trillm.gateway.tools.turn import TEXTS, Turn
from trillm.gateway.tools.usage import added
from trillm.sse import DONE, Kind, Scanner

#: Between the texts of two turns.
GAP = "\n\n"

IDENTITY = ("id", "object", "created", "model")
_NOTHING = (b"null", b'""', b"[]", b"{}")
_Members = dict[str, msgspec.Raw]

_encode = msgspec.json.encode


@define
class _Part:
    """One turn while it comes."""

    fold: Fold
    scanner: Scanner = field(factory=Scanner)
    texts: dict[str, list[str]] = field(factory=dict)
    finish_reason: str | None = None
    usage: Any = None
    #: Its last frames: the members and the choice of the one with the finish_reason, the members of usage alone.
    finish: tuple[_Members, _Members] | None = None
    tail: list[_Members] = field(factory=list)


@define
class Merge:
    """See the module's docstring.

    Args:
        own: the names of the caller's own tools.
    """

    own: Collection[str]
    #: Whether anything that is to be seen has been returned.
    visible: bool = field(default=False, init=False)
    _identity: _Members = field(factory=dict, init=False)
    _usage: Any = field(default=None, init=False)
    _spoken: set[str] = field(factory=set, init=False)
    _has_role: bool = field(default=False, init=False)
    _part: _Part = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._part = _Part(Fold(self.own))

    def feed(self, data: bytes) -> bytes:
        """Take frames of the turn, whole ones; return the bytes that may go to the caller now.

        Raises:
            UpstreamFailed: a frame is no piece of a chat completion.
        """
        out = bytearray()
        for frame in self._part.scanner.feed(data):
            if frame.kind is Kind.COMMENT:
                out += frame.raw if self.visible else b""
            elif frame.kind is not Kind.DONE:
                out += self._frame(frame.raw)
        return bytes(out)

    def turn(self) -> Turn:
        """Return what the turn said, now that it has ended."""
        part = self._part
        texts = {name: "".join(pieces) for name, pieces in part.texts.items()}
        return Turn(texts, part.fold.calls(), part.fold.hands_back, part.finish_reason)

    def go_on(self) -> None:
        """The turn was not the answer; another follows."""
        self._usage = added(self._usage, self._part.usage)
        self._spoken |= self._part.texts.keys()
        self._part = _Part(Fold(self.own))

    def end(self) -> bytes:
        """Return the end of the stream: the turn was the answer."""
        part, out = self._part, bytearray()
        if part.finish is not None:
            members, choice = part.finish
            out += self._chunk(members, choice, {}, finish_reason=part.finish_reason)
        for members in part.tail:
            out += self._event(members)
        return bytes(out) + DONE

    def about(self, **members: Any) -> bytes:
        """Return a frame of trillm's own, without choices."""
        return b"data: " + _encode({**self._identity, "choices": [], "trillm": members}) + b"\n\n"

    def _frame(self, raw: bytes) -> bytes:
        """Take one frame that carries JSON; return what the caller may see of it."""
        try:
            members: _Members = msgspec.json.decode(_payload(raw), type=_Members)
            choices = msgspec.json.decode(members.get("choices", b"null"), type=list[_Members] | None)
            self._note(members)
            if choices:
                return self._choice(members, choices[0])
        except msgspec.DecodeError as exc:
            raise UpstreamFailed(f"the server's stream is no chat completion: {exc}") from exc
        if choices is None and "usage" not in members:
            self.visible = True
            return raw  # of no shape that we know
        self._part.tail.append(members)
        return b""

    def _note(self, members: _Members) -> None:
        if not self._identity:
            self._identity = {name: members[name] for name in IDENTITY if name in members}
        usage = msgspec.json.decode(members.get("usage", b"null"))
        if usage is not None:
            self._part.usage = usage

    def _choice(self, members: _Members, choice: _Members) -> bytes:
        delta = msgspec.json.decode(choice.get("delta", b"null"), type=_Members | None) or {}
        reason = msgspec.json.decode(choice.get("finish_reason", b"null"), type=str | None)
        said = {name: value for name, value in delta.items() if name != "role" and bytes(value) not in _NOTHING}
        if reason:
            self._part.finish_reason = reason
            self._part.finish = (members, choice)
        shown = self._delta(said)
        return self._chunk(members, choice, shown, finish_reason=None) if shown else b""

    def _delta(self, delta: _Members) -> _Members:
        """Return what the caller may see of a delta."""
        if "tool_calls" in delta:
            passed = self._part.fold.take(msgspec.json.decode(delta.pop("tool_calls"), type=list[msgspec.Raw]))
            if passed:
                delta["tool_calls"] = msgspec.Raw(_encode(passed))
        for name in TEXTS:
            if name in delta:
                delta[name] = self._text(name, delta[name])
        return delta

    def _text(self, name: str, raw: msgspec.Raw) -> msgspec.Raw:
        """Note a piece of text; the first of a turn is set apart from what earlier turns have said."""
        text = msgspec.json.decode(raw)
        if not isinstance(text, str):
            return raw
        pieces = self._part.texts.setdefault(name, [])
        pieces.append(text)
        if len(pieces) == 1 and name in self._spoken:
            return msgspec.Raw(_encode(GAP + text))
        return raw

    def _chunk(
        self, members: _Members, choice: _Members, delta: Mapping[str, Any], *, finish_reason: str | None
    ) -> bytes:
        role = {} if self._has_role else {"role": "assistant"}
        self.visible = self._has_role = True
        choices = [{**choice, "delta": {**role, **delta}, "finish_reason": finish_reason}]
        return self._event({**members, "choices": msgspec.Raw(_encode(choices))})

    def _event(self, members: _Members) -> bytes:
        shown: dict[str, Any] = {**members, **self._identity}
        if bytes(members.get("usage", b"null")) != b"null":
            shown["usage"] = added(self._usage, msgspec.json.decode(members["usage"]))
        return b"data: " + _encode(shown) + b"\n\n"


def _payload(raw: bytes) -> bytes:
    return b"\n".join([line.removeprefix(b"data:") for line in raw.strip().split(b"\n")])
