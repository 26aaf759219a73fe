"""A client that leaves, at whatever moment, leaves nothing behind: no slot, no upstream connection, no generation."""

import json

import h2.config
import h2.connection
import h2.errors
import pytest
import trio
from support.running import Sim, chat, running
from support.tools import Tools, calls, mcp, says, turns

FREED_S = 0.1


def request_bytes(body: dict[str, object], path: str = "/v1/chat/completions") -> bytes:
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(raw) + raw


async def freed(trillm) -> None:
    """Both sides are back to nothing within the time that was promised."""
    with trio.fail_after(FREED_S):
        while trillm.gateway.running or any(m.in_flight or m.waiting for m in trillm.pool.members.values()):
            await trio.sleep(0.005)
    await trillm.settled("one", within_s=FREED_S)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour",
    [
        {"fault": "silent"},
        {"ttft_s": 5},
        {"fault": "slow"},
        {"itl_s": 0.2, "tokens": 100},
        {"fault": "stall", "after": 2},
    ],
    ids=str,
)
async def test_leaving_while_the_server_works(trillm, stream, behaviour):
    await leave_in_the_middle(trillm, chat(stream=stream, x_sim=behaviour))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", ["", "Let me look."])
async def test_leaving_while_tools_run(trillm, stream, said):
    tools = trillm.gateway.tools = Tools({"weather": {"now": says("", after_s=9)}})
    x_sim = turns(calls("weather__now", "weather__now", say=said))
    await leave_in_the_middle(trillm, chat(stream=stream, tools=[mcp("weather")], x_sim=x_sim))
    assert (tools.running, tools.cancelled) == (0, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_while_the_model_is_asked_again(trillm, stream):
    trillm.gateway.tools = Tools({"weather": {"now": says("21 degrees")}})
    x_sim = turns(calls("weather__now"), {"fault": "silent"})
    await leave_in_the_middle(trillm, chat(stream=stream, tools=[mcp("weather")], x_sim=x_sim))
    stats = await trillm.sim_stats("one")
    assert (stats["finished"], stats["aborted"]) == (1, 1)


@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", ["", "Let me look."])
async def test_leaving_over_http_2_while_tools_run(tmp_path, certificate, ending, stream, said):
    authority, path = certificate
    async with running(tmp_path, {"one": Sim()}, certfile=path, authority=authority, http2=True) as trillm:
        tools = trillm.gateway.tools = Tools({"weather": {"now": says("", after_s=9)}})
        x_sim = turns(calls("weather__now", "weather__now", say=said))
        body = json.dumps(chat(stream=stream, tools=[mcp("weather")], x_sim=x_sim)).encode()
        await leave_over_http_2(trillm, body, ending)
        assert (tools.running, tools.cancelled) == (0, 2)


@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_leaving_over_http_2_while_the_model_is_asked_again(tmp_path, certificate, ending):
    authority, path = certificate
    async with running(tmp_path, {"one": Sim()}, certfile=path, authority=authority, http2=True) as trillm:
        trillm.gateway.tools = Tools({"weather": {"now": says("21 degrees")}})
        x_sim = turns(calls("weather__now"), {"fault": "silent"})
        body = json.dumps(chat(stream=True, tools=[mcp("weather")], x_sim=x_sim)).encode()
        await leave_over_http_2(trillm, body, ending)
        stats = await trillm.sim_stats("one")
        assert (stats["finished"], stats["aborted"]) == (1, 1)


async def leave_over_http_2(trillm, body, ending):
    """Reset a stream that is under way, or close its connection; everything is freed at once."""
    host, port = trillm.url.removeprefix("https://").split(":")
    trust = trillm.trust
    trust.set_alpn_protocols(["h2"])
    connection = await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=trust)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http.initiate_connection()
    head = {":method": "POST", ":scheme": "https", ":authority": f"{host}:{port}", ":path": "/v1/chat/completions"}
    http.send_headers(1, [*head.items(), ("content-type", "application/json")])
    http.send_data(1, body, end_stream=True)
    await connection.send_all(http.data_to_send())
    await trio.sleep(0.3)
    assert trillm.gateway.running == 1
    if ending == "reset":
        http.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
        await connection.send_all(http.data_to_send())
    else:
        await trio.aclose_forcefully(connection)
    await freed(trillm)
    await trio.aclose_forcefully(connection)


async def leave_in_the_middle(trillm, body):
    """Leave a request that is under way; everything is freed at once."""
    address = trillm.url.removeprefix("http://").split(":")
    connection = await trio.open_tcp_stream(address[0], int(address[1]))
    await connection.send_all(request_bytes(body))
    await trio.sleep(0.3)
    assert trillm.gateway.running == 1
    await connection.aclose()
    await freed(trillm)


async def test_leaving_while_several_parts_are_under_way(run_trillm):
    async with run_trillm({"one": Sim(server={"max_batch": 1, "max_concurrent": 3})}) as trillm:
        host, port = trillm.url.removeprefix("http://").split(":")
        connection = await trio.open_tcp_stream(host, int(port))
        ask = {"model": "sim-rerank", "query": "q", "documents": ["a"] * 12, "x_sim": {"ttft_s": 2}}
        await connection.send_all(request_bytes(ask, "/v1/rerank"))
        await trio.sleep(0.3)
        member = trillm.pool.members["one"]
        assert (member.in_flight, member.waiting) == (3, 5)
        await connection.aclose()
        await freed(trillm)


async def test_leaving_while_queued(run_trillm):
    async with run_trillm({"one": Sim(server={"max_concurrent": 1})}) as trillm:
        host, port = trillm.url.removeprefix("http://").split(":")
        first = await trio.open_tcp_stream(host, int(port))
        await first.send_all(request_bytes(chat(x_sim={"fault": "silent"})))
        await trio.sleep(0.1)
        second = await trio.open_tcp_stream(host, int(port))
        await second.send_all(request_bytes(chat()))
        await trio.sleep(0.1)
        assert trillm.pool.members["one"].waiting == 1
        await second.aclose()
        await trio.sleep(FREED_S)
        assert trillm.pool.members["one"].waiting == 0
        assert trillm.gateway.running == 1
        await first.aclose()
        await freed(trillm)


async def test_leaving_in_the_middle_of_the_request(trillm):
    host, port = trillm.url.removeprefix("http://").split(":")
    whole = request_bytes(chat())
    for cut in (10, 60, len(whole) - 5):
        connection = await trio.open_tcp_stream(host, int(port))
        await connection.send_all(whole[:cut])
        await trio.sleep(0.05)
        await connection.aclose()
    await trio.sleep(FREED_S)
    assert trillm.gateway.running == 0
    assert (await trillm.sim_stats("one"))["started"] == 0
