"""Many tools are found rather than listed; an upstream that asks for a model gets one of ours: in a whole trillm."""

import json
import sys

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from support.mcpfront import PROGRAM, text, websocket
from support.running import Sim, running

pytestmark = pytest.mark.filterwarnings("ignore:.*SEP-2577")


def document(**fields):
    command = {"command": sys.executable, "args": ["-W", "ignore", PROGRAM, "stdio"], **fields}
    return {"mcp_servers": {"demo": command}}


def client(trillm, path=""):
    return Client(websocket(trillm.url.replace("http", "ws", 1) + "/mcp" + path), mode="2026-07-28")


@pytest.mark.parametrize("model", [None, "sim-rerank"])
async def test_beyond_a_number_tools_are_searched_and_called_by_name(tmp_path, model):
    settings = {"mcp_search_above": 5, "mcp_search_model": model}
    async with running(tmp_path, {"one": Sim()}, document=document(), **settings) as trillm, client(trillm) as asking:
        names = [tool.name for tool in (await asking.list_tools()).tools]
        assert names[-2:] == ["search_tools", "call_tool"]
        assert not [name for name in names if name.startswith("demo__")]

        found = await asking.call_tool("search_tools", {"query": "add two numbers, integers", "limit": 3})
        assert found.structured_content["tools"][0]["name"] == "demo__add"
        assert found.structured_content["tools"][0]["inputSchema"]["required"] == ["a", "b"]
        assert json.loads(text(found)) == found.structured_content

        called = await asking.call_tool("call_tool", {"name": "demo__add", "arguments": {"a": 2, "b": 3}})
        assert text(called) == "5"
        assert text(await asking.call_tool("demo__add", {"a": 2, "b": 3})) == "5"
        for arguments in ({}, {"query": " "}, {"query": "x", "limit": 0}):
            with pytest.raises(MCPError, match="must be"):
                await asking.call_tool("search_tools", arguments)


async def test_fewer_are_listed_and_nothing_of_a_search_is_seen(tmp_path):
    async with (
        running(tmp_path, {"one": Sim()}, document=document(), mcp_search_above=50) as trillm,
        client(trillm) as asking,
    ):
        names = [tool.name for tool in (await asking.list_tools()).tools]
        assert "demo__add" in names
        assert "search_tools" not in names


async def test_sampling_is_answered_by_the_model_the_entry_names(tmp_path):
    entry = document(sampling="sim-chat")
    async with running(tmp_path, {"one": Sim()}, document=entry) as trillm, client(trillm, "/demo") as asking:
        assert text(await asking.call_tool("sample", {})).startswith("sim-chat: ")


async def test_sampling_by_a_model_there_is_not_fails_the_call_and_says_so(tmp_path):
    entry = document(sampling="nothing")
    async with running(tmp_path, {"one": Sim()}, document=entry) as trillm, client(trillm) as asking:
        with pytest.raises(MCPError, match=r"Sampling failed: .*nothing"):
            await asking.call_tool("demo__sample", {})
