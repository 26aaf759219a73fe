"""What a run of :mod:`benchmarks.peers` found, as one value and as JSON, and what trillm's targets make of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from benchmarks.environment import Environment
from benchmarks.faces import DIRECT
from benchmarks.peerlist import LANE, NGINX, SGLANG, VLLM
from benchmarks.rounds import Row


@frozen
class Memory:
    """A server's start and its resident memory.

    Args:
        start_s: from its start to its first answer.
        idle_bytes: after that.
        after_bytes: after everything.
    """

    start_s: float
    idle_bytes: int | None
    after_bytes: int | None


@frozen
class Target:
    """A figure of trillm's lane and what it is not to exceed."""

    name: str
    value: float | None
    limit: float | None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.value is None or self.limit is None:
            return "not measured"
        return "met" if self.value <= self.limit else "missed"


@frozen
class Comparison:
    """One run.

    Args:
        environment: where.
        versions: of the peers.
        missing: who could not be had.
        rows: each face under each load.
        memory: by face.
    """

    environment: Environment
    versions: Mapping[str, str]
    missing: Sequence[str]
    rows: Sequence[Row]
    memory: Mapping[str, Memory]

    @property
    def faces(self) -> list[str]:
        """Their names, direct first."""
        return list(self.memory)

    @property
    def proxies(self) -> list[str]:
        """The names of all that stand before the upstream."""
        return [face for face in self.faces if face != DIRECT]

    @property
    def scenarios(self) -> list[str]:
        """Their names, in the order in which they were measured."""
        return list(dict.fromkeys(row.scenario.name for row in self.rows))

    def find(self, face: str, scenario: str) -> Row | None:
        """Return one row; None if there is none."""
        return next((row for row in self.rows if (row.face, row.scenario.name) == (face, scenario)), None)

    def of(self, face: str) -> list[Row]:
        """Return the rows of one face."""
        return [row for row in self.rows if row.face == face]

    def cpu_us(self, face: str, scenario: str) -> float | None:
        """Return what a chunk or a request cost."""
        row = self.find(face, scenario)
        return row.cpu_us if row else None

    def ratio(self, face: str, scenario: str, to: str) -> float | None:
        """Return a cost as a multiple of another's."""
        ours, theirs = self.cpu_us(face, scenario), self.cpu_us(to, scenario)
        return ours / theirs if ours is not None and theirs else None

    def added_ms(self, row: Row, what: str, which: str) -> float | None:
        """Return what a face adds to a time of the direct way."""
        direct = self.find(DIRECT, row.scenario.name)
        ours, theirs = row.time_ms(what, which), direct.time_ms(what, which) if direct else None
        return None if ours is None or theirs is None else ours - theirs

    def saturation(self, face: str) -> float | None:
        """Return the most plain requests per second that a face answered."""
        rates = [row.per_s for row in self.of(face) if row.scenario.name.startswith("plain")]
        return max((rate for rate in rates if rate is not None), default=None)

    def targets(self) -> Iterator[Target]:
        """Yield what trillm aims at, against what was measured."""

        def cost(name: str, scenario: str, factor: float, peer: str) -> Target:
            theirs = self.cpu_us(peer, scenario)
            return Target(name, self.cpu_us(LANE, scenario), None if theirs is None else theirs * factor)

        yield cost("CPU µs/request, plain 50: sglang-router's", "plain 50", 1, SGLANG)
        yield cost("CPU µs/request, plain 50: 1.3 times vllm-router's", "plain 50", 1.3, VLLM)
        yield cost("CPU µs/chunk, stream 50: vllm-router's", "stream 50", 1, VLLM)
        yield cost("CPU µs/chunk, stream 50: 2 times nginx's", "stream 50", 2, NGINX)
        yield cost("CPU µs/request, image 20 MB: 1.5 times nginx's", "image 20 MB", 1.5, NGINX)
        yield Target("added p50, plain 1: 0.3 ms", self._added(LANE, "p50"), 0.3)
        theirs = self._added(VLLM, "p99")
        limit = None if theirs is None else theirs * 1.5
        yield Target("added p99, plain 1: 1.5 times vllm-router's, ms", self._added(LANE, "p99"), limit)
        yield Target("resident when idle, 70 MB", self._idle_mb(), 70)
        yield Target("start to first answer, 1.5 s", self.memory[LANE].start_s, 1.5)

    def _added(self, face: str, which: str) -> float | None:
        row = self.find(face, "plain 1")
        return self.added_ms(row, "total", which) if row else None

    def _idle_mb(self) -> float | None:
        idle = self.memory[LANE].idle_bytes
        return idle / 1e6 if idle else None

    def to_json(self) -> dict[str, Any]:
        """Return everything, each round too."""
        return {
            "environment": asdict(self.environment),
            "versions": dict(self.versions),
            "missing": list(self.missing),
            "memory": {face: asdict(memory) for face, memory in self.memory.items()},
            "targets": [{**asdict(target), "verdict": target.verdict} for target in self.targets()],
            "rows": [self._row_json(row) for row in self.rows],
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        figures = {"cpu_us": row.cpu_us, "load_cpu_us": row.load_cpu_us, "per_s": row.per_s, "stalls": row.stalls}
        rounds = [{**asdict(each, recurse=False), "report": each.report.to_json()} for each in row.rounds]
        return {"face": row.face, "scenario": asdict(row.scenario), **figures, "rounds": rounds}
