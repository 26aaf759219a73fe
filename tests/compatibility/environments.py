"""A virtual environment for each client, made once and kept."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.compatibility.clients import Client

#: Where they are, unless ``TRILLM_CLIENTS`` names another folder.
PLACE = Path(os.environ.get("TRILLM_CLIENTS", Path.home() / ".cache" / "trillm-clients"))


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
    print(f"installing {', '.join(client.requirements)}", file=sys.stderr, flush=True)
    venv.create(python.parents[1], with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *client.requirements]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"pip could not install it: {done.stderr.strip().splitlines()[-1:]}"
    _mark(client).touch()
    return None


def _mark(client: Client) -> Path:
    return python_of(client).parents[1] / "ready"
