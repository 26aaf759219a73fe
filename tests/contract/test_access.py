"""Who is let in."""

import json
import logging

import pytest
import trio_websocket as tw
from support.mcpclient import hello, raw
from support.running import Sim, chat, running

from trillm.keys import Grants
from trillm.registry.store import Store


async def test_without_keys_everyone_on_this_machine_may_call(trillm):
    assert (await trillm.post("/v1/chat/completions", chat(), authorization="Bearer whatever")).status_code == 200


async def test_once_there_is_a_key_every_call_needs_one(tmp_path, run_trillm):
    token = Store(tmp_path / "servers.json").keys.create("laptop")
    async with run_trillm({"one": Sim()}) as trillm:
        for path in ("/v1/models", "/metrics", "/trillm/status"):
            assert (await trillm.client.get(path)).status_code == 401
        refused = await trillm.post("/v1/chat/completions", chat())
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await trillm.post("/v1/chat/completions", chat(), authorization="Bearer tl-no")).status_code == 401
        for headers in ({"authorization": f"Bearer {token}"}, {"x_api_key": token}):
            assert (await trillm.post("/v1/chat/completions", chat(), **headers)).status_code == 200
        assert (await trillm.client.get("/health/live")).status_code == 200
        assert "sim-chat" not in (await trillm.client.get("/")).text


async def test_a_key_does_not_open_the_operators_view(tmp_path, run_trillm):
    token = Store(tmp_path / "servers.json").keys.create("laptop")
    async with run_trillm({"one": Sim()}) as trillm:
        as_user = {"authorization": f"Bearer {token}"}
        assert (await trillm.client.get("/trillm/status", headers=as_user)).status_code == 403
        as_operator = {"authorization": f"Bearer {trillm.server.services.operator_token}"}
        assert (await trillm.client.get("/trillm/status", headers=as_operator)).json()["ready"] is True


async def test_no_auth_lets_everyone_in_again(tmp_path, run_trillm):
    Store(tmp_path / "servers.json").keys.create("laptop")
    async with run_trillm({"one": Sim()}, auth=False) as trillm:
        assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8377"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
    ],
)
async def test_a_strangers_web_page_is_refused_while_there_are_no_keys(trillm, headers):
    for path in ("/v1/models", "/trillm/status", "/metrics"):
        assert (await trillm.client.get(path, headers=headers)).status_code == 403
    reply = await trillm.client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert reply.status_code == 403
    assert reply.json()["error"]["type"] == "permission_error"


async def test_our_own_names_are_let_in(trillm):
    port = trillm.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]", "192.168.1.5:80"):
        headers = {"host": host, "origin": f"http://{host}"}
        assert (await trillm.client.get("/v1/models", headers=headers)).status_code == 200, host


async def test_a_key_is_shown_and_served_only_the_models_it_is_for(tmp_path, run_trillm):
    token = Store(tmp_path / "servers.json").keys.create("chat-only", Grants(models=("sim-ch*",)))
    async with run_trillm({"one": Sim()}) as trillm:
        headers = {"authorization": f"Bearer {token}"}
        listed = (await trillm.client.get("/v1/models", headers=headers)).json()["data"]
        assert [model["id"] for model in listed] == ["sim-chat"]
        assert (await trillm.client.get("/v1/models/sim-chat", headers=headers)).status_code == 200
        assert (await trillm.post("/v1/chat/completions", chat(), **headers)).status_code == 200
        for refused in (
            await trillm.client.get("/v1/models/sim-embed", headers=headers),
            await trillm.post("/v1/embeddings", {"model": "sim-embed", "input": "x"}, **headers),
            await trillm.post("/v1/chat/completions", chat(model="one/sim-chat"), **headers),
        ):
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "model_not_allowed"


async def test_the_log_has_the_client_that_a_proxy_of_ours_asks_for(run_trillm, caplog):
    asked_for = {"x_forwarded_for": "203.0.113.9"}
    caplog.set_level(logging.INFO, "trillm.gateway.gateway")
    async with run_trillm({"one": Sim()}) as trillm:
        assert (await trillm.post("/v1/chat/completions", chat(), **asked_for)).status_code == 200
        assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200
    async with run_trillm({"one": Sim()}, forwarded_allow_ips="192.0.2.1") as trillm:
        assert (await trillm.post("/v1/chat/completions", chat(), **asked_for)).status_code == 200
    lines = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert [line["client"] for line in lines] == ["203.0.113.9", "127.0.0.1", "127.0.0.1"]


async def test_the_page_names_the_address_that_the_proxy_was_called_by(trillm):
    through = {"x-forwarded-host": "localhost", "x-forwarded-proto": "https"}
    assert "https://localhost/v1/chat/completions" in (await trillm.client.get("/", headers=through)).text


THROUGH = {"x-forwarded-for": "203.0.113.9", "x-forwarded-host": "localhost:9", "x-forwarded-proto": "https"}


async def mcp_over_http(trillm, headers):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello()})
    headers = {"accept": "*/*", "content-type": "application/json", **headers}
    return (await trillm.client.post("/mcp", content=body, headers=headers)).status_code


async def mcp_over_websocket(trillm, headers):
    try:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with raw(trillm, extra_headers=pairs) as mcp:
            await mcp.initialize()
            return 200
    except tw.ConnectionRejected as refused:
        return refused.status_code


@pytest.mark.parametrize("connect", [mcp_over_http, mcp_over_websocket])
async def test_pages_that_call_mcp_through_a_proxy_of_ours_are_of_the_address_they_called(tmp_path, connect):
    page = {"origin": "https://localhost:9"}
    async with running(tmp_path, {"one": Sim()}) as trillm:
        assert await connect(trillm, {**THROUGH, **page}) == 200
        assert await connect(trillm, page) == 403
        assert await connect(trillm, {**THROUGH, "origin": "http://localhost:9"}) == 403
        assert await connect(trillm, {**THROUGH, **page, "x-forwarded-host": "evil.example"}) == 403
    async with running(tmp_path, {"one": Sim()}, forwarded_allow_ips="192.0.2.1") as trillm:
        assert await connect(trillm, {**THROUGH, **page}) == 403


async def test_the_log_has_who_called_a_model_over_mcp_through_a_proxy(tmp_path, caplog):
    caplog.set_level(logging.INFO, "trillm.gateway.gateway")
    async with (
        running(tmp_path, {"one": Sim()}) as trillm,
        raw(trillm, extra_headers=[(b"x-forwarded-for", b"203.0.113.9")]) as mcp,
    ):
        await mcp.initialize()
        await mcp.ask("tools/call", {"name": "chat", "arguments": {"model": "sim-chat", "prompt": "Hi"}})
    (line,) = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert line["client"] == "203.0.113.9"
