"""What the figures were measured on; said with every result, since absolute times mean nothing without it."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from attrs import frozen

PACKAGES = ("trillm", "trio", "httptools", "hypercorn", "quart", "quart-trio", "httpx", "msgspec")


@frozen
class Environment:
    """The machine before anything was started.

    Args:
        date: ISO 8601, UTC.
        system: operating system and Python.
        cpu: the processor's name.
        cores: that this process may use.
        load_average: over 1, 5 and 15 minutes; None where the system does not tell.
        versions: of the packages that matter.
    """

    date: str
    system: str
    cpu: str
    cores: int
    load_average: tuple[float, ...] | None
    versions: dict[str, str]

    @classmethod
    def now(cls) -> "Environment":
        """Look."""
        return cls(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            system=f"{platform.platform()}, {platform.python_implementation()} {platform.python_version()}",
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            load_average=tuple(round(each, 2) for each in os.getloadavg()) if hasattr(os, "getloadavg") else None,
            versions={name: version(name) for name in PACKAGES},
        )

    def stem(self, what: str) -> str:
        """Return the name for files of this run, without suffix."""
        return f"{what}-{self.date[:16].replace(':', '').replace('T', '-')}"

    def __str__(self) -> str:
        load = f"load average {self.load_average[0]:g} before the start" if self.load_average else "load unknown"
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.date}, {self.cores} cores ({self.cpu}), {load}; {self.system}; {versions}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
