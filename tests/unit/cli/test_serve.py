"""``trillm serve``: options become settings."""

import sys
from types import ModuleType

import pytest

from trillm.errors import ConfigError
from trillm.gateway.tokens import OAuthSettings
from trillm.settings import ServeSettings


@pytest.fixture
def served(monkeypatch):
    """Take the place of the application, which is not this module's; holds the settings it was given."""
    given = []

    async def serve(settings):
        given.append(settings)
        return 0

    application = ModuleType("trillm.app")
    application.serve = serve
    monkeypatch.setitem(sys.modules, "trillm.app", application)
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
