import subprocess
import sys
from pathlib import Path

import pytest

from trillm.errors import ConfigError
from trillm.registry.document import Document, Server
from trillm.registry.store import KeyStore, Store

A = Server("a", "http://a.example")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "trillm" / "servers.json")


def test_no_file_is_an_empty_registry(store):
    assert store.read() == Document()
    assert store.find() is None


def test_a_change_is_written_and_returned(store):
    assert store.update(lambda document: document.with_server(A)).servers == {"a": A}
    assert store.read().servers == {"a": A}


def test_a_change_of_nothing_writes_nothing(store):
    store.update(lambda document: document)
    assert not store.path.exists()
    store.update(lambda document: document.with_server(A))
    before = store.path.stat()
    store.update(lambda document: document.with_server(A))
    assert store.path.stat() == before


def test_each_change_starts_from_what_the_file_says_now(store):
    store.update(lambda document: document.with_server(A))
    Store(store.path).update(lambda document: document.with_server(Server("b", "http://b.example")))
    assert list(store.read().servers) == ["a", "b"]
    assert list(store.previous.read().servers) == ["a"]


def test_a_broken_file_is_not_overwritten(store):
    store.path.parent.mkdir()
    store.path.write_text('{"servers": ')
    with pytest.raises(ConfigError, match=r"servers\.json: line 1, column 13"):
        store.update(lambda document: document.with_server(A))
    assert store.path.read_text() == '{"servers": '


def test_a_refused_change_leaves_the_file_alone(store):
    store.update(lambda document: document.with_server(A))
    before = store.path.read_bytes()
    with pytest.raises(ConfigError, match="no server of that name"):
        store.update(lambda document: document.without_server("b"))
    assert store.path.read_bytes() == before


def test_the_environment_chooses_the_path(monkeypatch):
    monkeypatch.setenv("TRILLM_CONFIG", "~/elsewhere.json")
    assert Store.default_path() == Path.home() / "elsewhere.json"
    monkeypatch.delenv("TRILLM_CONFIG")
    assert Store.default_path().parts[-2:] == ("trillm", "servers.json")


def test_a_key_is_shown_once_and_kept_as_a_digest(store):
    token = store.keys.create("laptop")
    assert token not in store.keys.path.read_text()
    assert store.keys.read().find(token).name == "laptop"
    assert store.keys == KeyStore(store.path.with_name("keys.json"))


def test_a_revoked_key_is_gone(store):
    kept, gone = store.keys.create("kept"), store.keys.create("gone")
    store.keys.revoke("gone")
    assert store.keys.read().find(gone) is None
    assert store.keys.read().find(kept) is not None


def test_a_name_is_used_once(store):
    store.keys.create("laptop")
    with pytest.raises(ConfigError, match=r"^keys\.laptop: there is a key of that name"):
        store.keys.create("laptop")


def test_revoking_what_is_not_there_says_what_is(store):
    store.keys.create("laptop")
    with pytest.raises(ConfigError, match=r"^keys\.phone: no key of that name; there are: laptop$"):
        store.keys.revoke("phone")


def test_a_bad_name_makes_no_file(store):
    with pytest.raises(ConfigError, match="a name starts with"):
        store.keys.create("my laptop")
    assert not store.keys.path.exists()


def test_importing_it_brings_in_nothing_slow():
    slow = "{'trio', 'asyncio', 'httpx', 'filelock', 'platformdirs', 'msgspec', 'quart'}"
    code = f"import sys, trillm.registry.store; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
