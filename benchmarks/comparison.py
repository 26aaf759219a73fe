"""What a run of :mod:`benchmarks.peers` found, as one value and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from benchmarks.environment import Environment
from benchmarks.faces import DIRECT
from benchmarks.peerlist import NGINX, VLLM
from benchmarks.rounds import Row

#: Whom costs are shown as multiples of.
REFERENCES = (NGINX, VLLM)
#: What a caller waits for.
TIMES = ("total", "first_token", "gap")


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
class Comparison:
    """One run.

    Args:
        environment: where.
        command: that ran it.
        versions: of the peers.
        notes: what must be known to read a peer's figures.
        missing: who could not be had.
        rows: each face under each load.
        memory: by face.
    """

    environment: Environment
    command: str
    versions: Mapping[str, str]
    notes: Mapping[str, str]
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

    def to_json(self) -> dict[str, Any]:
        """Return everything, each round too."""
        return {
            "environment": asdict(self.environment),
            "command": self.command,
            "versions": dict(self.versions),
            "notes": dict(self.notes),
            "missing": list(self.missing),
            "memory": {face: asdict(memory) for face, memory in self.memory.items()},
            "saturation_per_s": {face: self.saturation(face) for face in self.faces},
            "rows": [self._row_json(row) for row in self.rows],
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        name = row.scenario.name
        figures = {"cpu_us": row.cpu_us, "load_cpu_us": row.load_cpu_us, "per_s": row.per_s, "stalls": row.stalls}
        sizes = {"peak_bytes": row.peak_bytes, "grown_bytes": row.grown_bytes}
        ratios = {f"cpu_to_{to}": self.ratio(row.face, name, to) for to in REFERENCES}
        times = {what: {which: row.time_ms(what, which) for which in ("p50", "p99", "max")} for what in TIMES}
        added = {what: {which: self.added_ms(row, what, which) for which in ("p50", "p99")} for what in TIMES}
        rounds = [{**asdict(each, recurse=False), "report": each.report.to_json()} for each in row.rounds]
        said = {"face": row.face, "scenario": asdict(row.scenario), **figures, **sizes, **ratios}
        return {**said, "ms": times, "added_ms": added, "errors": row.errors, "rounds": rounds}
