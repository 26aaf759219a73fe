"""The JSON shape of ``keys.json``: a :class:`~trillm.keys.Keyring` from and to one JSON object. Pure.

``{"version": 1, "keys": {"laptop": {"sha256": "<64 hex digits>", "created": "2026-01-31"}}}``; beside that, what the
key may use when it is not everything: ``"models"``, ``"mcp_servers"``, ``"tools"`` (lists of patterns), ``"admin"``.
"""

import re
from typing import Any

from attrs import asdict

from trillm.errors import ConfigError
from trillm.keys import Grants, KeyRecord, Keyring
from trillm.registry.checks import require_name
from trillm.registry.document import check_version
from trillm.registry.fields import section

_LISTS = ("models", "mcp_servers", "tools")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def from_json(raw: dict[str, Any]) -> Keyring:
    """Read the JSON object, or raise :class:`ConfigError` with the path of the bad field."""
    rest = dict(raw)
    check_version(rest.pop("version", 1))
    keys = section("keys", rest.pop("keys", {}))
    return Keyring(tuple(_record(name, value) for name, value in keys.items()), extra=rest)


def to_json(keyring: Keyring) -> dict[str, Any]:
    """Return the JSON object."""
    keys = {record.name: _to_json(record) for record in keyring.records}
    return {"version": 1, "keys": keys, **keyring.extra}


def grants_to_json(grants: Grants) -> dict[str, Any]:
    """Return what restricts or widens a key: an empty object for a key like any other."""
    lists = {name: list(value) for name, value in asdict(grants).items() if isinstance(value, tuple)}
    return lists | ({"admin": True} if grants.admin else {})


def _to_json(record: KeyRecord) -> dict[str, Any]:
    known = {"sha256": record.digest, "created": record.created, **grants_to_json(record.grants)}
    return {**known, **record.extra}


def check_name(name: str) -> None:
    """Raise :class:`ConfigError` unless ``name`` can name a key."""
    require_name(f"keys.{name}", name, also="._-@+", most=127)


def _record(name: str, raw: Any) -> KeyRecord:
    check_name(name)
    rest = dict(section(f"keys.{name}", raw))
    sha256, created = rest.pop("sha256", None), rest.pop("created", "")
    # The value is not shown: a person may have put the token itself there.
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ConfigError(f"keys.{name}.sha256", "must be 64 lower-case hex digits")
    if not isinstance(created, str):
        raise ConfigError(f"keys.{name}.created", f"must be a date: {created!r}")
    return KeyRecord(name, sha256, created, _grants(f"keys.{name}", rest), rest)


def _grants(where: str, rest: dict[str, Any]) -> Grants:
    """Take the grants out of ``rest``. What cannot be understood is refused: read as nothing it would allow all."""
    admin = rest.pop("admin", False)
    if not isinstance(admin, bool):
        raise ConfigError(f"{where}.admin", f"must be true or false: {admin!r}")
    lists = {name: _patterns(f"{where}.{name}", rest.pop(name)) for name in _LISTS if name in rest}
    return Grants(**lists, admin=admin)


def _patterns(where: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(pattern, str) and pattern for pattern in raw):
        raise ConfigError(where, f"must be a list of names, which may have * in them: {raw!r}")
    return tuple(raw)
