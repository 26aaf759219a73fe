"""Where clients connect: Unix sockets and ports, opened, refused, taken over, left behind."""

import os
import signal
import socket
import ssl
import stat
import sys
from pathlib import Path

import httpx
import pytest
import trustme
from support.program import cli, serving
from support.running import CHAT, Sim, running

from trillm.door.listeners import Address, open_listeners, open_parallel, open_tcp
from trillm.errors import ConfigError

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")

NOWHERE = "127.0.0.1"


def unix(path: Path, mode: int = 0o660) -> Address:
    return Address(NOWHERE, None, path, mode)


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def leave_a_stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
async def test_the_socket_has_its_permissions_and_is_gone_afterwards(tmp_path, mode):
    path = tmp_path / "trillm.sock"
    before = os.umask(0o077)
    try:
        async with open_listeners(unix(path, mode)) as (listener,):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert connects(path)
            assert not listener.socket.getblocking()
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "trillm.sock"
    leave_a_stale_socket(path)
    assert not connects(path)
    async with open_listeners(unix(path)):
        assert connects(path)


async def test_a_socket_that_somebody_listens_on_is_not_taken_from_them(tmp_path):
    path = tmp_path / "trillm.sock"
    async with open_listeners(unix(path)):
        with pytest.raises(ConfigError, match="a server listens there"):
            async with open_listeners(unix(path)):
                pass
        assert connects(path)


async def test_a_server_whose_backlog_is_full_is_one_that_listens(tmp_path):
    path = tmp_path / "trillm.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(ConfigError, match="a server listens there"):
            async with open_listeners(unix(path)):
                pass


async def test_what_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists and is no socket"):
        async with open_listeners(unix(path)):
            pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize(("name", "words"), [("x" * 150, "too long"), ("absent/t.sock", "no such file")])
async def test_where_there_can_be_no_socket_the_reason_is_told(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words) as caught:
        async with open_listeners(unix(tmp_path / name)):
            pass
    assert str(tmp_path / name) in caught.value.message
    assert list(tmp_path.iterdir()) == []


async def test_a_successors_socket_is_not_taken_away(tmp_path):
    path = tmp_path / "trillm.sock"
    async with open_listeners(unix(path)) as (first,):
        first.socket.close()  # it drains
        leave_a_stale_socket(path.with_name("successor"))
        path.with_name("successor").replace(path)
    assert path.exists()


async def test_a_system_without_unix_sockets_says_so(tmp_path, monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ConfigError, match="no Unix sockets"):
        async with open_listeners(unix(tmp_path / "t.sock")):
            pass


# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("192.0.2.1", 0, "not an address of this machine"), ("no such host", 0, "not an address of this machine")],
)
async def test_an_address_that_cannot_be_bound_is_explained(host, port, words):
    with pytest.raises(ConfigError, match=words):
        async with open_listeners(Address(host, port)):
            pass


async def test_a_port_in_use_is_found_even_if_its_user_would_share_it():
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind((NOWHERE, 0))
        first.listen()
        with pytest.raises(ConfigError, match="the port is in use"):
            await open_tcp(NOWHERE, first.getsockname()[1], backlog=1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not share out connections")
async def test_parallel_sockets_share_one_port():
    with socket.socket() as reserved:
        reserved.bind((NOWHERE, 0))
        address = (socket.AF_INET, reserved.getsockname())
        with pytest.raises(ConfigError, match="in use"):
            open_parallel([address])
    first, second = *open_parallel([address]), *open_parallel([address])
    with first, second:
        clients = [socket.create_connection(address[1]) for _ in range(64)]
        taken = [accepted(first), accepted(second)]
        for client in clients:
            client.close()
    assert sum(taken) == 64
    assert min(taken) > 5


def accepted(listening: socket.socket) -> int:
    count = 0
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


# ── the whole program ───────────────────────────────────────────────────────────────────────────────────────────


def over(path: Path, **more) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), **more), base_url="http://localhost")


def test_a_unix_socket_given_alone_is_all_there_is_and_the_command_line_finds_it(tmp_path):
    path = tmp_path / "t.sock"
    with serving(tmp_path, "--no-discover", "--uds", str(path), port=None) as program:
        assert program.url == f"http+unix://{str(path).replace('/', '%2F')}"
        with over(path) as client:
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 200  # the lane
            assert client.get("/v1/models").status_code == 200  # the app
            assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
        assert "builtin" in program.cli("server", "list", "--json").stdout
        assert f"--unix-socket {path} http://localhost/v1" in program.log.read_text()
    assert not path.exists()
    assert "STATE" not in cli(program.config, "server", "list").stdout


def test_a_unix_socket_beside_a_port(tmp_path):
    path = tmp_path / "t.sock"
    with serving(tmp_path, "--no-discover", "--uds", str(path), "--uds-mode", "600") as program:
        assert program.url.startswith("http://127.0.0.1:")
        assert str(path) in program.log.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with over(path) as client:
            assert client.get("/health/live").status_code == 200
        assert httpx.get(f"{program.url}/health/live", trust_env=False).status_code == 200


def test_after_a_crash_the_next_one_takes_the_place(tmp_path):
    path = tmp_path / "t.sock"
    with serving(tmp_path, "--no-discover", "--uds", str(path), port=None) as program:
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
        assert path.exists()
    program.run_file.unlink()
    with serving(tmp_path, "--no-discover", "--uds", str(path), port=None), over(path) as client:
        assert client.get("/health/live").status_code == 200


async def test_a_client_that_leaves_a_unix_socket_ends_its_request(tmp_path):
    path = tmp_path / "t.sock"
    async with running(tmp_path, {"one": Sim()}, uds=path) as trillm:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = CHAT | {"stream": True, "x_sim": {"itl_s": 0.1, "tokens": 500}}
            async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
                assert reply.status_code == 200
                assert (await trillm.sim_stats("one"))["in_flight"] == 1
        assert (await trillm.settled("one", within_s=2))["aborted"] == 1


@pytest.fixture
def secret_key(tmp_path):
    """A certificate whose key has a password."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    (tmp_path / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    (tmp_path / "key.pem").write_bytes(locked)
    return authority


def test_tls_on_a_unix_socket_with_a_key_that_has_a_password(tmp_path, secret_key, monkeypatch):
    path = tmp_path / "t.sock"
    files = ("--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem"))
    trust = ssl.create_default_context()
    secret_key.configure_trust(trust)
    monkeypatch.setenv("TRILLM_KEYFILE_PASSWORD", "open sesame")
    with serving(tmp_path, "--no-discover", "--uds", str(path), *files, port=None) as program:
        for http2 in (False, True):
            with httpx.Client(
                transport=httpx.HTTPTransport(uds=str(path), verify=trust, http2=http2), base_url="https://localhost"
            ) as client:
                answered = client.post("/v1/chat/completions", json=CHAT)
                assert (answered.status_code, answered.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
        assert "builtin" in program.cli("server", "list", "--json").stdout


@pytest.mark.parametrize(
    ("password", "words"), [((), "give --keyfile-password"), (("--keyfile-password", "wrong"), "is not what")]
)
def test_a_keys_password_that_is_missing_or_wrong_is_said_and_not_asked_for(tmp_path, secret_key, password, words):
    files = ("--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem"))
    ended = cli(tmp_path / "s.json", "serve", "--port", "0", *files, *password, check=False)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "wrong" not in ended.stderr
