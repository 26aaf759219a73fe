"""MCP clients and servers from other hands, each in an environment of its own: needs npm and PyPI the first time."""

import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import foreign
from support.foreign import Unavailable, folder, npm, python
from support.mcpfront import PROGRAM
from support.program import cli, serving

HERE = Path(__file__).parent
NODE = ("ws@8", "@modelcontextprotocol/sdk@1.32.2", "@modelcontextprotocol/inspector@0.15.0")
SERVERS = ("@modelcontextprotocol/server-everything@2026.8.31", "@modelcontextprotocol/server-filesystem@2026.8.31")
CALL_S = 90

pytestmark = pytest.mark.slow


def fetched(fetch, *arguments):
    try:
        return fetch(*arguments)
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def modules():
    """Node's packages."""
    return fetched(npm, folder("node"), *NODE, *SERVERS)


@pytest.fixture(scope="module")
def node():
    return str(fetched(foreign.node))


@pytest.fixture(scope="module")
def mcp1():
    """A Python with the SDK's previous generation."""
    return fetched(python, folder("mcp1"), "mcp==1.30.0", "websockets")


def run(*command: str) -> str:
    # Node's programs start others by its name.
    path = os.pathsep.join((str(Path(command[0]).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return done.stdout


@contextmanager
def trillm(tmp_path, **entries):
    """A trillm with these MCP servers."""
    config = tmp_path / "servers.json"
    config.write_text(json.dumps({"mcp_servers": entries}))
    with serving(tmp_path, "--no-discover", config=config) as program:
        yield program


DEMO = {"command": sys.executable, "args": ["-W", "ignore", PROGRAM, "stdio", "--name", "demo"]}


# ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_inspector_lists_calls_and_reads(tmp_path, modules, node):
    inspector = str(modules / "@modelcontextprotocol" / "inspector" / "cli" / "build" / "cli.js")
    with trillm(tmp_path, demo=DEMO) as program:

        def inspect(*arguments: str):
            return json.loads(run(node, inspector, "--cli", f"{program.url}/mcp", "--transport", "http", *arguments))

        names = [tool["name"] for tool in inspect("--method", "tools/list")["tools"]]
        assert {"chat", "demo__add"} <= set(names)
        call = ("--method", "tools/call", "--tool-name", "demo__add", "--tool-arg", "a=2", "--tool-arg", "b=3")
        assert inspect(*call)["content"][0]["text"] == "5"
        assert inspect("--method", "resources/list")["resources"]
        assert (
            inspect("--method", "resources/read", "--uri", "demo://clock")["contents"][0]["text"] == "at demo://clock"
        )


@pytest.mark.parametrize("path", ["", "/demo"])
def test_the_typescript_sdk_over_websocket(tmp_path, modules, node, path):
    script = tmp_path / "client.mjs"
    script.write_text(TYPESCRIPT.replace("MODULES", str(modules)))
    with trillm(tmp_path, demo=DEMO) as program:
        prefix = "" if path else "demo__"
        said = json.loads(run(node, str(script), program.url.replace("http", "ws") + "/mcp" + path, prefix))
    assert said["add"] == "5"
    assert said["asked"] == "hello trio"
    assert said["resource"] == "at demo://clock"
    assert f"{prefix}add" in said["names"]


TYPESCRIPT = """
import { createRequire } from "module";
import { pathToFileURL } from "url";
const at = (path) => import(pathToFileURL("MODULES/@modelcontextprotocol/sdk/dist/esm/" + path));
const { Client } = await at("client/index.js");
const { WebSocketClientTransport } = await at("client/websocket.js");
const { ElicitRequestSchema } = await at("types.js");
globalThis.WebSocket ??= createRequire(import.meta.url)("MODULES/ws");
const [url, prefix] = process.argv.slice(2);
const client = new Client({ name: "t", version: "1" }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { name: "trio" } }));
await client.connect(new WebSocketClientTransport(new URL(url)));
const names = (await client.listTools()).tools.map((tool) => tool.name);
const add = (await client.callTool({ name: prefix + "add", arguments: { a: 2, b: 3 } })).content[0].text;
const asked = (await client.callTool({ name: prefix + "ask", arguments: {} })).content[0].text;
const resource = (await client.readResource({ uri: "demo://clock" })).contents[0].text;
console.log(JSON.stringify({ names, add, asked, resource }));
await client.close();
process.exit(0);
"""


def test_the_previous_python_sdk_over_websocket(tmp_path, mcp1):
    with trillm(tmp_path, demo=DEMO) as program:
        said = json.loads(run(str(mcp1), "-W", "ignore", "-c", MCP1, program.url.replace("http", "ws") + "/mcp"))
    assert said == {"add": "5", "asked": "hello trio", "resource": "at demo://clock"}


MCP1 = """
import asyncio, json, sys
from mcp import ClientSession, types
from mcp.client.websocket import websocket_client

async def elicit(context, params):
    return types.ElicitResult(action="accept", content={"name": "trio"})

async def main():
    async with (
        websocket_client(sys.argv[1]) as streams,
        ClientSession(*streams, elicitation_callback=elicit) as s,
    ):
        await s.initialize()
        add = (await s.call_tool("demo__add", {"a": 2, "b": 3})).content[0].text
        asked = (await s.call_tool("demo__ask", {})).content[0].text
        resource = (await s.read_resource("demo://clock")).contents[0].text
        print(json.dumps({"add": add, "asked": asked, "resource": resource}))

asyncio.run(main())
"""


def test_the_fastmcp_client_over_http(tmp_path):
    interpreter = fetched(python, folder("fastmcp"), "fastmcp==4.2.3")
    with trillm(tmp_path, demo=DEMO) as program:
        said = json.loads(run(str(interpreter), "-W", "ignore", "-c", FASTMCP, f"{program.url}/mcp").splitlines()[-1])
    assert said["add"] == "5"
    assert said["resource"] == "at demo://clock"
    assert "demo__add" in said["names"]


FASTMCP = """
import asyncio, json, sys
from fastmcp import Client

async def main():
    async with Client(sys.argv[1]) as client:
        names = [tool.name for tool in await client.list_tools()]
        add = (await client.call_tool("demo__add", {"a": 2, "b": 3})).content[0].text
        resource = (await client.read_resource("demo://clock"))[0].text
        print(json.dumps({"names": names, "add": add, "resource": resource}))

asyncio.run(main())
"""


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_server_from_npm_is_added_and_its_tool_called(tmp_path, modules, node):
    files = tmp_path / "files"
    files.mkdir()
    (files / "notes.txt").write_text("remember the milk")
    server = str(modules / "@modelcontextprotocol" / "server-filesystem" / "dist" / "index.js")
    config = tmp_path / "servers.json"

    added = cli(
        config, "mcp", "add", "files", "--command", shlex.join([node, server, str(files)]), "--allow-tool", "r*"
    )

    assert "MCP 2025-11-25" in added.stdout
    assert "write_file  (not allowed)" in added.stdout
    called = cli(config, "mcp", "call", "files", "read_text_file", f"path={files / 'notes.txt'}")
    assert called.stdout == "remember the milk\n"


def test_the_typescript_everything_server_through_trillm(tmp_path, modules, node):
    server = str(modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js")
    inspector = str(modules / "@modelcontextprotocol" / "inspector" / "cli" / "build" / "cli.js")
    with trillm(tmp_path, every={"command": node, "args": [server, "stdio"]}) as program:
        ask = (node, inspector, "--cli", f"{program.url}/mcp", "--transport", "http", "--method")
        assert "every__echo" in [tool["name"] for tool in json.loads(run(*ask, "tools/list"))["tools"]]
        said = json.loads(run(*ask, "tools/call", "--tool-name", "every__echo", "--tool-arg", "message=hi"))
        assert "hi" in said["content"][0]["text"]
        assert json.loads(run(*ask, "prompts/list"))["prompts"]
        assert json.loads(run(*ask, "resources/list"))["resources"]


def test_a_websocket_server_of_the_previous_python_sdk_as_upstream(tmp_path, mcp1):
    with subprocess.Popen([str(mcp1), "-W", "ignore", "-c", SERVER1], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            config = tmp_path / "servers.json"
            added = cli(config, "mcp", "add", "old", "--url", url)
            assert "MCP 2025-11-25, with 1 tool" in added.stdout
            assert cli(config, "mcp", "call", "old", "double", "x=21").stdout == "42\n"
        finally:
            process.kill()


SERVER1 = """
import asyncio, socket
import uvicorn
from mcp.server.fastmcp import FastMCP
from mcp.server.websocket import websocket_server

server = FastMCP("old")

@server.tool()
def double(x: int) -> str:
    return str(2 * x)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        async with websocket_server(scope, receive, send) as (read, write):
            inner = server._mcp_server
            await inner.run(read, write, inner.create_initialization_options())

listener = socket.create_server(("127.0.0.1", 0))
print(f"ws://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
config = uvicorn.Config(app, log_level="error", lifespan="off")
asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
"""
