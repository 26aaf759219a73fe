"""Both ends of our WebSocket, over streams in memory, cancelled wherever they wait."""

from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket as tw
from support.cancelling import run_cancelled_at
from support.mcpclient import hello

from trillm.errors import UpstreamFailed
from trillm.gateway.access import Access
from trillm.keys import Keyring
from trillm.mcp.endpoint import Endpoint, server_of
from trillm.mcp.jsonrpc import Peer
from trillm.mcp.session import Changes
from trillm.mcp.websocket import WebSocketSettings, open_websocket
from trillm.mcp.websocketface import WebSocketFace, with_bearer

URL = "ws://127.0.0.1:1/mcp"


class Slow:
    """A view whose tools never end."""

    def __init__(self):
        self.changes = Changes()
        self.running = 0

    async def describe(self, _session):
        return {"capabilities": {"tools": {}}, "serverInfo": {"name": "slow", "version": "1"}}

    async def handle(self, request):
        if request.method == "tools/list":
            return {"tools": []}
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1

    async def notified(self, session, method, params):
        pass

    def input_schema(self, _session, _tool):
        return None


class Network:
    """Connects to a face in this process."""

    def __init__(self, nursery, view, **settings):
        self.nursery = nursery
        endpoint = Endpoint(Access(Keyring, "t"), lambda _server: view)
        self.face = WebSocketFace(endpoint, WebSocketSettings(**settings))
        self.streams = []

    async def connect(self, _origin):
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(ours)
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream):
        await self.face.serve(stream)
        await stream.aclose()


async def test_an_upstream_is_asked_over_our_own_client(nursery):
    network = Network(nursery, Slow())
    async with open_websocket(URL, connect=network.connect) as channel:
        peer = Peer(channel)
        await nursery.start(peer.run)
        assert (await peer.request("initialize", hello()))["serverInfo"]["name"] == "slow"
        assert await peer.request("tools/list") == {"tools": []}
    await trio.testing.wait_all_tasks_blocked()
    assert network.face.connections == 0


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", b"\0"]
)
async def test_who_is_no_websocket_server_is_said_not_to_be(nursery, answer):
    async def connect(_origin):
        ours, theirs = trio.testing.memory_stream_pair()

        async def reply():
            await theirs.receive_some()
            if answer:
                await theirs.send_all(answer)
            await theirs.aclose()

        nursery.start_soon(reply)
        return ours

    with pytest.raises(UpstreamFailed, match="cannot connect to ws://"):
        async with open_websocket(URL, connect=connect):
            pass


async def test_who_does_not_answer_the_handshake_is_given_up(nursery, autojump_clock):
    async def connect(_origin):
        return trio.testing.memory_stream_pair()[0]

    with pytest.raises(UpstreamFailed, match="in time"):
        async with open_websocket(URL, connect=connect, settings=WebSocketSettings(handshake_s=3)):
            pass
    assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_an_upstream_that_falls_silent_is_given_up(nursery, autojump_clock):
    hung = trio.Event()

    async def connect(_origin):
        ours, theirs = trio.testing.memory_stream_pair()

        async def handshake_only():
            async with trio.open_nursery() as inner:
                request = await tw.wrap_server_stream(inner, theirs)
                await request.accept(subprotocol="mcp")
                inner.cancel_scope.cancel()
            await hung.wait()

        nursery.start_soon(handshake_only)
        return ours

    async with open_websocket(URL, connect=connect, settings=WebSocketSettings(ping_s=5, pong_s=2)) as channel:
        assert await channel.receive() is None
    assert 7 <= trio.current_time() < 12
    hung.set()


async def test_a_client_cancelled_at_any_wait_leaves_nothing_behind(nursery, autojump_clock):
    view = Slow()
    network = Network(nursery, view)
    wait, came_so_far = 0, True
    while came_so_far:
        wait += 1
        came_so_far = await run_cancelled_at(wait, partial(_visit, network, nursery))
        with trio.fail_after(5):
            while network.face.connections or view.running:
                await trio.sleep(0.001)
        for stream in network.streams:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"x")
        network.streams.clear()
        assert wait < 200
    assert wait > 5


async def _visit(network, nursery):
    async with open_websocket(URL, connect=network.connect) as channel, trio.open_nursery() as inner:
        peer = Peer(channel)
        await inner.start(peer.run)
        await peer.request("initialize", hello())
        with trio.move_on_after(0.01):
            await peer.request("tools/call", {"name": "x"})
        inner.cancel_scope.cancel()


async def test_a_server_cancelled_at_any_wait_leaves_nothing_behind(nursery, autojump_clock):
    view = Slow()
    wait, came_so_far = 0, True
    while came_so_far and wait < 30:
        wait += 1
        network = Network(nursery, view)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as inner:
            inner.start_soon(_call_and_hang, ours)
            came_so_far = await run_cancelled_at(wait, partial(_serve_a_while, network, theirs))
            inner.cancel_scope.cancel()
        assert (network.face.connections, view.running) == (0, 0)
        assert not network.face.endpoint._dismissals
    assert wait > 3


async def _serve_a_while(network, stream):
    with trio.move_on_after(0.05):
        await network.face.serve(stream)


async def _call_and_hang(stream):
    async def connect(_origin):
        return stream

    try:
        async with open_websocket(URL, connect=connect) as channel, trio.open_nursery() as inner:
            peer = Peer(channel)
            await inner.start(peer.run)
            await peer.request("initialize", hello())
            await peer.request("tools/call", {"name": "x"})
    except (BaseExceptionGroup, UpstreamFailed) as error:
        _only_losses(error)


def _only_losses(error):
    from trillm.mcp.errors import RpcError

    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            _only_losses(each)
    elif not isinstance(error, RpcError | UpstreamFailed | trio.Cancelled):
        raise error


@pytest.mark.parametrize(
    ("path", "server"),
    [
        ("/mcp", ""),
        ("/mcp/", ""),
        ("/mcp/files", "files"),
        ("/mcp/a/b", None),
        ("/", None),
        ("/mcpx", None),
        ("", None),
    ],
)
def test_a_path_names_a_server_or_all_or_nothing(path, server):
    assert server_of(path) == server


def test_a_header_wins_over_a_subprotocol():
    offered = ["mcp", "mcp.auth.one", "mcp.auth.two"]
    assert dict(with_bearer([(b"Host", b"x")], offered)) == {b"host": b"x", b"authorization": b"Bearer one"}
    assert dict(with_bearer([(b"Authorization", b"Bearer a")], offered)) == {b"authorization": b"Bearer a"}
    assert with_bearer([], ["mcp"]) == []
