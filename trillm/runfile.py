"""The note a running server leaves beside its registry, by which this account's command line finds it.

JSON with ``pid``, ``url`` and ``token``, readable by this account alone. A server that was killed leaves it behind;
who reads it finds out by asking.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


def run_file(registry: Path) -> Path:
    """Return where the note about the server of ``registry`` is."""
    return registry.with_name(f"{registry.name}.run")


@contextlib.contextmanager
def announced(registry: Path, url: str, token: str) -> Iterator[None]:
    """Leave the note for the time of the body. A folder that cannot be written to is no reason not to serve."""
    path = run_file(registry)
    note = json.dumps({"pid": os.getpid(), "url": url, "token": token})
    try:
        _leave(path, note)
    except OSError as exc:
        log.warning("the command line will not see this server path=%s error=%s", path, exc)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            # Only our own: another server of the same registry may have taken our place.
            if path.read_bytes() == note.encode():
                path.unlink()


def _leave(path: Path, note: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # Nobody else may read it, not even for the moment between creating it and closing it to others.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - a descriptor
        file.write(note)
