"""Bytes to JSON object and back, strictly: what cannot be written as it was read is refused. Owns no file.

Outside source: RFC 8259, plus a byte order mark for the editors that leave one.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from trillm.errors import ConfigError


def loads(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in ``data``.

    Args:
        data: a whole file.
        where: its name, for the message.

    Raises:
        ConfigError: not UTF-8, not JSON (with line and column), a key twice, or no object.
    """
    if not data.strip():
        raise ConfigError(where, "is empty: write {} for an empty registry, or remove the file")
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except json.JSONDecodeError as error:
        raise ConfigError(where, f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(where, str(error)) from error
    if not isinstance(value, dict):
        raise ConfigError(where, "must hold one JSON object {…}")
    return value


def dumps(value: Mapping[str, Any]) -> bytes:
    """Return ``value`` as indented UTF-8 that people can read; half surrogates are escaped, as JSON may."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number that JSON can hold")
    return number
