"""What was measured: counts and times of one run, and the figures that people compare. No I/O."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

from attrs import asdict, define, field, frozen

_seconds = partial(array, "d")


@frozen
class Spread:
    """How a number of times are spread, in milliseconds; nearest-rank percentiles.

    Args:
        count: how many there were.
        p50: half of them were no longer.
        p95: 95 % of them.
        p99: 99 % of them.
        max: all of them.
    """

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, times_s: "array[float]") -> Self | None:
        """Sum up times in seconds; None if there are none."""
        if not times_s:
            return None
        ordered = sorted(times_s)
        ranks = (math.ceil(share * len(ordered)) - 1 for share in (0.5, 0.95, 0.99, 1.0))
        return cls(len(ordered), *(round(ordered[rank] * 1000, 3) for rank in ranks))


@frozen
class Report:
    """The figures of a run.

    Args:
        seconds: how long was counted.
        requests: answered as they should be.
        chunks: streamed events that came, whatever became of their stream.
        errors: everything else, by what was wrong.
        first_byte: from sending a request to the first byte of its answer.
        first_token: from sending a request to the first streamed content.
        gap: between two wakes that brought streamed events.
        total: from sending a request to the end of a good answer.
    """

    seconds: float
    requests: int
    chunks: int
    errors: Mapping[str, int]
    first_byte: Spread | None
    first_token: Spread | None
    gap: Spread | None
    total: Spread | None

    @property
    def requests_per_s(self) -> float:
        """Good answers per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def chunks_per_s(self) -> float:
        """Streamed events per second."""
        return self.chunks / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all of them, rates too."""
        rates = {"requests_per_s": round(self.requests_per_s, 1), "chunks_per_s": round(self.chunks_per_s, 1)}
        return {**asdict(self), "seconds": round(self.seconds, 3), **rates}


@define(eq=False)
class Tally:
    """Counts while :attr:`counting`: what happens during warm-up and afterwards is not of interest.

    Times are in seconds, as they came; several tallies of the same thing can be added up.
    """

    counting: bool = False
    seconds: float = 0.0
    requests: int = 0
    chunks: int = 0
    errors: Counter[str] = field(factory=Counter)
    first_byte_s: "array[float]" = field(factory=_seconds, repr=False)
    first_token_s: "array[float]" = field(factory=_seconds, repr=False)
    gap_s: "array[float]" = field(factory=_seconds, repr=False)
    total_s: "array[float]" = field(factory=_seconds, repr=False)

    @property
    def ended(self) -> int:
        """Requests that ended, well or not."""
        return self.requests + self.errors.total()

    def add(self, other: "Tally") -> None:
        """Add another run of the same thing."""
        self.seconds += other.seconds
        self.requests += other.requests
        self.chunks += other.chunks
        self.errors += other.errors
        self.first_byte_s += other.first_byte_s
        self.first_token_s += other.first_token_s
        self.gap_s += other.gap_s
        self.total_s += other.total_s

    def report(self) -> Report:
        """Return the figures."""
        return Report(
            seconds=self.seconds,
            requests=self.requests,
            chunks=self.chunks,
            errors=dict(self.errors),
            first_byte=Spread.of(self.first_byte_s),
            first_token=Spread.of(self.first_token_s),
            gap=Spread.of(self.gap_s),
            total=Spread.of(self.total_s),
        )
