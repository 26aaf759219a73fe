"""Bad clients of the MCP endpoints: each gets the error of the specification, and nobody else notices."""

import contextlib
import json
import socket

import httpx
import pytest
import trio
import trio_websocket as tw
from support.mcpclient import LEFT_BEHIND, META, NEW, envelope, hello, raw
from support.running import Sim, running

from trillm.keys import Grants
from trillm.mcp.session import Changes
from trillm.mcp.websocket import WebSocketSettings
from trillm.registry.store import Store
from trillm.sim.settings import SimSettings

# The clients used here leave sockets and generators to the garbage collector when they are refused.

UPGRADE = (
    b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BOTH = "application/json, text/event-stream"
SLOW = {"name": "chat", "arguments": {"model": "sim-chat", "prompt": "x"}}


@pytest.fixture
async def trillm(tmp_path):
    async with running(tmp_path, {"one": Sim()}) as trillm:
        yield trillm


@pytest.fixture
async def slow(tmp_path):
    async with running(tmp_path, {"one": Sim(SimSettings(ttft_s=60.0))}) as trillm:
        yield trillm


async def in_flight(trillm, count):
    with trio.fail_after(10):
        while trillm.gateway.running != count:
            await trio.sleep(0.01)


# ── WebSocket ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "code", "id_"),
    [
        ("{", -32700, None),
        ("", -32700, None),
        ("[" * 100_000, -32700, None),
        ("1", -32600, None),
        ("[]", -32600, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        ('{"id":7,"method":"ping"}', -32600, 7),
        ('{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
        ('{"jsonrpc":"2.0","id":7}', -32600, 7),
        ('{"jsonrpc":"2.0","id":7,"result":{},"error":{}}', -32600, 7),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":7,"method":1}', -32600, 7),
        ('{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}', -32602, 7),
        ('{"jsonrpc":"2.0","id":7,"method":"tools/list"}', -32600, 7),
        ('{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}', -32602, 7),
    ],
)
async def test_what_is_no_message_is_answered_and_the_connection_goes_on(trillm, sent, code, id_):
    async with raw(trillm) as mcp:
        await mcp.send(sent)
        answer = await mcp.receive()
        assert (answer["error"]["code"], answer["id"]) == (code, id_)
        assert (await mcp.initialize())["serverInfo"]["name"] == "trillm"


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
async def test_what_is_no_method_or_has_wrong_params_is_answered(trillm, new):
    async with raw(trillm) as mcp:
        if not new:
            await mcp.initialize()
        for method, params, code in (
            ("nope", {}, -32601),
            ("tools/call", {}, -32602),
            ("tools/call", {"name": 1}, -32602),
            ("tools/call", {"name": "chat", "arguments": []}, -32602),
            ("resources/read", {}, -32602),
            ("completion/complete", {"ref": {"type": "ref/nope"}, "argument": {"name": "a", "value": ""}}, -32602),
        ):
            answer = await mcp.ask(method, params, new=new)
            assert answer["error"]["code"] == code, (method, answer)
        assert "result" in await mcp.ask("tools/list", new=new)


async def test_the_first_request_decides_the_era_and_the_other_is_refused(trillm):
    async with raw(trillm) as old:
        await old.initialize()
        assert (await old.ask("tools/list", new=True))["error"]["code"] == -32600
        assert (await old.ask("initialize", hello()))["error"]["code"] == -32600
        assert (await old.ask("subscriptions/listen", {"notifications": {}}))["error"]["code"] == -32601
        assert "result" in await old.ask("ping")
    async with raw(trillm) as new:
        assert (await new.ask("server/discover", new=True))["result"]["supportedVersions"] == [NEW]
        refused = await new.ask("initialize", hello())
        assert (refused["error"]["code"], refused["error"]["data"]["supported"]) == (-32022, [NEW])
        unknown = await new.ask(
            "tools/list", {"_meta": {**envelope()["_meta"], f"{META}protocolVersion": "2099-01-01"}}
        )
        assert (unknown["error"]["code"], unknown["error"]["data"]["supported"]) == (-32022, [NEW])
        half = await new.ask("tools/list", {"_meta": {f"{META}protocolVersion": NEW}})
        assert half["error"]["code"] == -32602
        assert (await new.ask("tools/list"))["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25"), (NEW, "2025-11-25")],
)
async def test_the_handshake_settles_on_a_version(trillm, asked, spoken):
    async with raw(trillm) as mcp:
        assert (await mcp.initialize(asked))["protocolVersion"] == spoken


