"""The peer, over channels in memory."""

import json

import pytest
import trio
import trio.testing
from attrs import define, field

from trillm.errors import Forbidden, NoSuchModel
from trillm.mcp.errors import RpcError
from trillm.mcp.jsonrpc import Peer
from trillm.mcp.messages import decode


@define(eq=False)
class Memory:
    """One end of a channel."""

    out: trio.MemorySendChannel
    into: trio.MemoryReceiveChannel
    broken: bool = field(default=False, init=False)

    async def receive(self):
        try:
            return await self.into.receive()
        except trio.EndOfChannel:
            return None

    async def send(self, message):
        if self.broken:
            raise trio.BrokenResourceError
        await self.out.send(message)


def pair():
    there, here = trio.open_memory_channel(1000), trio.open_memory_channel(1000)
    return Memory(there[0], here[1]), Memory(here[0], there[1])


async def echo(_id, method, params):
    if method == "fail":
        raise RuntimeError("a secret")
    if method == "refuse":
        raise RpcError(-32000, "no", {"why": 1})
    if method == "sleep":
        await trio.sleep_forever()
    return {"method": method, **params}


@pytest.fixture
async def peers(nursery):
    left, right = pair()
    one, other = Peer(left), Peer(right, echo)
    await nursery.start(one.run)
    await nursery.start(other.run)
    return one, other


async def sent(message, **options):
    """What a peer answers to one raw message, if anything."""
    ours, theirs = pair()
    peer = Peer(theirs, echo, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.run)
        await ours.send(message if isinstance(message, str) else json.dumps(message))
        await trio.testing.wait_all_tasks_blocked()
        answers = []
        while ours.into.statistics().current_buffer_used:
            answers.append(json.loads(await ours.receive()))
        nursery.cancel_scope.cancel()
    return answers


async def test_a_request_is_answered(peers):
    assert await peers[0].request("hello", {"a": 1}) == {"method": "hello", "a": 1}
    assert not peers[1].running


async def test_both_sides_may_ask(peers):
    peers[0].on_request = echo
    assert await peers[1].request("back") == {"method": "back"}


async def test_an_error_comes_back_as_it_was(peers):
    with pytest.raises(RpcError) as caught:
        await peers[0].request("refuse")
    assert (caught.value.code, caught.value.message, caught.value.data) == (-32000, "no", {"why": 1})


async def test_what_breaks_inside_is_not_told(peers):
    with pytest.raises(RpcError, match="its log says why") as caught:
        await peers[0].request("fail")
    assert caught.value.code == -32603


@pytest.mark.parametrize(("error", "code"), [(Forbidden("x"), -32003), (NoSuchModel("x"), -32602)])
async def test_our_own_errors_have_their_codes(error, code):
    async def refuse(_id, _method, _params):
        raise error

    ours, theirs = pair()
    async with trio.open_nursery() as nursery:
        asking = Peer(ours)
        await nursery.start(asking.run)
        await nursery.start(Peer(theirs, refuse).run)
        with pytest.raises(RpcError) as caught:
            await asking.request("x")
        nursery.cancel_scope.cancel()
    assert caught.value.code == code


async def test_a_cancelled_request_is_taken_back_and_not_answered(peers):
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers[0].request, "sleep")
            await trio.testing.wait_all_tasks_blocked()
            assert len(peers[1].running) == 1
            scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert not peers[1].running
    assert await peers[0].request("hello") == {"method": "hello"}


async def sleep(_id, _method, _params):
    await trio.sleep_forever()


async def test_a_handshake_is_never_taken_back(nursery):
    told = []
    ours, theirs = pair()
    one = Peer(ours)
    await nursery.start(one.run)
    await nursery.start(Peer(theirs, sleep, lambda method, _: told.append(method)).run)
    with trio.move_on_after(0.1):
        await one.request("initialize")
    await trio.testing.wait_all_tasks_blocked()
    assert told == []


async def test_progress_comes_in_order_and_before_the_answer(nursery):
    ours, theirs = pair()
    one = Peer(ours)
    other = Peer(theirs)

    async def count(_id, _method, params):
        for step in range(50):
            token = params["_meta"]["progressToken"]
            await other.notify("notifications/progress", {"progressToken": token, "progress": step})
        return {}

    other.on_request = count
    await nursery.start(one.run)
    await nursery.start(other.run)
    told = []
    await one.request("count", on_progress=lambda params: told.append(params["progress"]))
    assert told == list(range(50))


