"""Gets the programs that trillm is compared with: into virtual environments beside the results, or from the system."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

#: Git ignores it.
PLACE = Path(__file__).parent / "results" / ".peers"


def from_pypi(requirements: Sequence[str], program: str, say: Callable[[str], None]) -> Path | None:
    """Return a program of a virtual environment of its own, made now if it is not there; None if it cannot be had."""
    folder = PLACE / program
    found = folder / "bin" / program
    if found.exists():
        return found
    say(f"installing {', '.join(requirements)}")
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], stdout=sys.stderr, check=False)
    return found if done.returncode == 0 and found.exists() else None


def from_system(program: str, say: Callable[[str], None]) -> Path | None:
    """Return a program of the operating system; root of a Debian gets what is missing. None if it cannot be had."""
    if (found := _on_path(program)) or os.name != "posix" or os.geteuid() != 0 or not shutil.which("apt-get"):
        return found
    say(f"apt-get install {program}")
    command = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", program]
    subprocess.run(command, stdout=sys.stderr, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
    return _on_path(program)


def _on_path(program: str) -> Path | None:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which(program, path=path)
    return Path(found) if found else None