async def test_requests_right_behind_the_handshake_are_served(trillm):
    async with raw(trillm) as mcp:
        await mcp.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello()})
        await mcp.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for number in range(1, 20):
            await mcp.send({"jsonrpc": "2.0", "id": number, "method": "tools/list"})
        answers = [await mcp.receive() for _ in range(20)]
    assert {answer["id"] for answer in answers} == set(range(20))
    assert all("result" in answer for answer in answers)


async def test_an_id_in_use_is_refused_and_the_first_goes_on(slow):
    async with raw(slow) as mcp:
        await mcp.initialize()
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": SLOW})
        await in_flight(slow, 1)
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "ping"})
        refused = await mcp.receive()
        assert (refused["error"]["code"], refused["id"]) == (-32600, "a")
        assert slow.gateway.running == 1


async def test_a_thousand_requests_at_once_are_answered_or_refused_and_can_be_taken_back(slow):
    async with raw(slow) as mcp, raw(slow) as other:
        await mcp.initialize()
        await other.initialize()
        for number in range(1000):
            await mcp.send({"jsonrpc": "2.0", "id": f"n{number}", "method": "tools/call", "params": SLOW})
        refused = [await mcp.receive() for _ in range(1000 - 256)]
        assert {answer["error"]["code"] for answer in refused} == {-32004}
        assert "result" in await other.ask("tools/list")
        for number in range(256):
            cancel = {"method": "notifications/cancelled", "params": {"requestId": f"n{number}"}}
            await mcp.send({"jsonrpc": "2.0", **cancel})
        await in_flight(slow, 0)
        assert "result" in await mcp.ask("tools/list")


async def test_a_request_taken_back_is_not_answered(slow):
    async with raw(slow) as mcp:
        await mcp.initialize()
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": SLOW})
        await in_flight(slow, 1)
        await mcp.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}})
        assert (await mcp.ask("ping"))["result"] == {}
        await slow.settled("one", within_s=1)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_takes_its_requests_along(slow, how):
    async with raw(slow) as mcp:
        await mcp.initialize()
        await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": SLOW})
        await in_flight(slow, 1)
        if how == "close":
            await mcp.socket.aclose()
        else:
            await mcp.socket._stream.aclose()
        await in_flight(slow, 0)
    await slow.settled("one", within_s=1)
    with trio.fail_after(2):
        while slow.server.mcp.started.websocket.connections:
            await trio.sleep(0.01)


async def test_a_binary_frame_ends_the_connection(trillm):
    async with raw(trillm) as mcp:
        await mcp.send(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert await closed(mcp) == 1003


async def test_a_message_that_is_too_large_ends_the_connection(trillm):
    async with raw(trillm) as mcp:
        with contextlib.suppress(tw.ConnectionClosed):  # the goodbye may come before all of it is sent
            await mcp.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x" * (5 << 20)}}))
        assert await closed(mcp) == 1009


async def closed(mcp):
    """The code that the server closes with."""
    with trio.fail_after(5):
        while True:
            try:
                await mcp.socket.get_message()
            except tw.ConnectionClosed as error:
                return error.reason.code


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/mcp", {"subprotocols": ["chat"]}, 400),
        ("/mcp/nope", {}, 404),
        ("/mcp/a/b", {}, 404),
        ("/mcp", {"extra_headers": [(b"origin", b"https://evil.example")]}, 403),
        ("/mcp", {"extra_headers": [(b"origin", b"null")]}, 403),
    ],
)
async def test_a_handshake_that_is_not_served_is_refused_with_a_status(trillm, path, options, status):
    with pytest.raises(tw.ConnectionRejected) as caught:
        async with raw(trillm, path, **options):
            pass
    assert caught.value.status_code == status
    assert json.loads(caught.value.body)["error"]["message"]


@pytest.mark.parametrize("subprotocols", [[], ["mcp"], ["other", "mcp"]])
async def test_the_subprotocol_is_mcp_or_none(trillm, subprotocols):
    async with raw(trillm, subprotocols=subprotocols) as mcp:
        assert mcp.socket.subprotocol == ("mcp" if subprotocols else None)
        await mcp.initialize()


