"""Token counts of several turns as one. Pure."""

from typing import Any


def added(first: Any, second: Any) -> Any:
    """Return the sum of two ``usage`` objects, member by member; what is no number is the later one's.

    Args:
        first: decoded JSON, None if there is none.
        second: likewise.
    """
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: added(first.get(name), second.get(name)) for name in first | second}
    if _is_number(first) and _is_number(second):
        return first + second
    return second


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
