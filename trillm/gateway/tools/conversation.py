"""The body of each turn's request: the caller's, with the turns before at the end of its messages. Pure.

What is not replaced stays byte for byte as it came: prompts and images are neither unpacked nor looked at.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from attrs import define, field

#: Between the caller and us.
_OURS = ("max_tool_calls",)


@define
class Conversation:
    """What has been said so far.

    Args:
        members: of the caller's body.
    """

    members: dict[str, msgspec.Raw] = field(repr=False)
    _messages: bytearray = field(init=False, repr=False)
    _comma: bytes = field(init=False)

    @classmethod
    def of(cls, body: bytes) -> "Conversation":
        """Begin with a caller's ``body``, whose ``messages`` are known to be an array."""
        return cls(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))

    def __attrs_post_init__(self) -> None:
        for name in _OURS:
            self.members.pop(name, None)
        # Without the closing bracket, so that adding a message copies none of the others.
        self._messages = bytearray(bytes(self.members["messages"])[:-1])
        self._comma = b"," if self._messages[1:].strip() else b""

    def add(self, *messages: Mapping[str, Any]) -> None:
        """Append messages."""
        for message in messages:
            self._messages += self._comma + msgspec.json.encode(message)
            self._comma = b","

    def body(self, changed: Mapping[str, Any]) -> bytes:
        """Return the body with the messages so far and the ``changed`` members; one that is None is left out."""
        members: dict[str, Any] = {**self.members, "messages": msgspec.Raw(bytes(self._messages) + b"]"), **changed}
        return msgspec.json.encode({name: value for name, value in members.items() if value is not None})
