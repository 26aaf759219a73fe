import pytest

from trillm.errors import ConfigError
from trillm.keys import Grants, KeyRecord, Keyring, digest
from trillm.registry import keyfile

SHA = digest("token")


def test_a_keyring_has_its_place_in_the_file():
    ring = Keyring((KeyRecord("laptop", SHA, "2026-01-31"),))
    raw = {"version": 1, "keys": {"laptop": {"sha256": SHA, "created": "2026-01-31"}}}
    assert keyfile.to_json(ring) == raw
    assert keyfile.from_json(raw) == ring


def test_what_a_key_may_use_stands_beside_its_digest():
    ring = Keyring((KeyRecord("ops", SHA, "", Grants(models=("a*",), tools=(), admin=True)),))
    entry = {"sha256": SHA, "created": "", "models": ["a*"], "tools": [], "admin": True}
    assert keyfile.to_json(ring) == {"version": 1, "keys": {"ops": entry}}
    assert keyfile.from_json(keyfile.to_json(ring)) == ring


def test_unknown_keys_are_kept():
    raw = {"version": 1, "keys": {"a": {"sha256": SHA, "created": "", "scope": ["chat"]}}, "new": 1}
    assert keyfile.to_json(keyfile.from_json(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "where", "problem"),
    [
        ({"version": 2}, "version", "upgrade trillm"),
        ({"keys": []}, "keys", "must be an object"),
        ({"keys": {"a": 1}}, "keys.a", "must be an object"),
        ({"keys": {"a b": {}}}, "keys.a b", "a name starts with"),
        ({"keys": {"a": {}}}, "keys.a.sha256", "must be 64 lower-case hex digits"),
        ({"keys": {"a": {"sha256": "tl-secret"}}}, "keys.a.sha256", "must be 64 lower-case hex digits"),
        ({"keys": {"a": {"sha256": SHA.upper()}}}, "keys.a.sha256", "must be 64 lower-case hex digits"),
        ({"keys": {"a": {"sha256": SHA, "models": "llama3"}}}, "keys.a.models", "must be a list"),
        ({"keys": {"a": {"sha256": SHA, "tools": [1]}}}, "keys.a.tools", "must be a list"),
        ({"keys": {"a": {"sha256": SHA, "mcp_servers": [""]}}}, "keys.a.mcp_servers", "must be a list"),
        ({"keys": {"a": {"sha256": SHA, "admin": "yes"}}}, "keys.a.admin", "must be true or false"),
        ({"keys": {"a": {"sha256": SHA, "created": 5}}}, "keys.a.created", "must be a date: 5"),
    ],
)
def test_a_bad_field_is_named_by_its_path_and_never_shows_a_token(raw, where, problem):
    with pytest.raises(ConfigError) as caught:
        keyfile.from_json(raw)
    assert caught.value.where == where
    assert problem in caught.value.problem
    assert "secret" not in str(caught.value)
