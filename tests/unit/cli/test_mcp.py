"""Upstream MCP servers on the command line: what is written, what is refused, what is said."""

import shlex
import sys

import pytest
from support.mcpfront import PROGRAM

from trillm.registry.document import McpServer

DEMO = shlex.join([sys.executable, "-W", "ignore", PROGRAM, "stdio", "--name", "demo"])


@pytest.fixture
def demo(cli, store):
    """An MCP server in the registry that can be started."""
    cli("mcp", "add", "demo", "--command", DEMO, "--no-check")
    return lambda: store.read().mcp_servers["demo"]


def test_add_writes_what_was_given(cli, store):
    outcome = cli(
        *("mcp", "add", "files", "--command", "npx -y files '/my folder'", "--env", "A=b=c", "--env", "K=${K}"),
        *("--cwd", "/srv", "--allow-tool", "read_*", "--allow-tool", "list", "--era", "legacy", "--sessions", "shared"),
        *("--sampling", "fast", "--start-timeout", "90", "--call-timeout", "60", "--idle", "30"),
        *("--disabled", "--no-check"),
    )

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Added files. Its tools are offered as files__TOOL")
    assert store.read().mcp_servers["files"] == McpServer(
        "files",
        command="npx",
        args=("-y", "files", "/my folder"),
        env={"A": "b=c", "K": "${K}"},
        cwd="/srv",
        allow_tools=("read_*", "list"),
        era="legacy",
        sessions="shared",
        sampling="fast",
        start_s=90,
        call_s=60,
        idle_s=30,
        enabled=False,
    )


def test_a_url_comes_with_headers_from_the_environment(cli, store):
    cli("mcp", "add", "docs", "--url", "wss://docs.example/mcp", "--header-env", "Authorization=TOKEN", "--no-check")

    written = store.read().to_json()["mcp_servers"]["docs"]
    assert written == {"url": "wss://docs.example/mcp", "header_env": {"Authorization": "TOKEN"}}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["x"], "mcp_servers.x: needs either a url or a command"),
        (["x", "--url", "http://a.example", "--command", "y"], "mcp_servers.x: needs either a url or a command, not"),
        (["x", "--url", "a.example"], "mcp_servers.x.url: "),
        (["x__y", "--command", "y"], "mcp_servers.x__y: "),
        (["x", "--command", "y 'z"], "mcp_servers.x.command: No closing quotation"),
        (["x", "--command", " "], "mcp_servers.x.command: is empty"),
        (["x", "--command", "y", "--env", "hunter2"], "mcp_servers.x.env: must be NAME=VALUE"),
        (["x", "--command", "y", "--header-env", "A=B"], "mcp_servers.x.header_env: goes with a url"),
        (["demo", "--command", "y"], "mcp_servers.demo: there is an MCP server of that name"),
    ],
)
def test_add_refuses_what_is_wrong_and_says_where(cli, demo, store, args, complaint):
    before = store.read()

    outcome = cli("mcp", "add", *args, "--no-check")

    assert outcome.code == 1
    assert complaint in outcome.err
    assert "hunter2" not in outcome.err
    assert outcome.err.count("\n") == 1
    assert store.read() == before


def test_add_connects_and_says_what_it_is(cli, store):
    outcome = cli("mcp", "add", "demo", "--command", DEMO, "--allow-tool", "add")

    assert outcome.code == 0
    assert "is demo 0.1, MCP 2026-07-28, with 12 tools, 1 prompt, 1 resource" in outcome.out
    assert "  add  Add two integers\n" in outcome.out
    assert "  count  (not allowed)  Tell progress" in outcome.out
    assert "demo" in store.read().mcp_servers


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("no-such-program", "cannot start 'no-such-program'"),
        (shlex.join([sys.executable, "-c", "import sys; sys.exit('no licence')"]), "ended with status 1: no licence"),
    ],
)
def test_add_refuses_what_cannot_be_started_and_says_why(cli, store, command, complaint):
    outcome = cli("mcp", "add", "x", "--command", command)

    assert outcome.code == 1
    assert complaint in outcome.err
    assert "--no-check" in outcome.err
    assert not store.read().mcp_servers


def test_add_refuses_what_cannot_be_reached(cli, closed_port):
    outcome = cli("mcp", "add", "x", "--url", f"http://127.0.0.1:{closed_port}/mcp")

    assert outcome.code == 1
    assert f"mcp_servers.x: cannot connect to 127.0.0.1:{closed_port}: " in outcome.err


def test_enable_disable_and_remove(cli, demo, store):
    assert cli("mcp", "disable", "demo").out == "Disabled demo.\n"
    assert not demo().enabled
    assert cli("mcp", "enable", "demo").out == "Enabled demo.\n"
    assert demo().enabled
    assert cli("mcp", "remove", "demo").out == "Removed demo.\n"
    assert not store.read().mcp_servers


@pytest.mark.parametrize("command", ["show", "test", "tools", "enable", "disable", "remove"])
def test_a_name_that_is_not_there_is_an_error_that_lists_those_that_are(cli, demo, command):
    outcome = cli("mcp", command, "nobody")

    assert outcome.code == 1
    assert outcome.err == "trillm: mcp_servers.nobody: no mcp server of that name; there are: demo\n"


def test_list_and_show_hide_what_may_be_secret(cli, store):
    cli("mcp", "add", "a", "--command", "a --key x", "--env", "KEY=hunter2", "--env", "B=${B}", "--no-check")
    cli("mcp", "add", "b", "--url", "https://b.example/mcp?key=hunter3", "--no-check")

    listed, shown = cli("mcp", "list"), cli("mcp", "show", "a")

    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "a", "b"]
    assert "https://b.example/mcp " in listed.out
    assert "KEY=(not shown)" in shown.out
    assert "B=${B}" in shown.out
    assert "hunter" not in listed.out + shown.out + cli("mcp", "show", "a", "--json").out
    assert cli("mcp", "list", "--json").json["mcp_servers"][0]["transport"] == "stdio"


def test_test_and_tools_speak_json(cli, demo):
    told = cli("mcp", "test", "demo", "--json").json
    assert (told["version"], told["server"]["name"], told["prompts"]) == ("2026-07-28", "demo", ["greet"])
    tools = cli("mcp", "tools", "demo", "--json").json["tools"]
    assert (tools[0]["name"], tools[0]["allowed"], tools[0]["inputSchema"]["required"]) == ("add", True, ["a", "b"])


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["add", "a=1", "b=2"], 0, "3\n", ""),
        (["add", '{"a": 1, "b": 2}'], 0, "3\n", ""),
        (["headed", "region=12"], 0, "region 12\n", ""),
        (["count"], 0, "counted\n", "1/3 step 1\n2/3 step 2\n3/3 step 3\n"),
        (["nope"], 1, "", "trillm: demo has no tool 'nope'; it has: add, count"),
        (["add", "a"], 1, "", "trillm: 'a' is no argument: write NAME=VALUE"),
        (["add", "{"], 1, "", "trillm: the arguments are no JSON"),
    ],
)
def test_call_takes_arguments_as_the_schema_wants_them(cli, demo, words, code, out, err):
    outcome = cli("mcp", "call", "demo", *words)

    assert (outcome.code, outcome.out) == (code, out)
    assert outcome.err.startswith(err)
