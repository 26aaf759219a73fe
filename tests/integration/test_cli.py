"""The command line as a person's shell runs it: processes, pipes, signals, and a trillm that runs meanwhile."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TRILLM = (sys.executable, "-m", "trillm")
PATIENCE_S = 20.0

Trillm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry of the commands, which run in a home of their own."""
    path = tmp_path / "conf" / "servers.json"
    monkeypatch.setenv("TRILLM_CONFIG", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


@pytest.fixture
def trillm(config: Path) -> Trillm:
    """Run a command to its end."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*TRILLM, *args], capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    return call


@contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the time of the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*TRILLM, *args], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def sim(config: Path) -> Iterator[str]:
    """The URL of a simulated server."""
    with started("sim", "--ttft", "0", "--itl", "0") as process:
        yield url_of(process)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"http://127\.0\.0\.1:\d+", line):
            return match[0]
    raise AssertionError(f"it ended with {process.wait()} before it said where it answers")


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_server_is_added_looked_at_changed_and_removed(trillm, sim):
    added = trillm("server", "add", "local", sim)
    assert added.returncode == 0
    assert "sim-chat" in added.stdout
    assert added.stdout.endswith("Added local.\n")

    assert "local" in trillm("server", "list").stdout
    assert json.loads(trillm("server", "test", "local", "--json").stdout)["kind"] == "builtin"
    names = [model["id"] for model in json.loads(trillm("model", "list", "--json").stdout)["models"]]
    assert "sim-chat" in names

    assert trillm("server", "edit", "local", "--max-concurrent", "4").returncode == 0
    assert trillm("server", "remove", "local").stdout == "Removed local.\n"
    assert json.loads(trillm("server", "list", "--json").stdout)["servers"] == []


def test_what_is_wrong_is_one_line_and_an_exit_code(trillm, config):
    refused = trillm("server", "add", "gpu1", "not-a-url")
    assert refused.returncode == 1
    assert re.fullmatch(r"trillm: servers\.gpu1\.url: .*\n", refused.stderr)

    misused = trillm("server", "addd")
    assert misused.returncode == 2
    assert misused.stderr.count("\n") == 1

    config.parent.mkdir(exist_ok=True)
    config.write_bytes(b"\xff\xfe{")
    broken = trillm("server", "list")
    assert broken.returncode == 1
    assert broken.stderr.count("\n") == 1


def test_a_shell_can_keep_a_new_key(trillm, config):
    shell = f'KEY=$("{sys.executable}" -m trillm key create laptop 2>/dev/null) && printf "<%s>" "$KEY"'
    kept = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)

    assert re.fullmatch(r"<tl-[\w-]{43}>", kept.stdout)


def test_discover_tells_programs_what_runs_here(trillm):
    found = trillm("discover", "--json")

    assert found.returncode == 0
    assert isinstance(json.loads(found.stdout), list)


@pytest.mark.skipif(sys.platform == "win32", reason="a process is interrupted otherwise there")
def test_an_interrupted_simulator_says_nothing_and_exits_with_130(config):
    with started("sim") as process:
        url_of(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err.strip()) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="a process is interrupted otherwise there")
def test_a_probe_that_takes_too_long_can_be_interrupted(trillm, config):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        trillm("server", "add", "slow", f"http://127.0.0.1:{silent.getsockname()[1]}", "--no-check")
        with started("model", "list") as process:
            silent.settimeout(PATIENCE_S)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_running_trillm_follows_the_command_line(trillm, sim, config):
    with started("serve", "--port", "0", "--no-discover") as process:
        url_of(process)
        until(config.with_name("servers.json.run").exists)

        listed = json.loads(trillm("server", "list", "--json").stdout)
        assert listed["running"]["pid"] == process.pid
        assert [server["source"] for server in listed["servers"]] == ["builtin"]

        added = trillm("server", "add", "local", sim)
        assert added.stderr == f"Picked up by the running trillm (pid {process.pid}).\n"

        def states() -> dict[str, str]:
            return {s["name"]: s["state"] for s in json.loads(trillm("server", "list", "--json").stdout)["servers"]}

        until(lambda: states().get("local") == "up")
        models = json.loads(trillm("model", "list", "--json").stdout)["models"]
        assert ["local"] in [model["servers"] for model in models]

        trillm("server", "disable", "local")
        until(lambda: states()["local"] == "disabled")
        trillm("server", "remove", "local")
        until(lambda: "local" not in states())

        os.kill(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert not config.with_name("servers.json.run").exists()
