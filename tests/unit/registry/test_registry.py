import json

import pytest

from trillm.registry.document import Document, Server
from trillm.registry.registry import (
    Registry,
    RegistryLoaded,
    RegistryRejected,
    ServerAdded,
    ServerChanged,
    ServerRemoved,
    Snapshot,
)
from trillm.registry.store import Store

A = Server("a", "http://a.example")
A2 = Server("a", "http://a.example", enabled=False)
B = Server("b", "http://b.example")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "servers.json")


@pytest.fixture
def registry(store):
    return Registry(store)


def write(store, *servers):
    store.path.write_text(json.dumps({"servers": {server.name: server.to_json() for server in servers}}))


def test_before_the_first_look_it_is_empty(registry):
    assert registry.snapshot == Snapshot()


def test_the_first_look_is_always_announced(registry):
    assert registry.reload() == [RegistryLoaded(Snapshot(revision=1))]
    assert registry.reload() == []


def test_what_differs_is_announced_server_by_server_and_the_whole_last(store, registry):
    write(store, A, B)
    assert registry.reload() == [ServerAdded(A), ServerAdded(B), RegistryLoaded(registry.snapshot)]
    write(store, A2)
    assert registry.reload() == [ServerRemoved("b"), ServerChanged(A, A2), RegistryLoaded(registry.snapshot)]
    assert registry.snapshot.revision == 2
    assert registry.snapshot.document.servers == {"a": A2}


def test_a_change_of_layout_is_no_change(store, registry):
    write(store, A)
    registry.reload()
    store.path.write_text(json.dumps(json.loads(store.path.read_text()), indent=8))
    assert registry.reload() == []


def test_a_broken_file_changes_nothing_but_the_error_and_is_reported_once(store, registry):
    write(store, A)
    registry.reload()
    store.path.write_text('{"servers": {"a": {"url": "foo"}}}')
    [rejected] = registry.reload()
    assert rejected == RegistryRejected("servers.a.url: not an http(s) URL: 'foo' (serving the last good version)")
    assert registry.snapshot.error == rejected.error
    assert registry.snapshot.document.servers == {"a": A}
    assert registry.reload() == []
    store.path.write_text("{")
    assert [type(event) for event in registry.reload()] == [RegistryRejected]


def test_a_mended_file_is_announced_even_when_it_says_what_it_said(store, registry):
    write(store, A)
    registry.reload()
    store.path.write_text("{")
    registry.reload()
    write(store, A)
    assert registry.reload() == [RegistryLoaded(registry.snapshot)]
    assert registry.snapshot.error is None


def test_a_file_that_goes_away_takes_no_server_with_it(store, registry):
    write(store, A)
    registry.reload()
    store.path.unlink()
    [rejected] = registry.reload()
    assert "servers.json: is gone; write {} to empty it" in rejected.error
    assert registry.snapshot.document.servers == {"a": A}
    store.path.write_text("{}")
    assert registry.reload() == [ServerRemoved("a"), RegistryLoaded(registry.snapshot)]


def test_a_file_broken_at_the_start_is_replaced_by_its_previous_version(store, registry):
    store.update(lambda document: document.with_server(A))
    store.update(lambda document: document.with_server(B))
    store.path.write_text("{")
    added, rejected, loaded = registry.reload()
    assert added == ServerAdded(A)
    assert "line 1, column 2" in rejected.error
    assert f"(serving its previous version, {store.previous.path})" in rejected.error
    assert loaded == RegistryLoaded(Snapshot(Document().with_server(A), error=rejected.error, revision=1))
    assert registry.reload() == []


@pytest.mark.parametrize("backup", [None, "{", '{"version": 2}'])
def test_a_file_broken_at_the_start_without_a_good_previous_version_is_an_empty_registry(store, registry, backup):
    store.path.write_text("{")
    if backup is not None:
        store.previous.path.write_text(backup)
    rejected, loaded = registry.reload()
    assert "(serving no registered server)" in rejected.error
    assert loaded.snapshot.document == Document()
    assert loaded.snapshot.error == rejected.error


def test_a_new_key_counts_from_the_next_look_on(store, registry):
    registry.reload()
    token = store.keys.create("laptop")
    assert registry.reload() == [RegistryLoaded(registry.snapshot)]
    assert registry.snapshot.keyring.find(token)


def test_a_key_is_revoked_even_while_the_servers_are_broken(store, registry):
    write(store, A)
    store.keys.create("kept")
    token = store.keys.create("laptop")
    registry.reload()
    store.path.write_text("{")
    registry.reload()
    store.keys.revoke("laptop")
    assert registry.reload() == [RegistryLoaded(registry.snapshot)]
    assert registry.snapshot.keyring.find(token) is None
    assert registry.snapshot.error is not None


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_keys_that_break_or_go_away_stay_in_force(store, registry, damage):
    token = store.keys.create("laptop")
    registry.reload()
    damage(store.keys.path)
    [rejected] = registry.reload()
    assert "keys.json" in rejected.error
    assert registry.snapshot.keyring.find(token)


def test_keys_broken_at_the_start_let_nobody_in_until_they_are_mended(store, registry):
    token = store.keys.create("laptop")
    good = store.keys.path.read_bytes()
    store.keys.path.write_bytes(good[:-9])
    rejected, _loaded = registry.reload()
    assert "refusing every caller" in rejected.error
    assert registry.snapshot.keyring
    assert registry.snapshot.keyring.find(token) is None
    store.keys.path.unlink()
    registry.reload()
    assert registry.snapshot.keyring
    store.keys.path.write_bytes(good)
    registry.reload()
    assert registry.snapshot.keyring.find(token)


def test_each_of_two_broken_files_is_reported_by_itself(store, registry):
    registry.reload()
    store.path.write_text("{")
    assert len(registry.reload()) == 1
    store.keys.path.write_text("{")
    [rejected] = registry.reload()
    assert "keys.json" in rejected.error
    assert "servers.json" not in rejected.error
    assert "servers.json" in registry.snapshot.error
    assert "keys.json" in registry.snapshot.error
