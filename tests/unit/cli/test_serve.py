"""``trillm serve``: options become settings."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from trillm.errors import ConfigError
from trillm.keys import OAuthSettings
from trillm.settings import ServeSettings


@pytest.fixture
def served(monkeypatch):
    """Take the place of the application, which is not this module's; holds the settings it was given."""
    given = []

    async def serve(settings):
        given.append(settings)
        return 0

    for name, function in (("trillm.app", "serve"), ("trillm.parent", "serve_workers")):
        application = ModuleType(name)
        setattr(application, function, serve)
        monkeypatch.setitem(sys.modules, name, application)
    return given


def test_the_defaults_are_those_of_the_settings(cli, store, served):
    assert cli("serve").code == 0
    assert served == [ServeSettings(config=store.path)]


def test_every_option_arrives(cli, tmp_path, served):
    cli(
        *("serve", "--config", str(tmp_path / "other.json"), "--host", "0.0.0.0", "--port", "0"),
        *("--chat-budget", "30", "--embeddings-budget", "1", "--rerank-budget", "2.5"),
        *("--no-discover", "--no-auth", "--allowed-host", "llm.example"),
        *("--log-format", "json", "--log-level", "debug", "--drain", "3"),
    )

    assert served == [
        ServeSettings(
            config=tmp_path / "other.json",
            host="0.0.0.0",
            port=0,
            chat_budget_s=30,
            embeddings_budget_s=1,
            rerank_budget_s=2.5,
            discover=False,
            auth=False,
            allowed_hosts=("llm.example",),
            log_format="json",
            log_level="debug",
            drain_s=3,
        )
    ]


def test_mcp_and_its_issuer_are_settings_too(cli, store, served):
    cli(
        *("serve", "--mcp-port", "0", "--oauth-issuer", "https://login.example/t"),
        *("--oauth-resource", "https://llm.example/mcp", "--oauth-scope", "mcp", "--oauth-scope", "x"),
    )
    cli("serve", "--no-mcp")

    oauth = OAuthSettings("https://login.example/t", "https://llm.example/mcp", ("mcp", "x"))
    assert served == [
        ServeSettings(config=store.path, mcp_port=0, oauth=oauth),
        ServeSettings(config=store.path, mcp=False),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--no-mcp", "--mcp-port", "1"), "makes no sense"),
        (("--oauth-issuer", "https://a"), "go together"),
        (("--oauth-resource", "https://a"), "go together"),
        (("--oauth-scope", "a"), "go together"),
        (("--oauth-issuer", "a", "--oauth-resource", "https://a"), "--oauth-issuer needs a URL"),
    ],
)
def test_options_that_do_not_fit_are_bad_usage(cli, served, options, words):
    outcome = cli("serve", *options)
    assert (outcome.code, served) == (2, [])
    assert words in outcome.err


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (("--uds", "/run/t.sock"), {"port": None, "uds": Path("/run/t.sock")}),
        (("--uds", "t.sock", "--uds-mode", "0600"), {"port": None, "uds": Path("t.sock"), "uds_mode": 0o600}),
        (("--uds", "t.sock", "--port", "0"), {"port": 0, "uds": Path("t.sock")}),
        (("--uds", "t.sock", "--host", "::1"), {"host": "::1", "uds": Path("t.sock")}),
    ],
)
def test_a_unix_socket_alone_is_all_there_is_unless_an_address_is_given_too(cli, store, served, options, settings):
    assert cli("serve", *options).code == 0
    assert served == [ServeSettings(config=store.path, **settings)]


@pytest.mark.parametrize(
    ("options", "environment", "workers"),
    [
        ((), {}, 1),
        (("--workers", "3"), {}, 3),
        ((), {"TRILLM_WORKERS": "4"}, 4),
        (("--workers", "2"), {"TRILLM_WORKERS": "4"}, 2),
        (("--workers", "auto"), {}, 6),
    ],
)
def test_workers_are_counted_or_one_for_each_core(cli, store, served, monkeypatch, options, environment, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(6), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli("serve", *options).code == 0
    assert served == [ServeSettings(config=store.path, workers=workers)]


@pytest.mark.parametrize("workers", ["0", "-1", "257", "many", "1.5"])
def test_no_other_number_of_workers_is_taken(cli, workers):
    refused = cli("serve", "--workers", workers)
    assert refused.code == 2
    assert "is neither a number from 1 to 256 nor 'auto'" in refused.err


def test_proxies_are_checked_before_anything_starts(cli, store, served, monkeypatch):
    refused = cli("serve", "--forwarded-allow-ips", "localhost")
    assert refused.code == 2
    assert "'localhost' is no address or network" in refused.err
    monkeypatch.setenv("TRILLM_FORWARDED_ALLOW_IPS", "10.0.0.0/8,unix:")
    assert cli("serve").code == 0
    assert served == [ServeSettings(config=store.path, forwarded_allow_ips="10.0.0.0/8,unix:")]


@pytest.mark.parametrize("mode", ["999", "rw", "-1", "1777"])
def test_what_is_no_file_mode_is_refused(cli, mode):
    refused = cli("serve", "--uds", "t.sock", "--uds-mode", mode)
    assert refused.code == 2
    assert "is no file mode such as 660" in refused.err


def test_its_exit_status_is_ours_and_its_error_is_one_line_however_deep_it_was_raised(cli, served):
    async def fails(_settings):
        problem = ConfigError("host", "cannot be bound")
        raise ExceptionGroup("root", [ExceptionGroup("faces", [problem])])

    async def ends(_settings):
        return 3

    sys.modules["trillm.app"].serve = fails
    outcome = cli("serve")
    assert (outcome.code, outcome.err) == (1, "trillm: host: cannot be bound\n")

    sys.modules["trillm.app"].serve = ends
    assert cli("serve").code == 3
