"""Vectors in a server's answer: put in order, encoded as wanted, shortened, put together again. Pure.

Source: OpenAI's API description. Base64 is of little-endian float32.
"""

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Iterable, Sequence

import msgspec
from attrs import field, frozen

from trillm.dialects.members import NOT_JSON
from trillm.errors import UpstreamFailed


class _Entry(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Entry]
    usage: _Usage | None = None


@frozen
class Vectors:
    """What a server said.

    Args:
        encoded: one for each input it was sent, in that order, as it encoded them.
        tokens: that it read, if it tells.
    """

    encoded: Sequence[msgspec.Raw] = field(repr=False)
    tokens: int | None = None


_whole = msgspec.json.Decoder(_Answer)
_floats = msgspec.json.Decoder(list[float])
_text = msgspec.json.Decoder(str)


def read_vectors(body: bytes, inputs: int) -> Vectors:
    """Read a server's whole answer.

    Args:
        body: of its 200.
        inputs: how many it was sent.

    Raises:
        UpstreamFailed: it is none, or not one of these inputs.
    """
    try:
        answer = _whole.decode(body)
    except NOT_JSON as exc:
        raise UpstreamFailed(f"the server's answer holds no embeddings: {exc}") from exc
    if len(answer.data) != inputs:
        raise UpstreamFailed(f"the server embedded {len(answer.data)} of {inputs} inputs")
    ordered = {
        place if entry.index is None else entry.index: entry.embedding for place, entry in enumerate(answer.data)
    }
    if ordered.keys() != set(range(inputs)):
        raise UpstreamFailed("the server embedded an input that it was not sent, or one twice")
    usage = answer.usage or _Usage()
    tokens = usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens
    known = tokens is not None and 0 <= tokens < 2**53
    return Vectors([ordered[place] for place in range(inputs)], tokens if known else None)


def floats_of(encoded: msgspec.Raw) -> list[float]:
    """Return a vector of whichever encoding.

    Raises:
        UpstreamFailed: it is none.
    """
    try:
        if not _is_base64(encoded):
            return _floats.decode(encoded)
        values = array("f", base64.b64decode(_text.decode(encoded), validate=True))
    except (*NOT_JSON, binascii.Error, ValueError) as exc:
        raise UpstreamFailed(f"the server's answer holds what is no vector: {exc}") from exc
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def encoded_as(encoding: str, encoded: msgspec.Raw, dimensions: int | None = None) -> msgspec.Raw:
    """Return a vector in the encoding that is wanted: as it is, if it is so already.

    Args:
        encoding: ``float`` or ``base64``.
        encoded: as the server encoded it.
        dimensions: what to shorten it to, or None.
    """
    if dimensions is None and _is_base64(encoded) == (encoding == "base64"):
        return encoded
    values = floats_of(encoded)
    if dimensions is not None:
        values = shortened(values, dimensions)
    return msgspec.Raw(msgspec.json.encode(_base64(values) if encoding == "base64" else values))


def shortened(values: Sequence[float], dimensions: int) -> list[float]:
    """Return the first ``dimensions`` of a vector, brought to length 1 again (as for Matryoshka embeddings)."""
    first = values[:dimensions]
    length = math.hypot(*first)
    return [value / length for value in first] if length else list(first)


def write_vectors(encoded: Iterable[msgspec.Raw], *, model: str, tokens: int | None) -> bytes:
    """Return OpenAI's answer."""
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(encoded)]
    usage = {"prompt_tokens": tokens or 0, "total_tokens": tokens or 0}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _is_base64(encoded: msgspec.Raw) -> bool:
    return bytes(memoryview(encoded)[:1]) == b'"'


def _base64(values: Sequence[float]) -> str:
    packed = array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode("ascii")