async def test_a_key_comes_as_a_header_or_from_browsers_as_a_subprotocol(tmp_path):
    store = Store(tmp_path / "servers.json")
    token = store.keys.create("laptop")
    store.keys.create("phone")
    async with running(tmp_path, {"one": Sim()}) as trillm:
        for options in (
            {},
            {"extra_headers": [(b"authorization", b"Bearer tl-no")]},
            {"subprotocols": ["mcp", "mcp.auth.no"]},
        ):
            with pytest.raises(tw.ConnectionRejected) as caught:
                async with raw(trillm, **options):
                    pass
            assert caught.value.status_code == 401
            assert (b"www-authenticate", b"Bearer") in caught.value.headers
        async with raw(trillm, extra_headers=[(b"authorization", f"Bearer {token}".encode())]) as mcp:
            await mcp.initialize()
        async with raw(trillm, subprotocols=["mcp", f"mcp.auth.{token}"]) as mcp:
            assert mcp.socket.subprotocol == "mcp"
            await mcp.initialize()
            store.keys.revoke("laptop")
            assert await closed(mcp) == 1008


async def test_a_key_that_may_less_from_now_on_may_less_in_a_session_that_runs(tmp_path):
    store = Store(tmp_path / "servers.json")
    token = store.keys.create("a")
    headers = [(b"authorization", f"Bearer {token}".encode())]
    async with running(tmp_path, {"one": Sim()}) as trillm, raw(trillm, extra_headers=headers) as mcp:
        await mcp.initialize()
        assert len((await mcp.ask("tools/list"))["result"]["tools"]) > 1
        path = store.keys.path
        path.write_text(path.read_text().replace('"created"', '"tools": ["chat"], "created"'))
        with trio.fail_after(5):
            while len((await mcp.ask("tools/list"))["result"]["tools"]) != 1:
                await trio.sleep(0.05)


async def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(trillm):
    await trillm.server.mcp.face()
    trillm.server.mcp.started.websocket.settings = WebSocketSettings(stall_s=0.3)
    async with raw(trillm) as other:
        await other.initialize()
        stream = await trio.open_tcp_stream("127.0.0.1", int(trillm.url.rpartition(":")[2]))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send_all(UPGRADE)
        await stream.receive_some()
        await stream.send_all(frame({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello()}))
        with trio.fail_after(10):
            with pytest.raises(trio.BrokenResourceError):
                await ask_for_ever(stream)
            while trillm.server.mcp.started.websocket.connections > 1:
                await trio.sleep(0.01)
        await stream.aclose()
        assert "result" in await other.ask("tools/list")


async def ask_for_ever(stream):
    number = 0
    while True:
        number += 1
        ask = {"method": "resources/read", "params": {"uri": "trillm://metrics"}}
        await stream.send_all(frame({"jsonrpc": "2.0", "id": number, **ask}))


def frame(message):
    """A masked text frame (RFC 6455 §5.2), the mask all zeros."""
    data = json.dumps(message).encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + data


async def test_a_lost_client_is_noticed_by_its_silence(trillm):
    await trillm.server.mcp.face()
    trillm.server.mcp.started.websocket.settings = WebSocketSettings(ping_s=0.1, pong_s=0.2)
    async with raw(trillm) as mcp:
        await mcp.initialize()
        await trio.sleep(0.6)
        assert "result" in await mcp.ask("ping")  # one that answers pings stays
    stream = await trio.open_tcp_stream("127.0.0.1", int(trillm.url.rpartition(":")[2]))
    await stream.send_all(UPGRADE)
    with trio.fail_after(5):
        while trillm.server.mcp.started.websocket.connections != 1:
            await trio.sleep(0.01)
        while trillm.server.mcp.started.websocket.connections:
            await trio.sleep(0.01)
    await stream.aclose()


async def test_two_hundred_clients_come_and_go_and_nothing_is_left(slow):
    async def visit():
        async with raw(slow) as mcp:
            await mcp.initialize()
            await mcp.send({"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": SLOW})
            await trio.sleep(0.05)
            await mcp.socket._stream.aclose()

    await slow.server.mcp.face()
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(10):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(visit)
    await in_flight(slow, 0)
    await slow.settled("one", within_s=3)
    with trio.fail_after(5):
        while trio.lowlevel.current_statistics().tasks_living > before + 5:
            await trio.sleep(0.05)
    assert not slow.server.mcp.started.websocket.connections


