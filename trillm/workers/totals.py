"""Metrics of several processes, added up.

What a process had counted stays counted when it is gone: a counter that falls looks like a restart of everything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

#: The name of this sum.
METRICS = "metrics"

_LASTING = ("counter", "histogram")
#: What is not the sum of its parts.
_COMBINED: Mapping[str, Callable[[float, float], float]] = {
    "trillm_server_up": max,
    "python_info": max,
    "process_max_fds": max,
    "process_start_time_seconds": min,
}


class _Sample(msgspec.Struct, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, array_like=True):
    name: str
    text: str
    type: str
    samples: list[_Sample]


_decode = msgspec.msgpack.Decoder(list[_Family]).decode
#: The part of a process that has counted nothing.
NOTHING = msgspec.msgpack.encode([])


def part(registry: CollectorRegistry) -> bytes:
    """Return what one process has counted."""
    families = [
        _Family(f.name, f.documentation, f.type, [_Sample(s.name, s.labels, float(s.value)) for s in f.samples])
        for f in registry.collect()
    ]
    return msgspec.msgpack.encode(families)


def past(parts: Iterable[bytes]) -> bytes:
    """Return what remains of processes that are gone: what they have counted, not what they were doing."""
    return msgspec.msgpack.encode([family for family in _added(parts) if family.type in _LASTING])


def exposition(parts: Iterable[bytes]) -> bytes:
    """Return the sum in Prometheus' text format."""
    return generate_latest(_Collected(_added(parts)))  # all it asks of a registry


def _added(parts: Iterable[bytes]) -> list[_Family]:
    families: dict[str, _Family] = {}
    for each in parts:
        for family in _decode(each):
            known = families.setdefault(family.name, _Family(family.name, family.text, family.type, []))
            known.samples.extend(family.samples)
    for family in families.values():
        family.samples = _combined(family)
    return list(families.values())


def _combined(family: _Family) -> list[_Sample]:
    combine: Callable[[float, float], float] = _COMBINED.get(family.name, add)
    samples: dict[object, _Sample] = {}
    for sample in family.samples:
        key = (sample.name, *sorted(sample.labels.items()))
        known = samples.get(key)
        if known is None:
            samples[key] = sample
        else:
            known.value = combine(known.value, sample.value)
    return list(samples.values())


class _Collected:
    def __init__(self, families: list[_Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.type)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric
