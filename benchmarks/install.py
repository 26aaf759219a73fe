"""Gets the programs that trillm is compared with: into folders of their own beside the results, or from the system."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

#: Git ignores it.
PLACE = Path(__file__).parent / "results" / ".peers"

Say = Callable[[str], None]


def from_pypi(requirement: str, name: str, program: str, say: Say) -> Path | None:
    """Return a program of a virtual environment of its own, made now if it is not there; None if it cannot be had.

    Args:
        requirement: as pip takes it.
        name: of the environment.
        program: in its ``bin``.
        say: is told what is installed.
    """
    folder = PLACE / name
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]

    def install() -> bool:
        venv.create(folder, with_pip=True, clear=True)
        return _succeeds(pip)

    return folder / "bin" / program if is_there(folder, requirement, install, say) else None


def from_npm(requirement: str, name: str, program: str, say: Say) -> Path | None:
    """Return a script of a package with its dependencies in a folder of its own; None if it or Node cannot be had.

    Args:
        requirement: as npm takes it.
        name: of the folder.
        program: the script, from the folder.
        say: is told what is installed.
    """
    if not shutil.which("node") or not (npm := shutil.which("npm")):
        return None
    folder = PLACE / name
    # Without scripts: what a package runs when it is installed is no business of a benchmark.
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]

    def install() -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        return _succeeds([*command, requirement])

    return folder / program if is_there(folder, requirement, install, say) else None


def is_there(folder: Path, requirement: str, install: Callable[[], bool], say: Say) -> bool:
    """Install into a folder unless this very requirement was installed there to its end; tell whether it is there."""
    marker = folder / "installed"
    if marker.exists() and marker.read_text() == requirement:
        return True
    say(f"installing {requirement}")
    done = install()
    if done:
        marker.write_text(requirement)
    return done


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def from_system(program: str, say: Say) -> Path | None:
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