async def test_notifications_come_in_order(nursery):
    told = []
    ours, theirs = pair()
    await nursery.start(Peer(theirs, on_notification=lambda method, params: told.append((method, params))).run)
    one = Peer(ours)
    for number in range(20):
        await one.notify("n", {"number": number})
    await one.notify("last")
    await trio.testing.wait_all_tasks_blocked()
    assert told == [*(("n", {"number": number}) for number in range(20)), ("last", {})]


async def test_the_end_of_the_channel_fails_what_is_asked_and_cancels_what_is_answered(nursery):
    ours, theirs = pair()
    one, other = Peer(ours), Peer(theirs, echo)
    await nursery.start(one.run)
    await nursery.start(other.run)
    errors = []

    async def ask():
        try:
            await one.request("sleep")
        except RpcError as error:
            errors.append(error.code)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    assert other.running
    ours.out.close()
    theirs.out.close()
    await trio.testing.wait_all_tasks_blocked()
    assert errors == [-32000]
    assert (one.closed, other.closed, other.running) == (True, True, {})
    with pytest.raises(RpcError):
        await one.request("more")


@pytest.mark.parametrize("scheduled", [0, 1])
async def test_over_the_cap_it_refuses_and_does_not_wait(nursery, scheduled):
    ours, theirs = pair()
    one, other = Peer(ours), Peer(theirs, echo, max_in_flight=2 + scheduled)
    await nursery.start(one.run)
    await nursery.start(other.run)
    for _ in range(2 + scheduled):
        nursery.start_soon(one.request, "sleep")
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(RpcError) as caught:
        await one.request("hello")
    assert caught.value.code == -32004


async def test_finishing_answers_what_runs_and_refuses_what_comes(nursery, autojump_clock):
    async def slowly(_id, _method, _params):
        await trio.sleep(1)
        return {"done": True}

    ours, theirs = pair()
    one, other = Peer(ours), Peer(theirs, slowly)
    await nursery.start(one.run)
    await nursery.start(other.run)
    results = []

    async def ask():
        results.append(await one.request("x"))

    nursery.start_soon(ask)
    await trio.sleep(0.1)
    async with trio.open_nursery() as finishing:
        finishing.start_soon(other.finish)
        await trio.sleep(0.1)
        with pytest.raises(RpcError) as caught:
            await one.request("late")
        assert caught.value.code == -32000
        assert results == []
    await trio.sleep(0.01)
    assert results == [{"done": True}]


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        ("{", [(-32700, None)]),
        ([], [(-32600, None)]),
        ({"jsonrpc": "2.0", "id": 1}, [(-32600, 1)]),
        ({"jsonrpc": "2.0", "id": True, "method": "x"}, [(-32600, None)]),
        ({"jsonrpc": "2.0", "id": 1, "method": "x", "params": []}, [(-32602, 1)]),
        ({"jsonrpc": "2.0", "method": "x", "params": []}, []),
        ({"jsonrpc": "2.0", "id": 99, "result": {}}, []),
        ({"jsonrpc": "2.0", "id": {}, "error": {}}, []),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}, []),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": []}}, []),
        ({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": {}}}, []),
    ],
)
async def test_each_message_has_the_answer_of_the_specification(message, answers):
    got = [(answer["error"]["code"], answer["id"]) for answer in await sent(message)]
    assert got == answers


@pytest.mark.parametrize(
    "answer", [{"result": 1}, {"error": "words"}, {"error": {"code": "x", "message": 1}}, {"result": None}]
)
async def test_an_answer_of_a_wrong_shape_fails_the_request_and_nothing_else(nursery, answer):
    ours, theirs = pair()
    one = Peer(ours)
    await nursery.start(one.run)
    async with trio.open_nursery() as inner:

        async def answer_it():
            asked = json.loads(await theirs.receive())
            await theirs.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}))

        inner.start_soon(answer_it)
        with pytest.raises(RpcError):
            await one.request("x")
    assert not one.closed


@pytest.mark.parametrize("text", ["", "nul", '{"a":1', "\ud800", "[" * 200_000, b"\xff"])
def test_what_is_no_json_is_said_to_be_none(text):
    with pytest.raises(RpcError) as caught:
        decode(text)
    assert caught.value.code == -32700
