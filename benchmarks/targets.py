"""What trillm aims at, against what one run measured: met or missed, and by how much."""

from collections.abc import Iterator

from attrs import frozen

from benchmarks.comparison import Comparison
from benchmarks.faces import DIRECT
from benchmarks.peerlist import LANE, LITELLM, NGINX, SGLANG, VLLM
from benchmarks.scenarios import IMAGE, MANY_STREAMS, Scenario

PLAIN, STREAM, ALONE = "plain 50", "stream 50", "plain 1"


@frozen
class Target:
    """A figure of trillm's lane and what it is not to exceed.

    Args:
        figure: what, and under which load.
        aim: the limit in words.
        value: as measured; None: it was not.
        limit: in the same unit; None: what it depends on was not measured.
    """

    figure: str
    aim: str
    value: float | None
    limit: float | None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.value is None or self.limit is None:
            return "not measured"
        return "met" if self.value <= self.limit else "missed"

    @property
    def share(self) -> float | None:
        """The value as a multiple of the limit; None where that makes no sense."""
        return self.value / self.limit if self.value is not None and self.limit else None


def targets(found: Comparison) -> Iterator[Target]:
    """Yield every target of a single run. That memory stays is for :mod:`benchmarks.memory` to find."""

    def cost(figure: str, scenario: str, peer: str, times: float, aim: str) -> Target:
        theirs = found.cpu_us(peer, scenario)
        return Target(figure, aim, found.cpu_us(LANE, scenario), None if theirs is None else theirs * times)

    plain, chunk, image = f"CPU µs/request, {PLAIN}", f"CPU µs/chunk, {STREAM}", f"CPU µs/request, {IMAGE.name}"
    yield cost(plain, PLAIN, SGLANG, 1, "sglang-router's")
    yield cost(plain, PLAIN, VLLM, 1.3, "1.3 times vllm-router's")
    yield cost(plain, PLAIN, LITELLM, 1 / 80, "1/80 of LiteLLM's")
    yield cost(chunk, STREAM, VLLM, 1, "vllm-router's")
    yield cost(chunk, STREAM, NGINX, 2, "2 times nginx's")
    yield Target(f"added p50 ms, {ALONE}", "0.3 ms", _added_ms(found, LANE, "p50"), 0.3)
    theirs = _added_ms(found, VLLM, "p99")
    limit = None if theirs is None else theirs * 1.5
    yield Target(f"added p99 ms, {ALONE}", "1.5 times vllm-router's", _added_ms(found, LANE, "p99"), limit)
    yield from _many_streams(found)
    yield cost(image, IMAGE.name, NGINX, 1.5, "1.5 times nginx's")
    yield Target(f"MB more at its peak, {IMAGE.name}", "2 bodies for each at once", *_grown_mb(found, IMAGE, 2))
    memory = found.memory[LANE]
    yield Target("MB resident when idle", "70 MB", memory.idle_bytes / 1e6 if memory.idle_bytes else None, 70)
    yield Target("s from start to first answer", "1.5 s", memory.start_s, 1.5)


def _added_ms(found: Comparison, face: str, which: str) -> float | None:
    row = found.find(face, ALONE)
    return found.added_ms(row, "total", which) if row else None


def _many_streams(found: Comparison) -> Iterator[Target]:
    """Yield what 1,000 streams on one core are to keep. Where the direct way stalls, it was the machine."""
    name = MANY_STREAMS.name
    row, direct = found.find(LANE, name), found.find(DIRECT, name)
    stalls = direct.stalls if direct else None
    aim = "none" if not stalls else f"none beyond the {stalls} of the direct way"
    yield Target(f"stalls, {name}", aim, row.stalls if row else None, stalls)
    idle, peak = found.memory[LANE].idle_bytes, row.peak_bytes if row else None
    each = (peak - idle) / MANY_STREAMS.connections / 1024 if peak and idle else None
    yield Target(f"KB over idle for each, {name}", "40 KB", each, 40)


def _grown_mb(found: Comparison, scenario: Scenario, bodies: int) -> tuple[float | None, float]:
    """Return how much memory a load took, and what so many bodies for each request at once come to."""
    row = found.find(LANE, scenario.name)
    grown = row.grown_bytes if row else None
    return None if grown is None else grown / 1e6, bodies * scenario.image_bytes * scenario.connections / 1e6
