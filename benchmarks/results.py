"""The results of one run: everything that was measured, as one value and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from benchmarks.environment import Environment
from benchmarks.faces import DIRECT
from benchmarks.measure import Plan, Sample
from trillm.bench.asks import Kind


@frozen
class Results:
    """One run.

    Args:
        environment: where.
        plan: what was measured.
        pace: what the upstream does, in words.
        samples: each face under each load.
        rss_bytes: resident memory before and after, by face; None where that cannot be known.
    """

    environment: Environment
    plan: Plan
    pace: str
    samples: Sequence[Sample]
    rss_bytes: Mapping[str, tuple[int, int] | None]

    @property
    def faces(self) -> list[str]:
        """Their names, direct first."""
        return list(self.rss_bytes)

    def find(self, face: str, kind: Kind, connections: int) -> Sample:
        """Return one sample."""
        wanted = (face, kind, connections)
        return next(s for s in self.samples if (s.face, s.kind, s.connections) == wanted)

    def of(self, kind: Kind, face: str | None = None) -> list[Sample]:
        """Return the samples of one kind, of one face or of all, by rising concurrency."""
        return [sample for sample in self.samples if sample.kind is kind and face in (None, sample.face)]

    def added_ms(self, sample: Sample, what: str, percentile: str) -> float | None:
        """Return what a face adds to a time of the direct way: ``added_ms(sample, "gap", "p99")``."""
        ours = sample.time_ms(what, percentile)
        direct = self.find(DIRECT, sample.kind, sample.connections).time_ms(what, percentile)
        return None if ours is None or direct is None else round(ours - direct, 3)

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "environment": asdict(self.environment),
            "plan": asdict(self.plan),
            "pace": self.pace,
            "rss_bytes": dict(self.rss_bytes),
            "samples": [self._sample_json(sample) for sample in self.samples],
        }

    def _sample_json(self, sample: Sample) -> dict[str, Any]:
        times = ("first_byte", "first_token", "gap", "total")
        return {
            "face": sample.face,
            "kind": sample.kind,
            "connections": sample.connections,
            "unit": sample.unit,
            "cpu_us_per_unit": _rounded(sample.per_unit_us(sample.cpu_s)),
            "load_generator_cpu_us_per_unit": _rounded(sample.per_unit_us(sample.load_cpu_s)),
            "added_ms": {what: {p: self.added_ms(sample, what, p) for p in ("p50", "p99")} for what in times},
            **sample.report.to_json(),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