async def test_progress_comes_in_order_and_before_its_answer(tmp_path):
    calls, steps = 1000, 3
    async with running(tmp_path, {"one": Sim()}) as trillm:
        await trillm.server.mcp.face()
        trillm.server.mcp.started.endpoint.views = lambda _server: Counting(steps)
        async with raw(trillm) as mcp:
            await mcp.initialize()
            seen, answered = {}, 0

            async def ask_all():
                for number in range(calls):
                    params = {"name": "count", "arguments": {}, "_meta": {"progressToken": f"p{number}"}}
                    await mcp.send({"jsonrpc": "2.0", "id": f"p{number}", "method": "tools/call", "params": params})
                    while number - answered > 100:
                        await trio.sleep(0.001)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_all)
                while answered < calls:
                    message = await mcp.receive()
                    if "id" in message:
                        answered += 1
                        assert seen.pop(message["id"]) == steps
                    else:
                        told = message["params"]
                        seen[told["progressToken"]] = seen.get(told["progressToken"], 0) + 1
                        assert told["progress"] == seen[told["progressToken"]]
    assert not seen


class Counting:
    """A view that answers by telling of each of so many steps."""

    def __init__(self, steps):
        self.steps = steps
        self.changes = Changes()

    async def describe(self, _session):
        return {"capabilities": {"tools": {}}, "serverInfo": {"name": "counting", "version": "1"}}

    async def handle(self, request):
        for step in range(self.steps):
            await request.progress(step + 1, self.steps)
            await trio.lowlevel.checkpoint()
        return {"content": []}

    async def notified(self, session, method, params):
        pass

    def input_schema(self, _session, _tool):
        return None


# ── Streamable HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────


async def post(trillm, message, *, path="/mcp", content=None, **headers):
    headers = {
        "accept": BOTH,
        "content-type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    body = content if content is not None else json.dumps(message)
    return await trillm.client.post(path, content=body, headers=headers)


def asked(method, params=None, id_=1):
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}}


async def opened(trillm, **headers):
    """The id of a new session."""
    return (await post(trillm, asked("initialize", hello()), **headers)).headers["mcp-session-id"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("{", 400, -32700),
        ("", 400, -32700),
        ("[]", 400, -32600),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600),
        ('{"jsonrpc":"2.0","id":1}', 400, -32600),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 400, -32600),
        ("x" * (5 << 20), 413, -32600),
    ],
)
async def test_a_body_that_is_no_message_is_refused(trillm, content, status, code):
    answer = await post(trillm, None, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"accept": "application/json"}, 406),
        ({"accept": "text/event-stream"}, 406),
        ({"accept": "*/*"}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"mcp_protocol_version": "1999-01-01"}, 400),
        ({"mcp_session_id": "nope"}, 404),
    ],
)
async def test_headers_say_whether_a_request_is_served(trillm, headers, status):
    assert (await post(trillm, asked("initialize", hello()), **headers)).status_code == status


async def test_other_methods_and_paths_are_refused(trillm):
    for method, status in (("PUT", 405), ("HEAD", 405)):
        answer = await trillm.client.request(method, "/mcp")
        assert (answer.status_code, answer.headers["allow"]) == (status, "GET, POST, DELETE")
    new = {"mcp-protocol-version": NEW}
    for method in ("GET", "DELETE"):
        answer = await trillm.client.request(method, "/mcp", headers=new)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await trillm.client.get("/mcp", headers={"accept": "text/event-stream"})).status_code == 400
    assert (await trillm.client.get("/mcp")).status_code in (400, 406)
    assert (await post(trillm, asked("initialize", hello()), path="/mcp/nope")).status_code == 404


async def test_a_request_of_the_new_era_must_agree_with_its_headers(trillm):
    message = asked("tools/call", {"name": "list_models", "arguments": {}, **envelope()})
    good = {"mcp_protocol_version": NEW, "mcp_method": "tools/call", "mcp_name": "list_models"}
    assert (await post(trillm, message, **good)).json()["result"]["structuredContent"]["models"]
    for wrong in ({"mcp_method": "tools/list"}, {"mcp_name": "chat"}, {"mcp_protocol_version": "2099-01-01"}):
        answer = await post(trillm, message, **{**good, **wrong})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), wrong
    for missing in good:
        answer = await post(trillm, message, **{name: value for name, value in good.items() if name != missing})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), missing
    unknown = await post(trillm, asked("nope", envelope()), mcp_protocol_version=NEW, mcp_method="nope")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, -32601)
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await post(trillm, told, mcp_protocol_version=NEW)).status_code == 202


