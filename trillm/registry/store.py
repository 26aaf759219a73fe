"""The registry's files as values: ``servers.json`` (:class:`Store`) and ``keys.json`` (:class:`KeyStore`).

Used by the command line and by the server alike. Reads without a lock, for files are replaced whole; changes
under one. Never caches, never watches; importing it is cheap.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, frozen

from trillm.errors import ConfigError
from trillm.keys import EVERYTHING, Grants, KeyRecord, Keyring, digest, new_token
from trillm.registry import files, jsontext, keyfile
from trillm.registry.document import Document

T = TypeVar("T")


@frozen
class Store:
    """The registry file.

    Args:
        path: may not exist yet, nor its folder; may be a symlink.
    """

    path: Path

    @staticmethod
    def default_path() -> Path:
        """Return ``$TRILLM_CONFIG``, or ``servers.json`` in the platform's folder for configuration."""
        from platformdirs import user_config_path

        chosen = os.environ.get("TRILLM_CONFIG")
        return Path(chosen).expanduser() if chosen else user_config_path("trillm") / "servers.json"

    @property
    def keys(self) -> "KeyStore":
        """The keys that belong to this registry."""
        return KeyStore(self.path.with_name("keys.json"))

    def read(self) -> Document:
        """Return what the file says, an empty document when there is none; raise :class:`ConfigError`."""
        found = self.find()
        return Document() if found is None else found

    def find(self) -> Document | None:
        """Return what the file says, None when there is none; raise :class:`ConfigError`."""
        return _found(self.path, Document.from_json)

    @property
    def previous(self) -> "Store":
        """The version before the last change, where the file was."""
        return Store(files.backup(self.path))

    def update(self, change: Callable[[Document], Document]) -> Document:
        """Replace the file by ``change`` of what it says now, if that differs.

        Raises:
            ConfigError: the file is broken, locked or read-only, or ``change`` refuses.
        """
        with files.locked(self.path):
            before = self.read()
            after = change(before)
            if after != before:
                files.replace(self.path, jsontext.dumps(after.to_json()))
            return after


@frozen
class KeyStore:
    """The file of key digests.

    Args:
        path: may not exist yet, nor its folder.
    """

    path: Path

    def read(self) -> Keyring:
        """Return every key, an empty ring when there is no file; raise :class:`ConfigError`."""
        found = self.find()
        return Keyring() if found is None else found

    def find(self) -> Keyring | None:
        """Return every key, None when there is no file; raise :class:`ConfigError`."""
        return _found(self.path, keyfile.from_json)

    def create(self, name: str, grants: Grants = EVERYTHING) -> str:
        """Make a key and return its token, which is kept nowhere; raise :class:`ConfigError`."""
        keyfile.check_name(name)
        token = new_token()
        today = datetime.now(UTC).date().isoformat()
        with files.locked(self.path):
            keyring = self.read()
            if any(record.name == name for record in keyring.records):
                raise ConfigError(f"keys.{name}", "there is a key of that name: revoke it, or choose another")
            self._write(keyring, (*keyring.records, KeyRecord(name, digest(token), today, grants)))
        return token

    def revoke(self, name: str) -> None:
        """Forget the key called ``name``; raise :class:`ConfigError` when there is none."""
        with files.locked(self.path):
            keyring = self.read()
            left = tuple(record for record in keyring.records if record.name != name)
            if len(left) == len(keyring.records):
                there = ", ".join(record.name for record in keyring.records) or "none"
                raise ConfigError(f"keys.{name}", f"no key of that name; there are: {there}")
            self._write(keyring, left)

    def _write(self, keyring: Keyring, records: tuple[KeyRecord, ...]) -> None:
        files.replace(self.path, jsontext.dumps(keyfile.to_json(evolve(keyring, records=records))))


def _found(path: Path, from_json: Callable[[dict[str, Any]], T]) -> T | None:
    data = files.read(path)
    return None if data is None else from_json(jsontext.loads(data, str(path)))
