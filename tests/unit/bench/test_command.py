"""``trillm bench`` as it is typed."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from trillm.cli import run


class Chat(BaseHTTPRequestHandler):
    """Answers every chat with two tokens, or as a whole."""

    protocol_version = "HTTP/1.1"
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers["authorization"])
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        token = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        body = token * 2 + b"data: [DONE]\n\n" if request.get("stream") else b"{}"
        self.send_response(200 if request["model"] == "tiny" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def chat() -> Iterator[str]:
    """The URL of a server that chats."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def bench(monkeypatch):
    """Run it without a warm-up worth the name."""
    monkeypatch.setattr("trillm.cli.bench.WARMUP_S", 0.01)
    return lambda *args: run(("bench", *args, "--seconds", "0.2"))


def test_it_prints_a_line_for_each_concurrency(chat, bench, capsys):
    assert bench(chat, "--model", "tiny", "--concurrency", "1,3") == 0

    out, err = capsys.readouterr()
    title, *lines = out.splitlines()
    assert "FIRST TOKEN" in title
    assert [line.split()[0] for line in lines] == ["1", "3"]
    assert "status" not in out
    assert "3 at once" in err


def test_plain_chats_have_no_tokens_to_tell_of(chat, bench, capsys):
    assert bench(chat, "--model", "tiny", "--concurrency", "1", "--plain") == 0

    assert "TOKEN" not in capsys.readouterr().out


def test_programs_get_json(chat, bench, capsys):
    assert bench(chat, "--model", "tiny", "--concurrency", "2", "--json") == 0

    said = json.loads(capsys.readouterr().out)
    (one,) = said["rounds"]
    assert (said["kind"], one["connections"], one["errors"]) == ("stream", 2, {})
    assert one["requests"] > 0
    assert one["first_token"]["p99"] >= one["first_token"]["p50"] > 0


def test_errors_are_shown_and_a_server_that_answers_none_is_exit_code_1(chat, bench, capsys):
    assert bench(chat, "--model", "huge", "--concurrency", "1") == 1

    out, err = capsys.readouterr()
    assert " status 404" in out
    assert err.endswith("trillm: no request was answered\n")


def test_nobody_there_is_exit_code_1_and_the_reason(bench, capsys):
    with socket.create_server(("127.0.0.1", 0)) as once:
        url = f"http://127.0.0.1:{once.getsockname()[1]}"

    assert bench(url, "--model", "tiny", "--concurrency", "1") == 1
    assert "connection refused" in capsys.readouterr().out


def test_the_key_comes_from_the_environment(chat, bench, monkeypatch):
    monkeypatch.setenv("BENCH_KEY", "tl-1")
    Chat.keys.clear()

    assert bench(chat, "--model", "tiny", "--concurrency", "1", "--api-key-env", "BENCH_KEY") == 0
    assert set(Chat.keys) == {"Bearer tl-1"}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["ftp://files.example", "--model", "m"], "not an http(s) URL"),
        (["http://a.example"], "Missing option '--model'"),
        (["http://a.example", "--model", "m", "--concurrency", "1,x"], "'1,x' is not a list of numbers"),
        (["http://a.example", "--model", "m", "--concurrency", "0"], "'0' is not a list of numbers"),
        (["http://a.example", "--model", "m", "--api-key-env", "NOT_SET_ANYWHERE"], "is not set"),
    ],
)
def test_bad_usage_is_exit_code_2(bench, capsys, args, complaint):
    assert bench(*args) == 2
    assert complaint in capsys.readouterr().err
