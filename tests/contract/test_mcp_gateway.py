"""Upstream MCP servers through trillm: the same for every transport and every pair of eras."""

from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from mcp.shared.exceptions import MCPError
from support.mcpfront import MODES, elicit, fronted, program, roots, sample, stdio, text, until

from trillm.registry.mcpentries import McpServer

ERAS = ("both", "legacy", "modern")
TRANSPORTS = ("stdio", "http", "ws")
#: The SDK's HTTP client leaves generators to the garbage collector; what they held is closed by then.
pytestmark = pytest.mark.filterwarnings("ignore:.*SEP-2577")


@asynccontextmanager
async def before(transport: str, era: str, journal: Any = None, **fields: Any) -> Any:
    """A gateway before one upstream called ``demo``."""
    options = ("--era", era, *(("--journal", str(journal)) if journal else ()))
    with ExitStack() as stack:
        if transport == "stdio":
            server = stdio("demo", *options, **fields)
        else:
            _, url = stack.enter_context(program(transport, "--name", "demo", *options))
            server = McpServer("demo", url=url, **fields)
        async with fronted(server) as front:
            yield front


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_everything_crosses_every_pair_of_eras(transport, era, mode, tmp_path):
    journal, progress = tmp_path / "journal", []

    async def on_progress(done: float, total: Any, message: Any) -> None:
        progress.append(done)

    callbacks = {"elicitation_callback": elicit, "sampling_callback": sample, "list_roots_callback": roots}
    async with before(transport, era, journal) as front, front.client(mode, **callbacks) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[:3] == ["own", "demo__add", "demo__count"]
        assert text(await client.call_tool("own", {})) == "mine"
        assert text(await client.call_tool("demo__add", {"a": 2, "b": 3})) == "5"
        assert text(await client.call_tool("demo__count", {}, progress_callback=on_progress)) == "counted"
        await until(lambda: sorted(progress) == [1, 2, 3])
        assert text(await client.call_tool("demo__ask", {})) == "hello trio"
        assert text(await client.call_tool("demo__sample", {})) == "client: hi"
        assert text(await client.call_tool("demo__roots", {})) == "file:///work"
        assert text(await client.call_tool("demo__headed", {"region": "ü"})) == "region ü"
        assert (await client.read_resource("demo://clock")).contents[0].text == "at demo://clock"
        assert (await client.read_resource("demo://home/weather")).contents[0].text == "at demo://home/weather"
        assert (await client.read_resource("mcp://demo/demo://clock")).contents[0].text == "at demo://clock"
        greeting = (await client.get_prompt("demo__greet", {"who": "x"})).messages[0]
        assert greeting.content.text == "Greet x"
        with trio.move_on_after(0.3):
            await client.call_tool("demo__sleep", {})
        await until(lambda: journal.read_text().split("\n")[-3:-1] == ["started", "cancelled"])
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("demo__nothing", {})
        assert text(await client.call_tool("demo__add", {"a": 1, "b": 1})) == "2"
