"""Upstream MCP servers as the file has them: what is refused, where, and what is never shown."""

import pytest

from trillm.errors import ConfigError
from trillm.registry.document import Document
from trillm.registry.mcpentries import McpServer

URL = "https://mcp.example/mcp"
BAD = [
    ({"a__b": {"url": URL}}, "mcp_servers.a__b", "no '__' in it"),
    ({"a_": {"url": URL}}, "mcp_servers.a_", "no '_' at its end"),
    ({"a.b": {"url": URL}}, "mcp_servers.a.b", "a name starts with"),
    ({"a" * 33: {"url": URL}}, "mcp_servers." + "a" * 33, "up to 32"),
    ({"a": {}}, "mcp_servers.a", "needs either a url or a command"),
    ({"a": {"url": URL, "command": "x"}}, "mcp_servers.a", "not both"),
    ({"a": []}, "mcp_servers.a", "must be an object"),
    ({"a": {"url": "ftp://mcp.example"}}, "mcp_servers.a.url", "must begin with http, https, ws, wss"),
    ({"a": {"url": "https://"}}, "mcp_servers.a.url", "name a host"),
    ({"a": {"url": "https://me:hunter2@mcp.example"}}, "mcp_servers.a.url", "no user"),
    ({"a": {"url": URL, "args": ["x"]}}, "mcp_servers.a.args", "goes with a command"),
    ({"a": {"url": URL, "env": {"A": "b"}}}, "mcp_servers.a.env", "goes with a command"),
    ({"a": {"command": "x", "header_env": {"A": "B"}}}, "mcp_servers.a.header_env", "goes with a url"),
    ({"a": {"command": ["x"]}}, "mcp_servers.a.command", "must be a text"),
    ({"a": {"command": "x", "args": "hunter2"}}, "mcp_servers.a.args", "must be a list of texts"),
    ({"a": {"command": "x", "args": ["a\0b"]}}, "mcp_servers.a.args", "must be a list of texts"),
    ({"a": {"command": "x", "env": {"A": 1}}}, "mcp_servers.a.env", "must be an object of environment variables"),
    ({"a": {"command": "x", "env": {"A B": "1"}}}, "mcp_servers.a.env", "must be an object of environment variables"),
    ({"a": {"url": URL, "header_env": {"A": "hunter-2"}}}, "mcp_servers.a.header_env", "environment variable"),
    ({"a": {"url": URL, "header_env": {"a b": "A"}}}, "mcp_servers.a.header_env", "header names"),
    ({"a": {"url": URL, "allow_tools": "read"}}, "mcp_servers.a.allow_tools", "must be a list"),
    ({"a": {"url": URL, "era": "2026"}}, "mcp_servers.a.era", "must be auto or legacy or modern: '2026'"),
    ({"a": {"url": URL, "sessions": 1}}, "mcp_servers.a.sessions", "must be auto or private or shared: 1"),
    ({"a": {"url": URL, "idle_s": 0}}, "mcp_servers.a.idle_s", "must be seconds"),
]


@pytest.mark.parametrize(("section", "where", "problem"), BAD, ids=lambda value: None)
def test_a_bad_field_is_named_by_its_path_and_no_secret_is_repeated(section, where, problem):
    with pytest.raises(ConfigError) as caught:
        Document.from_json({"mcp_servers": section})
    assert caught.value.where == where
    assert problem in caught.value.problem
    assert "hunter" not in str(caught.value)


def test_a_header_comes_from_the_environment_and_a_bare_token_gets_its_scheme(monkeypatch):
    server = McpServer("a", url=URL, header_env={"Authorization": "TOKEN", "X-Key": "KEY"})
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("KEY", "abc")
    assert server.headers() == {"Authorization": "Bearer hunter2", "X-Key": "abc"}
    monkeypatch.setenv("TOKEN", "Basic aGk=")
    assert server.headers()["Authorization"] == "Basic aGk="


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    server = McpServer("a", url=URL, header_env={"Authorization": "TOKEN"})
    with pytest.raises(ConfigError, match=r"mcp_servers\.a\.header_env\.Authorization: .*TOKEN is not set"):
        server.headers()


def test_a_variable_of_ours_stands_in_one_of_its(monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2")
    server = McpServer("a", command="x", env={"AUTH": "key=${TOKEN}", "PLAIN": "$TOKEN"})
    assert server.variables() == {"AUTH": "key=hunter2", "PLAIN": "$TOKEN"}


@pytest.mark.parametrize(
    ("patterns", "tool", "allowed"),
    [
        ((), "read_file", True),
        (("read_*",), "read_file", True),
        (("read_*",), "write_file", False),
        (("write_file", "read_*"), "write_file", True),
        (("READ_*",), "read_file", False),
    ],
)
def test_tools_are_allowed_by_pattern(patterns, tool, allowed):
    assert McpServer("a", command="x", allow_tools=patterns).allows(tool) is allowed


def test_its_address_for_people_holds_no_query():
    assert McpServer("a", url=f"{URL}?key=hunter2").address == URL
    assert McpServer("a", command="npx", args=("--key", "hunter2")).address == "npx"
