"""Streamable HTTP as a client, over connections in memory: what is answered, what breaks, and what is left."""

import json
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from support.cancelling import run_cancelled_at
from support.servers import CHUNKED, CLOSE, Servers, ok

from trillm.errors import UpstreamFailed
from trillm.mcp.errors import CONNECTION_CLOSED, RpcError
from trillm.mcp.httpclient import open_http
from trillm.mcp.jsonrpc import Peer
from trillm.registry.mcpentries import McpServer

JSON = b"content-type: application/json\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
EVENTS = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
END = b"0\r\n\r\n"


def status(line, *headers):
    return b"".join([b"HTTP/1.1 ", line, b"\r\n", *headers, b"content-length: 0\r\n\r\n"])


def asked(request):
    return json.loads(request.partition(b"\r\n\r\n")[2])


def answer(request):
    message = asked(request)
    said = {"jsonrpc": "2.0", "id": message["id"], "result": {"asked": message["method"]}}
    return ok(json.dumps(said).encode(), JSON)


def initialized(request):
    return answer(request).replace(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nmcp-session-id: s1\r\n")


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(message, *lines):
    return chunk(b"".join([*lines, b"data: ", json.dumps({"jsonrpc": "2.0", **message}).encode(), b"\n\n"]))


def progress(done):
    return event({"method": "notifications/progress", "params": {"progressToken": 1, "progress": done}})


RESULT = event({"id": 1, "result": {"ok": True}})


@asynccontextmanager
async def speaking(servers, heard=None, connect=None):
    """A peer before a server; ``heard`` gets what it is told."""
    server = McpServer("x", url="http://server.example/mcp")
    async with (
        open_http(server, lambda _: None, connect=connect or servers.connect) as channel,
        trio.open_nursery() as nursery,
    ):
        peer = Peer(channel, on_notification=lambda method, _: heard is not None and heard.append(method))
        channel.deliver = peer.take
        await nursery.start(peer.run)
        yield peer
        nursery.cancel_scope.cancel()


async def test_an_answer_of_json_or_of_events_is_the_requests_and_the_connection_is_kept(nursery, autojump_clock):
    streamed = [EVENTS + progress(1) + progress(2), 1.0, progress(3) + RESULT, END]
    servers = Servers(nursery, [[streamed, [answer]]])
    told = []
    async with speaking(servers) as peer:
        result = await peer.request("x/y", on_progress=lambda params: told.append(params["progress"]))
        assert (result, told) == ({"ok": True}, [1, 2, 3])
        assert await peer.request("x/z") == {"asked": "x/z"}
    assert len(servers.streams) == 1


REFUSED = b'{"id":null,"error":{"code":-1,"message":"mine"}}'
BAD = b"HTTP/1.1 400 No\r\n%bcontent-length: %d\r\n\r\n%b" % (JSON, len(REFUSED), REFUSED)


@pytest.mark.parametrize(
    ("steps", "code", "problem"),
    [
        ([CLOSE], CONNECTION_CLOSED, "closed the connection without an answer"),
        ([EVENTS + progress(1), CLOSE], CONNECTION_CLOSED, "in the middle of its answer"),
        ([EVENTS + progress(1) + END], CONNECTION_CLOSED, "ended its answer without a result"),
        ([ACCEPTED], CONNECTION_CLOSED, "ended its answer without a result"),
        ([BAD], -1, "mine"),
        ([status(b"500 No")], CONNECTION_CLOSED, "the server answered 500"),
        ([status(b"404 No")], -32601, "the server answered 404"),
        ([status(b"400 No")], -32603, "the server answered 400"),
        ([status(b"401 No")], CONNECTION_CLOSED, "use 'trillm mcp login'"),
        ([status(b"403 No")], CONNECTION_CLOSED, "does not let it in"),
        ([ok(b"<html>", JSON)], -32603, "not JSON"),
        ([EVENTS + chunk(b"data: <html>\n\n")], -32603, "not JSON"),
        ([b"SSH-2.0-OpenSSH\r\n"], CONNECTION_CLOSED, "not valid HTTP"),
        ([status(b"302 No", b"location: /other\r\n")], CONNECTION_CLOSED, "redirects to http://server.example/other"),
        ([status(b"307 No", b"location: http://other/\r\n")], CONNECTION_CLOSED, "redirects to http://other/"),
    ],
)
async def test_what_goes_wrong_is_that_requests_error_and_the_next_is_answered(
    nursery, autojump_clock, steps, code, problem
):
    servers = Servers(nursery, [[steps, [answer]], [[answer]]])
    async with speaking(servers) as peer:
        with pytest.raises(RpcError, match=problem) as caught:
            await peer.request("x/y")
        assert caught.value.code == code
        assert await peer.request("x/z") == {"asked": "x/z"}
    assert [asked(request)["method"] for request in servers.requests] == ["x/y", "x/z"]


async def test_a_kept_connection_that_turns_out_dead_is_no_reason_to_send_a_request_twice(nursery, autojump_clock):
    servers = Servers(nursery, [[[answer], [CLOSE]], [[answer]]])
    async with speaking(servers) as peer:
        await peer.request("x/y")
        with pytest.raises(RpcError, match="without an answer"):
            await peer.request("tools/call")
    assert len(servers.requests) == 2


async def test_redirects_within_the_server_are_followed_and_remembered(nursery, autojump_clock):
    moved = status(b"307 Over there", b"location: /mcp/?a=b\r\n")
    servers = Servers(nursery, [[[moved], [answer], [answer]]])
    async with speaking(servers) as peer:
        await peer.request("x/y")
        await peer.request("x/y")
    assert [request.split()[1] for request in servers.requests] == [b"/mcp", b"/mcp/?a=b", b"/mcp/?a=b"]


async def test_cookies_are_sent_back_for_balancers_know_sessions_by_them(nursery, autojump_clock):
    def given(request):
        cookies = b"set-cookie: a=1; Path=/; HttpOnly\r\nset-cookie: b=2\r\ncontent-type"
        return answer(request).replace(b"content-type", cookies, 1)

    servers = Servers(nursery, [[[given], [answer]]])
    async with speaking(servers) as peer:
        await peer.request("x/y")
        await peer.request("x/y")
    assert [b"\r\ncookie: a=1; b=2\r\n" in request for request in servers.requests] == [False, True]


async def test_who_redirects_for_ever_is_given_up(nursery, autojump_clock):
    servers = Servers(nursery, [[[status(b"308 Here", b"location: /mcp\r\n")]] * 9])
    async with speaking(servers) as peer:
        with pytest.raises(RpcError, match="again and again"):
            await peer.request("x/y")


async def test_a_stream_that_ends_too_early_is_resumed_where_it_was(nursery, autojump_clock):
    first = EVENTS + event({"method": "notifications/progress", "params": {}}, b"id: 7\nretry: 2500\n") + END
    servers = Servers(nursery, [[[first], [status(b"500 Later")], [EVENTS + RESULT + END]]])
    async with speaking(servers) as peer:
        began = trio.current_time()
        assert await peer.request("x/y") == {"ok": True}
        assert trio.current_time() - began == pytest.approx(5.0)
    assert [b"last-event-id: 7" in request for request in servers.requests] == [False, True, True]


async def test_a_stream_that_breaks_where_nobody_listens_any_more_is_an_error_at_once(nursery, autojump_clock):
    first = EVENTS + event({"method": "notifications/progress", "params": {}}, b"id: 7\n")
    servers = Servers(nursery, [[[first, CLOSE]]])
    gone = UpstreamFailed("cannot connect: connection refused")

    async def connect(origin):
        if servers.streams:
            raise gone
        return await servers.connect(origin)

    async with speaking(servers, connect=connect) as peer:
        began = trio.current_time()
        with pytest.raises(RpcError, match="connection refused"):
            await peer.request("x/y")
        assert trio.current_time() == began


async def test_a_session_is_listened_to_and_ended(nursery, autojump_clock):
    said = event({"method": "notifications/tools/list_changed"}, b"id: 4\n")
    listening = [EVENTS + said, CLOSE], [EVENTS + said, 1000.0]
    goodbye = [[status(b"200 OK")]]
    servers = Servers(nursery, [[[initialized], [ACCEPTED]], [listening[0]], [listening[1]], goodbye])
    heard = []
    async with speaking(servers, heard) as peer:
        await peer.request("initialize")
        peer.channel.version = "2025-11-25"
        await peer.notify("notifications/initialized")
        await trio.sleep(10)
        assert heard == ["notifications/tools/list_changed"] * 2
    heads = [request.partition(b"\r\n\r\n")[0] for request in servers.requests]
    assert [head.split()[0] for head in heads] == [b"POST", b"POST", b"GET", b"GET", b"DELETE"]
    assert [b"mcp-session-id: s1" in head for head in heads] == [False, True, True, True, True]
    assert b"last-event-id: 4" in heads[3]


async def test_a_session_the_server_does_not_know_any_more_is_said_in_words_that_are_known(nursery, autojump_clock):
    servers = Servers(nursery, [[[initialized]], [[status(b"404 x")]] * 2])
    async with speaking(servers) as peer:
        await peer.request("initialize")
        await trio.sleep(100)
        with pytest.raises(RpcError, match="Session not found"):
            await peer.request("x/y")


async def test_a_request_of_the_new_era_is_taken_back_by_closing_its_connection_and_of_the_old_by_a_message(
    nursery, autojump_clock
):
    for version, methods in ((None, ["x/y"]), ("2025-11-25", ["x/y", "notifications/cancelled"])):
        servers = Servers(nursery, [[[1000.0]], [[ACCEPTED]]])
        async with speaking(servers) as peer:
            peer.channel.version = version
            with trio.move_on_after(1):
                await peer.request("x/y")
            assert [asked(request)["method"] for request in servers.requests] == methods


async def test_a_header_that_would_end_the_line_is_not_sent(nursery, autojump_clock):
    servers = Servers(nursery, [[[answer]]])
    envelope = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    async with speaking(servers) as peer:
        with pytest.raises(RpcError, match="line break in the value of 'mcp-method'"):
            await peer.request("x\r\nevil: 1", {"_meta": envelope})
    assert servers.requests == []


async def test_what_is_too_large_is_refused(nursery, autojump_clock, monkeypatch):
    monkeypatch.setattr("trillm.mcp.httpclient.MAX_MESSAGE_BYTES", 1000)
    large = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": "x" * 1000}}).encode()
    servers = Servers(nursery, [[[ok(large, JSON)], [EVENTS + chunk(b"data: " + large)]]])
    async with speaking(servers) as peer:
        for _ in range(2):
            with pytest.raises(RpcError, match=r"(more|larger) than 1000 bytes"):
                await peer.request("x/y")


async def test_cancelled_at_every_wait_it_leaves_no_connection_open(autojump_clock):
    wait = 1
    streams = []

    async def work():
        async with trio.open_nursery() as nursery:
            servers = Servers(nursery, [[[EVENTS + progress(1), 0.1, RESULT, 0.1, END], [answer]]])
            try:
                async with speaking(servers) as peer:
                    with suppress(RpcError):  # the peer may have been cancelled first, and says that it is closed
                        await peer.request("x/y")
                        await peer.request("x/z")
            finally:
                streams.append(servers)
                nursery.cancel_scope.cancel()

    while await run_cancelled_at(wait, work, of_any_task=True):
        wait += 1
    assert wait > 10
    assert [await servers.still_open() for servers in streams] == [0] * wait
