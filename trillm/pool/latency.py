"""Percentiles over the last few hundred values: enough to show an operator and to place a hedge."""

import math
from collections import deque
from collections.abc import Collection

from attrs import define, field


@define
class Window:
    """The newest ``size`` values, in seconds."""

    size: int = 256
    _values: deque[float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._values = deque(maxlen=self.size)

    def add(self, value_s: float) -> None:
        """Note one value."""
        self._values.append(value_s)

    @property
    def values(self) -> tuple[float, ...]:
        """All of them, the oldest first."""
        return tuple(self._values)

    def percentile(self, q: float) -> float | None:
        """Return the ``q`` quantile (0-1, nearest rank) in seconds, or None while there is no value."""
        return percentile(self._values, q)


def percentile(values: Collection[float], q: float) -> float | None:
    """Return the ``q`` quantile (0-1, nearest rank) of ``values``, or None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
