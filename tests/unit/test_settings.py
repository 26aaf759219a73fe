"""What ``trillm serve`` was told, on its way to a worker."""

import socket
from pathlib import Path

import pytest

from trillm.settings import ServeSettings, server_url

FULL = ServeSettings(
    config=Path("/etc/trillm/servers.json"),
    host="::",
    port=None,
    uds=Path("t.sock"),
    uds_mode=0o600,
    chat_budget_s=3.5,
    discover=False,
    allowed_hosts=("llm.example", "other.example"),
    forwarded_allow_ips="10.0.0.0/8",
    certfile=Path("cert.pem"),
    keyfile=Path("key.pem"),
    keyfile_password="open sesame",
    workers=3,
    log_format="json",
    drain_s=0.0,
)


@pytest.mark.parametrize("settings", [ServeSettings(config=Path("servers.json")), FULL])
def test_a_worker_has_the_very_settings_of_its_parent(settings):
    assert ServeSettings.decoded(settings.encoded()) == settings


def test_what_is_secret_is_not_shown():
    assert "sesame" not in repr(FULL)


@pytest.mark.parametrize(
    ("settings", "family", "url"),
    [
        ({"host": "127.0.0.1"}, socket.AF_INET, r"http://127\.0\.0\.1:\d+"),
        ({"host": "0.0.0.0", "certfile": Path("c")}, socket.AF_INET, r"https://127\.0\.0\.1:\d+"),
        ({"uds": Path("/run/a b.sock")}, getattr(socket, "AF_UNIX", None), r"http\+unix://%2Frun%2Fa%20b\.sock"),
        ({"uds": Path("/x"), "certfile": Path("c")}, getattr(socket, "AF_UNIX", None), r"https\+unix://%2Fx"),
    ],
)
def test_the_address_is_one_that_this_machine_can_call(settings, family, url):
    import re

    if family is None:
        pytest.skip("this system has no Unix sockets")
    with socket.socket(family) as listening:
        if family == socket.AF_INET:
            listening.bind(("127.0.0.1", 0))
        assert re.fullmatch(url, server_url(listening, ServeSettings(config=Path("s"), **settings)))
