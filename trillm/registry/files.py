"""The one place that reads and replaces the registry's files, so that a death at any moment loses nothing.

Owns the lock file, the temporary file and the ``.bak`` beside each of them. Knows nothing of what they hold.
A symlink is followed: what it points to is replaced, with its lock and its ``.bak`` beside that.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from trillm.errors import ConfigError

LOCK_WAIT_S = 10.0


def read(path: Path) -> bytes | None:
    """Return what ``path`` holds, None when it does not exist; raise :class:`ConfigError` if unreadable."""
    with _named(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def backup(path: Path) -> Path:
    """Return where the previous version of ``path`` is kept."""
    return _beside(_real(path), ".bak")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process that asks from replacing ``path``; a holder that dies frees it.

    Raises:
        ConfigError: another process held it for ``LOCK_WAIT_S`` seconds, or the folder cannot be written.
    """
    # Imported late: it costs the command line 50 ms, and reading needs no lock.
    from filelock import FileLock, Timeout

    target = _real(path)
    with _named(path):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            holding = FileLock(_beside(target, ".lock")).acquire(timeout=LOCK_WAIT_S)
        except Timeout as error:
            raise ConfigError(str(path), f"locked by another process for {LOCK_WAIT_S:g} s now") from error
    with holding:
        yield


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path``, keeping what was there as ``.bak``. The caller holds the lock.

    At every moment ``path`` is either the old version or the new one, whole, and so is ``.bak``.

    Raises:
        ConfigError: the folder or the disk refuses.
    """
    target = _real(path)
    with _named(path):
        previous = read(target)
        if previous is not None:
            _put(backup(path), previous, like=target)
        _put(target, data, like=target)


def _put(target: Path, data: bytes, *, like: Path) -> None:
    # A fixed name, as only the holder of the lock gets here: what a killed writer left is swept by the next.
    temporary = _beside(target, ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        _keep_owner(file.fileno(), like)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    _sync_folder(target.parent)


def _keep_owner(descriptor: int, like: Path) -> None:
    # `sudo trillm key create` must not take the file away from the account that serves.
    if hasattr(os, "fchown") and like.exists() and like.stat().st_uid != os.geteuid():
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, like.stat().st_uid, like.stat().st_gid)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, some network file systems cannot sync one. The rename is done either way.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        beside = f" ({error.filename})" if error.filename not in {None, str(path)} else ""
        raise ConfigError(str(path), f"{error.strerror or error}{beside}") from error


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
