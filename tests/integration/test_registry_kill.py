"""What survives ``kill -9``: real processes, killed at random moments of a tight loop of writes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from trillm.errors import ConfigError
from trillm.registry import files
from trillm.registry.document import Server
from trillm.registry.store import Store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")

KILLS = 30

# Every state it writes holds N servers that all say the same N; no half of two states can look like that.
WRITER = """
import sys, itertools, pathlib
from trillm.registry.document import Document, Server
from trillm.registry.store import Store

store = Store(pathlib.Path(sys.argv[1]))
for round in itertools.count():
    count = 1 + round % 40
    servers = {f"s{i}": Server(f"s{i}", f"http://s{i}.example", extra={"count": count}) for i in range(count)}
    store.update(lambda document: Document(servers=servers))
    if not round:
        print("writing", flush=True)
"""

HOLDER = """
import sys, pathlib, time
from trillm.registry import files

with files.locked(pathlib.Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def running_until_killed(code, path):
    """Run ``code`` until it prints a line, then the body, then kill it."""
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline()
            yield
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def assert_whole(store):
    servers = store.find().servers
    assert {server.extra["count"] for server in servers.values()} == {len(servers)}


def test_killed_at_any_moment_of_a_write_the_registry_and_its_previous_version_are_whole(tmp_path):
    store = Store(tmp_path / "servers.json")
    store.update(lambda document: document.with_server(Server("s0", "http://s0.example", extra={"count": 1})))
    moments = random.Random(2)
    for _ in range(KILLS):
        with running_until_killed(WRITER, store.path):
            time.sleep(moments.uniform(0, 0.03))
        assert_whole(store)
        assert_whole(store.previous)


def test_a_reader_never_sees_half_a_write(tmp_path):
    store = Store(tmp_path / "servers.json")
    with running_until_killed(WRITER, store.path):
        for _ in range(300):
            assert_whole(store)


def test_a_holder_of_the_lock_that_dies_frees_it(tmp_path, monkeypatch):
    store = Store(tmp_path / "servers.json")
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.2)
    with (
        running_until_killed(HOLDER, store.path),
        pytest.raises(ConfigError, match="locked by another process"),
    ):
        store.update(lambda document: document.with_server(Server("a", "http://a.example")))
    store.update(lambda document: document.with_server(Server("a", "http://a.example")))
    assert list(store.read().servers) == ["a"]


def test_writers_at_the_same_time_lose_nothing_of_each_other(tmp_path):
    path = tmp_path / "servers.json"
    adding = """
import sys, pathlib
from trillm.registry.document import Server
from trillm.registry.store import Store
for i in range(10):
    name = f"{sys.argv[2]}{i}"
    Store(pathlib.Path(sys.argv[1])).update(lambda document: document.with_server(Server(name, "http://x.example")))
"""
    processes = [subprocess.Popen([sys.executable, "-c", adding, path, letter]) for letter in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(Store(path).read().servers) == 30


def test_the_command_line_killed_at_any_moment_leaves_a_whole_registry(tmp_path):
    config = tmp_path / "servers.json"

    def add(name: str) -> list[str]:
        options = ["server", "add", name, f"http://{name}.example:8000", "--no-check"]
        return [sys.executable, "-m", "trillm", "--config", str(config), *options]

    for number in range(20):
        with subprocess.Popen(add(f"gpu{number}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as cli:
            time.sleep(random.uniform(0.05, 0.35))
            cli.kill()
        before, after = Store(config).previous.read().servers, Store(config).read().servers
        assert before.keys() <= after.keys(), "a server that had been written was lost"
    subprocess.run(add("last"), check=True, capture_output=True)  # nobody holds the lock any more
    assert "last" in Store(config).read().servers
