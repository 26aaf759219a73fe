"""The members of a JSON object, each taken out with its type; what is wrong with one is said with its place."""

import re
from typing import Any, TypeVar

import msgspec

from trillm.errors import BadRequest

T = TypeVar("T")

Members = dict[str, msgspec.Raw]

#: What decoding foreign bytes can raise.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PLACE = re.compile(r"at `\$([^`]*)`")
_members = msgspec.json.Decoder(Members)


def read_members(body: bytes) -> Members:
    """Return an object's members, their values left as they are; see :func:`without_nulls`.

    Raises:
        BadRequest: it is no object.
    """
    try:
        members = _members.decode(body)
    except NOT_JSON as exc:
        raise BadRequest(f"The request body is not a JSON object: {exc}") from exc
    return without_nulls(members)


def without_nulls(members: Members) -> Members:
    """Return a copy of the members without those that are null: that is as good as absent."""
    return {name: value for name, value in members.items() if not is_null(value)}


def is_null(value: msgspec.Raw) -> bool:
    """Tell whether a value is null, without a copy of a long one."""
    return len(memoryview(value)) == 4 and bytes(value) == b"null"


def take(members: Members, name: str, decoder: "msgspec.json.Decoder[T]", expected: str) -> T | None:
    """Take a member out of ``members``, or return None if it is not there.

    Raises:
        BadRequest: it is not of the decoder's type; ``expected`` says what it must be.
    """
    raw = members.pop(name, None)
    return None if raw is None else read(raw, name, decoder, expected)


def read(raw: Any, name: str, decoder: "msgspec.json.Decoder[T]", expected: str) -> T:
    """Return a value of the decoder's type.

    Raises:
        BadRequest: it is of another; the message says where, e.g. ``documents[3]``.
    """
    try:
        return decoder.decode(raw)
    except NOT_JSON as exc:
        inside = _PLACE.search(str(exc))
        place = f" (at {name}{inside[1]})" if inside and inside[1] else ""
        raise BadRequest(f"'{name}' must be {expected}{place}.", param=name) from exc


def missing(name: str) -> BadRequest:
    """Return the refusal of a request without a member that it needs."""
    return BadRequest(f"Missing required parameter: '{name}'.", param=name)
