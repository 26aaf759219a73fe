"""Several whole turns as one answer: the first one's id, everything said, the usage of all. Pure."""

from collections.abc import Collection
from typing import Any

import msgspec
from attrs import define, field

from trillm.errors import UpstreamFailed
from trillm.gateway.tools.merge import GAP, IDENTITY
from trillm.gateway.tools.turn import Turn, callers_calls, read_turn
from trillm.gateway.tools.usage import added

_Members = dict[str, msgspec.Raw]
_encode = msgspec.json.encode


@define
class Gather:
    """See the module's docstring.

    Args:
        own: the names of the caller's own tools.
    """

    own: Collection[str]
    _identity: _Members = field(factory=dict, init=False)
    _usage: Any = field(default=None, init=False)
    _spoken: dict[str, str] = field(factory=dict, init=False)
    _members: _Members = field(factory=dict, init=False)
    _turn: Turn = field(factory=Turn, init=False)

    def take(self, body: bytes) -> Turn:
        """Take a turn's answer, a JSON object; return what it says.

        Raises:
            UpstreamFailed: it is no chat completion.
        """
        self._turn = read_turn(body, self.own)
        self._members = msgspec.json.decode(body, type=_Members)
        if not self._identity:
            self._identity = {name: self._members[name] for name in IDENTITY if name in self._members}
        return self._turn

    def go_on(self) -> None:
        """The turn was not the answer; another follows."""
        self._usage = added(self._usage, self._own_usage())
        self._spoken = self._texts()

    def end(self, **about: Any) -> bytes:
        """Return the answer: the turn was the last. ``about`` is trillm's own, if anything."""
        members: dict[str, Any] = {**self._members, **self._identity}
        usage = added(self._usage, self._own_usage())
        if usage is not None:
            members["usage"] = usage
        if about:
            members["trillm"] = about
        try:
            members["choices"] = self._choices()
        except msgspec.DecodeError as exc:
            raise UpstreamFailed(f"the server's answer is no chat completion: {exc}") from exc
        return _encode(members)

    def _own_usage(self) -> Any:
        return msgspec.json.decode(self._members.get("usage", b"null"))

    def _texts(self) -> dict[str, str]:
        """Return what all turns have said, by member of the message."""
        said, now = self._spoken, self._turn.texts
        return {
            name: GAP.join(texts[name] for texts in (said, now) if name in texts)
            for name in dict.fromkeys([*said, *now])
        }

    def _choices(self) -> list[dict[str, Any]]:
        choices: list[dict[str, Any]] = msgspec.json.decode(
            self._members.get("choices", b"[]"), type=list[dict[str, msgspec.Raw]]
        )
        for choice in [choice for choice in choices[:1] if "message" in choice]:
            message = msgspec.json.decode(choice["message"], type=dict[str, msgspec.Raw])
            choice["message"] = {**self._without_ours(message), **self._texts()}
        return choices

    def _without_ours(self, message: _Members) -> _Members:
        """Return ``message`` without the calls that are not the caller's."""
        if not self._turn.calls:
            return message
        calls = callers_calls(msgspec.json.decode(message["tool_calls"], type=list[msgspec.Raw]), self.own)
        others = {name: value for name, value in message.items() if name != "tool_calls"}
        return {**others, "tool_calls": msgspec.Raw(_encode(calls))} if calls else others
