"""``trillm mcp stdio`` as a desktop client starts it, the SDK's own client on the other side."""

import subprocess
import sys

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from support.mcpclient import NEW, OLD
from support.program import serving

from trillm.keys import Grants
from trillm.registry.store import Store


def stdio(config, mode, *options, env=None):
    arguments = ["-m", "trillm", "--config", str(config), "mcp", "stdio", *options]
    return Client(stdio_client(StdioServerParameters(command=sys.executable, args=arguments, env=env)), mode=mode)


@pytest.mark.parametrize("mode", [OLD, NEW, "auto"])
async def test_the_running_trillm_answers_with_its_operators_rights(tmp_path, mode):
    with serving(tmp_path, "--no-discover") as program:
        async with stdio(program.config, mode) as mcp:
            tools = [tool.name for tool in (await mcp.list_tools()).tools]
            answer = await mcp.call_tool("chat", {"model": "sim-chat", "prompt": "Hello!"})
        assert {"chat", "add_server"} <= set(tools)
        assert "Hello!" in answer.content[0].text
        assert "request" in program.log.read_text()  # that one answered, not one of its own


@pytest.mark.parametrize("mode", [OLD, NEW])
async def test_none_runs_so_it_serves_alone(tmp_path, mode):
    async with stdio(tmp_path / "servers.json", mode) as mcp:
        answer = await mcp.call_tool("chat", {"model": "sim-chat", "prompt": "Hello!"})
    assert "Hello!" in answer.content[0].text


async def test_a_trillm_elsewhere_is_asked_with_a_key(tmp_path):
    config = tmp_path / "servers.json"
    key = Store(config).keys.create("a", Grants(tools=("list_models",)))
    with serving(tmp_path, "--no-discover") as program:
        async with stdio(tmp_path / "other.json", OLD, "--url", program.url, env={"TRILLM_KEY": key}) as mcp:
            assert [tool.name for tool in (await mcp.list_tools()).tools] == ["list_models"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--url", "http://127.0.0.1:1"), "cannot connect"),
        (("--url", "ftp://x"), "needs http(s)://"),
        (("--server", "nope"), "There is no MCP server named 'nope'"),
    ],
)
def test_what_cannot_be_reached_is_said_on_standard_error(tmp_path, options, words):
    command = [sys.executable, "-m", "trillm", "--config", str(tmp_path / "servers.json"), "mcp", "stdio", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
