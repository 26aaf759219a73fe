"""JSON of a known shape out of a caller's bytes; what is wrong with them is said with its place."""

import re
from typing import Any, TypeVar

import msgspec

from trillm.errors import BadRequest

T = TypeVar("T")

#: What decoding foreign bytes can raise: msgspec lets Python's own errors for bad UTF-8 and deep nesting through.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def read(body: bytes, decoder: "msgspec.json.Decoder[T]", *, at: str = "") -> T:
    """Return what ``decoder`` makes of ``body``, which stands at the place ``at`` of the request.

    Raises:
        BadRequest: it is not of that shape; message and ``param`` name the place, e.g. ``messages[0].content``.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        problem = str(exc)
        place = _PLACE.search(problem)
        where = _joined(at, place[1] if place else "")
        raise BadRequest(f"{where or 'The body'}: {_PLACE.sub('', problem)}.", param=where or None) from exc
    except NOT_JSON as exc:
        raise BadRequest(f"The body is not valid JSON: {exc}.", code="invalid_json") from exc


def unsupported(place: str, problem: str) -> BadRequest:
    """Return the refusal of what stands at ``place`` and cannot be done here; ``problem`` says what and why."""
    return BadRequest(f"{place}: {problem}.", param=place, code="unsupported_parameter")


def malformed(place: str, problem: str) -> BadRequest:
    """Return the refusal of what stands at ``place`` and can be done nowhere."""
    return BadRequest(f"{place}: {problem}.", param=place)


def is_null(value: Any) -> bool:
    """Tell whether a raw member is absent or null."""
    return value is None or bytes(value) in {b"", b"null"}


def _joined(outer: str, inner: str) -> str:
    return f"{outer}.{inner}" if outer and inner and not inner.startswith("[") else outer + inner
