"""Percentiles over the last few hundred values: enough to show an operator and to place a hedge."""

import math
from collections import deque

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

    def percentile(self, q: float) -> float | None:
        """Return the ``q`` quantile (0-1, nearest rank) in seconds, or None while there is no value."""
        if not self._values:
            return None
        ordered = sorted(self._values)
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
