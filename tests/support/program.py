"""The installed program as a user runs it: ``trillm`` as a subprocess."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attrs import define, field, frozen


@frozen
class Program:
    """A running ``trillm serve`` and the command line beside it."""

    process: subprocess.Popen[bytes]
    config: Path
    log: Path

    @property
    def run_file(self) -> Path:
        return self.config.with_name(f"{self.config.name}.run")

    @property
    def url(self) -> str:
        return json.loads(self.run_file.read_text())["url"]

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return cli(self.config, *arguments, check=check)


def cli(config: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    command = [sys.executable, "-m", "trillm", "--config", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def serving(
    folder: Path, *options: str, config: Path | None = None, port: int | None = 0, before: str = ""
) -> Iterator[Program]:
    """Run ``trillm serve`` until the block ends; then SIGTERM, and it must stop by itself.

    ``before`` is code that is run first, in the same process.
    """
    config = config or folder / "servers.json"
    log = folder / "trillm.log"
    program = ["-c", f"{before}; from trillm.cli import main; main()"] if before else ["-m", "trillm"]
    command = [sys.executable, *program, "--config", str(config), "serve", *options]
    command += [] if port is None else ["--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"})
        program = Program(process, config, log)
        try:
            wait_for(program.run_file.exists, process, log)
            yield program
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@contextmanager
def serving_sim(*options):
    """``trillm sim`` as a subprocess; yields its URL."""
    command = [sys.executable, "-m", "trillm", "sim", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield re.search(r"http://[\w.:]+", process.stdout.readline())[0]
        finally:
            process.terminate()


@define(eq=False)
class Counted:
    """A server that answers chats and knows exactly how many it had at once: a chat counts until it is answered."""

    takes_s: float
    answered: int = 0
    peak: int = 0
    _running: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def chat(self, takes_s: float | None) -> bytes:
        with self._lock:
            self._running += 1
            self.peak = max(self.peak, self._running)
        time.sleep(self.takes_s if takes_s is None else takes_s)
        with self._lock:
            self._running -= 1
            self.answered += 1
        return json.dumps({"object": "chat.completion", "choices": [{"message": {"content": "Hello"}}]}).encode()


@contextmanager
def serving_counted(takes_s: float) -> Iterator[tuple[Counted, str]]:
    """Run such a server, with a thread for each connection; ``x_takes_s`` in a request is its own time."""
    counted = Counted(takes_s)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answer(counted.chat(body.get("x_takes_s")))

        def answer(self, body: bytes):
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

        def handle(self):
            with suppress(ConnectionError):  # a client that was killed
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield counted, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def wait_for(condition, process=None, log=None, within_s: float = 15) -> None:
    """Wait until ``condition()``; fail if the process ends first."""
    began = time.monotonic()
    while not condition():
        assert process is None or process.poll() is None, log.read_text()
        assert time.monotonic() - began < within_s, log.read_text() if log else condition
        time.sleep(0.02)
