"""The README's commands, word by word, as a stranger runs them: a copy of the checkout, a fresh HOME, a fresh .venv."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attrs import frozen

from trillm.cli.root import MODULES
from trillm.gateway.paths import PATHS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the README's commands are for a POSIX shell"),
]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = [block.strip("\n") for block in re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
RUN, TEST, BANNER = BLOCKS[:3]
INSTALL_S, START_S, STOP_S = 300, 20, 15


@frozen
class Place:
    """A copy of what git knows of the checkout, and an environment that nobody has used before."""

    folder: Path
    environment: dict[str, str]

    def shell(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )


def new_place(parent: Path) -> Place:
    folder, home = parent / "trillm", parent / "home"
    home.mkdir()
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    place = Place(folder, environment(home))
    version = place.shell("python3 -c 'import sys; print(sys.version_info >= (3, 11))'").stdout.strip()
    if version != "True":
        pytest.skip("python3 is older than 3.11, or not there")
    return place


def tracked_files() -> list[str]:
    listed = shutil.which("git") and subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not listed or listed.returncode:
        pytest.skip("no git, or not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def environment(home: Path) -> dict[str, str]:
    """Only what a shell needs, and the way to the package registry that this machine uses."""
    kept = {"PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy"}
    chosen = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
    defaults = {"PIP_CACHE_DIR": Path.home() / ".cache" / "pip"}
    if (settings := Path.home() / ".config" / "pip" / "pip.conf").exists():
        defaults["PIP_CONFIG_FILE"] = settings
    return {name: str(value) for name, value in defaults.items()} | chosen | {"HOME": str(home)}


@frozen
class Served:
    """What the first command has started."""

    place: Place
    printed: str

    @property
    def curl(self) -> str:
        return next(line.strip() for line in self.printed.splitlines() if line.strip().startswith("curl "))

    @property
    def snippet(self) -> str:
        lines = [line.removeprefix("  ") for line in self.printed.splitlines()]
        first = lines.index("from openai import OpenAI")
        return "\n".join(lines[first : first + 5])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Run the first command until the server answers; at the end SIGTERM must stop it."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8377)) == 0:
            pytest.skip("port 8377 is in use")
    parent = tmp_path_factory.mktemp("stranger")
    place, log = new_place(parent), parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", RUN], cwd=place.folder, env=place.environment, stdout=out, stderr=subprocess.STDOUT
        )
    pid = None
    try:
        wait_for(lambda: "serves at http" in log.read_text(), process, log, INSTALL_S + START_S)
        pid = json.loads(next((parent / "home").rglob("servers.json.run")).read_text())["pid"]
        wait_for(lambda: "  print(" in log.read_text(), process, log, START_S)
        yield Served(place, log.read_text())
        os.kill(pid, signal.SIGTERM)
        assert process.wait(STOP_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.kill(pid or process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition, process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - began < within_s, log.read_text()
        time.sleep(0.05)


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_the_first_command_serves_and_the_printed_curl_line_works(served):
    answered = served.place.shell(served.curl)
    assert json.loads(answered.stdout)["object"] == "chat.completion", answered


def test_the_printed_openai_snippet_works(served):
    install = re.search(r"`(\S+pip install openai)`", README)[1]
    assert served.place.shell(install).returncode == 0
    answered = served.place.shell(f".venv/bin/python - <<'END'\n{served.snippet}\nEND")
    assert answered.returncode == 0, answered
    assert answered.stdout.strip()


def test_the_readme_shows_what_is_printed(served):
    if "sim-chat" not in served.printed:
        pytest.skip("this machine has LLM servers of its own")
    begin = served.printed.index("trillm serves at")
    assert without_the_machine(served.printed[begin:]).startswith(without_the_machine(BANNER))


def without_the_machine(banner: str) -> str:
    """Leave out what differs between machines: the registry's path, and the simulator's port."""
    banner = re.sub(r"\(registry: .*\)", "(registry: PATH)", banner)
    return re.sub(r"(builtin: trillm at \S+:)\d+", r"\1PORT", banner)


def test_the_second_command_installs_and_finds_all_tests(tmp_path):
    # Only collected: this test is one of them.
    done = new_place(tmp_path).shell(TEST, PYTEST_ADDOPTS="--collect-only -q")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ tests collected", done.stdout, re.MULTILINE)


def test_the_readme_names_every_command_and_every_path():
    assert [name for name in MODULES if f"`trillm {name}" not in README] == []
    short = {path for path in PATHS if path.startswith(("/v1/", "/v2/", "/rerank"))}
    assert [path for path in sorted(short) if f"{path}`" not in README] == []
