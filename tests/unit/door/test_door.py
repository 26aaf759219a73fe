"""What the door does for a connection, on loopback; the rest of it is in the contract tests."""

import socket

import trio

from trillm.door.door import Door
from trillm.door.listeners import Listener
from trillm.wire.outbox import open_outbox


async def test_a_connection_that_ends_in_the_round_of_its_answer_has_answered(nursery):
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def serve(stream):
        await stream.receive_some()
        assert stream.send_soon(b"abc")

    async with open_outbox() as outbox:
        door = Door([Listener(listening)], serve, outbox=outbox)
        await nursery.start(door.run)
        async with await trio.open_tcp_stream(*listening.getsockname()) as client:
            await client.send_all(b"?")
            assert await client.receive_some() == b"abc"
            assert await client.receive_some() == b""
        door.close()
