"""Reads what servers expose for Prometheus, as far as trillm has a use for it. Pure: bytes in, a whole number out.

Source: Prometheus' text exposition format, version 0.0.4.
"""

import re
from collections.abc import Sequence
from functools import lru_cache


def total(exposed: bytes, gauges: Sequence[str]) -> int | None:
    """Return the sum of ``gauges``, over all their labels; None if none of them is there."""
    values = _pattern(tuple(gauges)).findall(exposed)
    return sum(map(int, values)) if values else None


@lru_cache
def _pattern(gauges: tuple[str, ...]) -> re.Pattern[bytes]:
    names = "|".join(map(re.escape, gauges))
    return re.compile(rf"^(?:{names})(?:\{{[^\n]*\}})?[ \t]+([0-9]{{1,9}})(?:\.|[ \t\r]|$)".encode(), re.MULTILINE)