async def test_a_session_is_its_openers_alone_and_can_be_ended(tmp_path):
    store = Store(tmp_path / "servers.json")
    ada, bob = (f"Bearer {store.keys.create(name, Grants())}" for name in ("ada", "bob"))
    async with running(tmp_path, {"one": Sim()}) as trillm:
        session = {"mcp_session_id": await opened(trillm, authorization=ada)}
        assert (await post(trillm, asked("tools/list"), authorization=ada, **session)).status_code == 200
        assert (await post(trillm, asked("tools/list"), authorization=bob, **session)).status_code == 404
        headers = {"mcp-session-id": session["mcp_session_id"]}
        bobs = await trillm.client.delete("/mcp", headers={**headers, "authorization": bob})
        adas = await trillm.client.delete("/mcp", headers={**headers, "authorization": ada})
        assert (bobs.status_code, adas.status_code) == (404, 200)
        assert (await post(trillm, asked("tools/list"), authorization=ada, **session)).status_code == 404
        assert not trillm.server.mcp.started.http.sessions


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
async def test_a_connection_that_is_closed_cancels_in_the_new_era_only(slow, new):
    if new:
        message = asked("tools/call", {**SLOW, **envelope()})
        headers = {"mcp_protocol_version": NEW, "mcp_method": "tools/call", "mcp_name": "chat"}
    else:
        message, headers = asked("tools/call", SLOW), {"mcp_session_id": await opened(slow)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: post(slow, message, **headers))
        await in_flight(slow, 1)
        nursery.cancel_scope.cancel()
    if new:
        await in_flight(slow, 0)
        await slow.settled("one", within_s=1)
        return
    await trio.sleep(0.2)
    assert slow.gateway.running == 1
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await post(slow, cancelled, **headers)).status_code == 202
    await in_flight(slow, 0)


@pytest.mark.filterwarnings(*LEFT_BEHIND)
async def test_a_session_tells_on_its_stream_and_what_was_missed_is_told_again(trillm):
    session_id = await opened(trillm)
    headers = {"accept": "text/event-stream", "mcp-session-id": session_id}
    await post(trillm, asked("resources/subscribe", {"uri": "trillm://servers"}), mcp_session_id=session_id)
    changes = trillm.server.mcp.started.own.changes

    async def read(more, count):
        async with trillm.client.stream("GET", "/mcp", headers={**headers, **more}) as reply:
            assert reply.status_code == 200
            ids, told = [], []
            with trio.fail_after(5):
                async for line in reply.aiter_lines():
                    if line.startswith("id: "):
                        ids.append(line[4:])
                    if line.startswith("data: {"):
                        told.append(json.loads(line[6:])["params"]["uri"])
                    if len(told) == count:
                        return ids, told
        return ids, told

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_later, changes)
        ids, told = await read({}, 1)
    assert told == ["trillm://servers"]
    changes.publish("notifications/resources/updated", {"uri": "trillm://servers"})
    with trio.fail_after(5):
        while trillm.server.mcp.started.http.sessions[session_id].channel.streams.alone.reader:
            await trio.sleep(0.01)
    _, missed = await read({"last-event-id": ids[-1]}, 1)
    assert missed == ["trillm://servers"]


async def tell_later(changes):
    await trio.sleep(0.2)
    changes.publish("notifications/resources/updated", {"uri": "trillm://servers"})


async def test_two_cannot_read_one_stream(trillm):
    headers = {"accept": "text/event-stream", "mcp-session-id": await opened(trillm)}
    async with trillm.client.stream("GET", "/mcp", headers=headers) as first:
        assert first.status_code == 200
        assert (await trillm.client.get("/mcp", headers=headers)).status_code == 409


async def test_mcp_can_be_left_out(tmp_path):
    async with running(tmp_path, {"one": Sim()}, mcp=False) as trillm:
        assert (await post(trillm, asked("initialize", hello()))).status_code == 404
        with pytest.raises(tw.ConnectionRejected):
            async with raw(trillm):
                pass
        assert trillm.server.mcp.started is None


@pytest.mark.parametrize("way", ["app", "h2"])
async def test_the_framework_serves_the_same(tmp_path, way, certificate):
    authority, path = certificate
    options = {"lane": False} if way == "app" else {"certfile": path, "authority": authority, "http2": True}
    async with running(tmp_path, {"one": Sim()}, **options) as trillm:
        session = {"mcp_session_id": await opened(trillm)}
        listed = await post(trillm, asked("tools/list"), **session)
        assert "chat" in listed.text
        message = asked("tools/call", {"name": "chat", "arguments": SLOW["arguments"], "_meta": {"progressToken": 1}})
        told = await post(trillm, message, **session)
        assert told.headers["content-type"] == "text/event-stream"
        assert "notifications/progress" in told.text
        assert isinstance(told, httpx.Response)
