"""Fits a straight line through measurements, by least squares. Pure arithmetic."""

from collections.abc import Sequence
from statistics import linear_regression, mean
from typing import Self

from attrs import frozen


@frozen
class Fit:
    """A line and how much the measurements grow along it.

    Args:
        slope: of y, for each one of x.
        intercept: at x = 0.
        first: its y at the smallest x that was measured.
        last: its y at the largest.
        explained: R², the share of the scatter that the line explains; 1.0 if there is no scatter.
    """

    slope: float
    intercept: float
    first: float
    last: float
    explained: float

    @classmethod
    def of(cls, xs: Sequence[float], ys: Sequence[float]) -> Self:
        """Fit at least two points of different x."""
        slope, intercept = linear_regression(xs, ys)
        middle = mean(ys)
        scatter = sum((y - middle) ** 2 for y in ys)
        left = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
        first, last = (intercept + slope * x for x in (min(xs), max(xs)))
        return cls(slope, intercept, first, last, 1 - left / scatter if scatter else 1.0)

    @property
    def growth(self) -> float | None:
        """What the line gains from the first to the last, as a share of the first; None where that makes no sense."""
        return self.last / self.first - 1 if self.first > 0 else None
