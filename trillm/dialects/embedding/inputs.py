"""What is to be embedded: counted without unpacking it, and taken apart where it has to be. Pure.

Source: OpenAI's API description. ``input`` is a text, texts, the token ids of a text, or those of several.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from attrs import field, frozen

from trillm.dialects.members import read, read_members, take
from trillm.errors import BadRequest

#: The most inputs one call may have; OpenAI's limit.
MAX_INPUTS = 2048

_EMPTY = re.compile(rb'\[\s*\]|""')
_IDS = re.compile(rb"\[\s*[-\d]")
_LISTS_OF_IDS = re.compile(rb"\[\s*\[")
_TEXTS = re.compile(rb'\[\s*"')
_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*"', re.DOTALL)

_several = msgspec.json.Decoder(list[msgspec.Raw])
_ids = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0)]])
_encoding = msgspec.json.Decoder(Literal["float", "base64"])
_dimensions = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=1)])


@frozen
class Embedding:
    """A whole request.

    Args:
        inputs: n_inputs texts or arrays of token ids, as they came.
        has_ids: whether they are token ids.
        encoding: how the vectors are wanted: ``float`` or ``base64`` (little-endian float32).
        dimensions: how long the vectors are to be, or None for as they are.
        options: members for the server, as they came.
    """

    inputs: tuple[msgspec.Raw, ...] = field(repr=False)
    has_ids: bool = False
    encoding: str = "float"
    dimensions: int | None = None
    options: Mapping[str, msgspec.Raw] = field(factory=dict, repr=False)


def read_embedding(body: bytes) -> Embedding:
    """Take a request apart.

    Raises:
        BadRequest: with the member that is wrong as ``param``.
    """
    members = read_members(body)
    raw = members.pop("input", msgspec.Raw(b""))
    check_inputs(raw)
    encoding = take(members, "encoding_format", _encoding, "'float' or 'base64'") or "float"
    dimensions = take(members, "dimensions", _dimensions, "a whole number from 1")
    inputs = _taken_apart(raw)
    return Embedding(inputs, is_ids(raw), encoding, dimensions, members)


def _taken_apart(raw: msgspec.Raw) -> tuple[msgspec.Raw, ...]:
    if is_text(raw) or _IDS.match(memoryview(raw)):
        return (raw,)
    several: list[msgspec.Raw] = read(raw, "input", _several, "a string or an array")
    return tuple(several)


def is_text(raw: msgspec.Raw) -> bool:
    """Tell whether ``raw`` is a text."""
    return bytes(memoryview(raw)[:1]) == b'"'


def is_ids(raw: msgspec.Raw) -> bool:
    """Tell whether an ``input`` is made of token ids."""
    view = memoryview(raw)
    return bool(_IDS.match(view) or _LISTS_OF_IDS.match(view))


def token_ids(raw: msgspec.Raw) -> list[int]:
    """Return the token ids of one input.

    Raises:
        BadRequest: it is anything else.
    """
    return read(raw, "input", _ids, "texts, or arrays of token ids")


def check_inputs(raw: msgspec.Raw) -> None:
    """Refuse an ``input`` with nothing in it, or with too much.

    Raises:
        BadRequest: with the reason.
    """
    if _EMPTY.fullmatch(memoryview(raw)):
        raise BadRequest("'input' must not be empty: give it a text, or an array with at least one.", param="input")
    if has_more_than(MAX_INPUTS, raw):
        raise BadRequest(f"'input' may have at most {MAX_INPUTS} items; split them over several calls.", param="input")


def has_more_than(most: int, raw: msgspec.Raw) -> bool:
    """Tell whether an ``input`` has more than ``most`` items: quickly where it cannot, and never as objects."""
    view = memoryview(raw)
    if len(view) <= 2 * most:
        return False
    if _LISTS_OF_IDS.match(view):
        return bytes(view).count(b"[") - 1 > most
    if not _TEXTS.match(view) or bytes(view).count(b'"') <= 2 * most:
        return False
    return any(number >= most for number, _ in enumerate(_TEXT.finditer(view)))


def write_request(embedding: Embedding, inputs: list[Any], **members: Any) -> bytes:
    """Return a request for some of the inputs, with ``members`` of its own; those that are None are left out."""
    given = {name: value for name, value in members.items() if value is not None}
    return msgspec.json.encode({**embedding.options, **given, "input": inputs})
