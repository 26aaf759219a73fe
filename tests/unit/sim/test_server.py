"""The simulator as a server: under virtual time on in-memory streams, and once on a real socket."""

import logging
from functools import partial

import httptools
import msgspec
import pytest
import trio
from openai import OpenAI
from trio.testing import memory_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked

from trillm.sim.faults import FaultPlan
from trillm.sim.server import Simulator, handle_connection, serve_sim
from trillm.sim.settings import SimSettings

CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}


class Client:
    """The other end of one connection."""

    def __init__(self, stream):
        self.stream = stream
        self.rest = b""

    async def send(self, path, payload, *, headers=b"", version=b"1.1"):
        body = msgspec.json.encode(payload)
        head = b"POST %b HTTP/%b\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n"
        await self.stream.send_all(head % (path.encode(), version, headers, len(body)) + body)

    async def get(self, path):
        await self.stream.send_all(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        return await self.reply()

    async def post(self, path, payload, **kwargs):
        await self.send(path, payload, **kwargs)
        return await self.reply()

    async def reply(self):
        """Return the next whole reply; it stays short if the connection ends before it does."""
        reply = Reply()
        while not reply.complete:
            data = await self.stream.receive_some()
            if not data:
                break
            reply.parser.feed_data(data)
        return reply

    async def at_end(self):
        return await self.stream.receive_some() == b""


class Reply:
    def __init__(self):
        self.parser = httptools.HttpResponseParser(self)
        self.headers, self.body, self.complete, self.status, self.times = {}, b"", False, None, []

    def on_header(self, name, value):
        self.headers[name.decode()] = value.decode()

    def on_headers_complete(self):
        self.status = self.parser.get_status_code()

    def on_body(self, data):
        self.body += data
        self.times.append(trio.current_time())

    def on_message_complete(self):
        self.complete = True

    @property
    def json(self):
        return msgspec.json.decode(self.body)


@pytest.fixture
def dial(nursery):
    def dial(simulator):
        client, server = memory_stream_pair()
        nursery.start_soon(handle_connection, server, simulator)
        return Client(client)

    return dial


def counts(simulator):
    stats = simulator.stats
    return (stats.in_flight, stats.started, stats.finished, stats.aborted)


async def test_requests_follow_each_other_on_one_connection(dial):
    client = dial(Simulator(SimSettings()))
    assert (await client.get("/health")).json == {"status": "ok"}
    assert (await client.post("/v1/chat/completions", CHAT)).json["object"] == "chat.completion"
    assert (await client.post("/v1/chat/completions", STREAM)).body.endswith(b"data: [DONE]\n\n")
    stats = (await client.get("/sim/stats")).json
    assert stats == {"in_flight": 0, "started": 2, "finished": 2, "aborted": 0, "connections": 1}


async def test_pipelined_requests_are_answered_in_their_order(dial, autojump_clock):
    client = dial(Simulator(SimSettings(ttft_s=1)))
    for tokens in (1, 2, 3):
        await client.send("/v1/chat/completions", {**CHAT, "max_tokens": tokens})
    raw = b""
    while raw.count(b'"usage"') < 3:
        raw += await client.stream.receive_some()
    found = [raw.index(b'"completion_tokens":%d,' % tokens) for tokens in (1, 2, 3)]
    assert found == sorted(found)


async def test_a_stream_has_the_pace_of_its_settings(dial, autojump_clock):
    client = dial(Simulator(SimSettings(ttft_s=2, itl_s=0.5, tokens=4)))
    reply = await client.post("/v1/chat/completions", STREAM)
    assert reply.times == [2, 2, 2.5, 3, 3.5, 3.5]


async def test_a_request_directs_its_own_pace(dial, autojump_clock):
    client = dial(Simulator(SimSettings(ttft_s=2)))
    direction = {"ttft_s": 0.25, "itl_s": 0.125, "tokens": 3}
    reply = await client.post("/v1/chat/completions", {**STREAM, "x_sim": direction})
    assert reply.times == [0.25, 0.25, 0.375, 0.5, 0.5]
    reply = await client.post("/v1/embeddings", {"model": "sim-embed", "input": "x", "x_sim": {"ttft_s": 3}})
    assert reply.times == [3.5]


@pytest.mark.parametrize("payload", [STREAM, CHAT], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", [None, "silent", "stall", "slow"])
async def test_a_client_that_leaves_frees_everything_at_once(dial, autojump_clock, payload, fault):
    simulator = Simulator(SimSettings(ttft_s=1, itl_s=1))
    client = dial(simulator)
    await client.send("/v1/chat/completions", {**payload, "x_sim": {"fault": fault, "seconds": 1000}})
    await trio.sleep(3.5)
    assert counts(simulator) == (1, 1, 0, 0)
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert counts(simulator) == (0, 1, 0, 1)
    assert simulator.stats.connections == 0
    assert trio.current_time() == 3.5


@pytest.mark.parametrize("payload", [STREAM, CHAT, {}], ids=["stream", "whole", "error"])
async def test_a_client_that_does_not_wait_for_its_answer_is_no_error(dial, caplog, payload):
    simulator = Simulator(SimSettings())
    client = dial(simulator)
    await client.send("/v1/chat/completions", payload)
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert simulator.stats.finished == simulator.stats.connections == 0
    assert simulator.stats.in_flight == 0
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_a_client_that_takes_nothing_any_more_is_no_error(dial, autojump_clock, caplog):
    simulator = Simulator(SimSettings(ttft_s=1))
    client = dial(simulator)
    await client.send("/v1/chat/completions", STREAM)
    await client.stream.receive_stream.aclose()
    await trio.sleep(2)
    assert counts(simulator) == (0, 1, 0, 1)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_no_more_is_read_ahead_than_there_is_room_for(dial, autojump_clock):
    simulator = Simulator(SimSettings(ttft_s=1))
    client = dial(simulator)
    await client.send("/v1/chat/completions", CHAT)
    for _ in range(40):
        await client.send("/v1/chat/completions", {**CHAT, "user": "x" * 10_000})
    replies = b""
    while replies.count(b"HTTP/1.1 200 OK") < 41:
        replies += await client.stream.receive_some()
    await wait_all_tasks_blocked()
    assert simulator.stats.finished == 41


async def test_a_client_that_leaves_while_it_waits_for_a_slot_is_gone_at_once(dial, autojump_clock):
    simulator = Simulator(SimSettings(slots=1))
    first, second = dial(simulator), dial(simulator)
    await first.send("/v1/chat/completions", {**CHAT, "x_sim": {"ttft_s": 10}})
    await wait_all_tasks_blocked()
    await second.send("/v1/chat/completions", CHAT)
    await wait_all_tasks_blocked()
    assert simulator.stats.in_flight == 2
    await second.stream.aclose()
    await wait_all_tasks_blocked()
    assert counts(simulator) == (1, 2, 0, 1)
    assert (await first.reply()).status == 200


async def test_requests_beyond_the_slots_wait_for_their_turn(dial, autojump_clock):
    simulator = Simulator(SimSettings(ttft_s=1, slots=2))
    clients = [dial(simulator) for _ in range(5)]
    for client in clients:
        await client.send("/v1/chat/completions", CHAT)
    ended = [(await client.reply()).times for client in clients]
    assert ended == [[1], [1], [2], [2], [3]]


async def test_a_slot_is_free_again_after_its_client_left(dial, autojump_clock):
    simulator = Simulator(SimSettings(ttft_s=1, slots=1))
    gone, client = dial(simulator), dial(simulator)
    await gone.send("/v1/chat/completions", {**CHAT, "x_sim": {"fault": "silent"}})
    await wait_all_tasks_blocked()
    await gone.stream.aclose()
    assert (await client.post("/v1/chat/completions", CHAT)).times == [1]


async def test_a_shutdown_counts_what_it_ends(autojump_clock):
    simulator = Simulator(SimSettings(ttft_s=1000))
    async with trio.open_nursery() as nursery:
        client, server = memory_stream_pair()
        nursery.start_soon(handle_connection, server, simulator)
        await Client(client).send("/v1/chat/completions", CHAT)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert counts(simulator) == (0, 1, 0, 1)
    assert simulator.stats.connections == 0


@pytest.mark.parametrize("fault", ["refuse", "cut"])
async def test_after_a_fatal_fault_the_connection_is_closed(dial, fault):
    client = dial(Simulator(SimSettings(fail=FaultPlan.parse(fault))))
    reply = await client.post("/v1/chat/completions", STREAM)
    assert not reply.complete
    assert (reply.status is None) is (fault == "refuse")


@pytest.mark.parametrize("fault", ["429", "500", "503", "eof", "malformed", "nodone", "error", "garbage"])
async def test_after_another_fault_the_connection_goes_on(dial, fault):
    client = dial(Simulator(SimSettings(fail=FaultPlan.parse(fault))))
    assert (await client.post("/v1/chat/completions", STREAM)).complete
    assert (await client.post("/v1/chat/completions", {**CHAT, "x_sim": {"fault": None}})).status == 200


async def test_a_plan_spares_what_generates_nothing(dial):
    client = dial(Simulator(SimSettings(fail=FaultPlan.parse("500"))))
    assert (await client.get("/health")).status == 200
    assert (await client.post("/v1/chat/completions", {})).status == 400


async def test_faults_are_repeatable(dial):
    async def statuses():
        client = dial(Simulator(SimSettings(seed=7, fail=FaultPlan.parse("500:0.5"))))
        return [(await client.post("/v1/chat/completions", CHAT)).status for _ in range(20)]

    assert (first := await statuses()) == await statuses()
    assert set(first) == {200, 500}


async def test_without_a_seed_every_simulator_says_something_else():
    assert Simulator(SimSettings(seed=None)).voice != Simulator(SimSettings(seed=None)).voice


async def test_what_is_no_http_is_answered_and_closed(dial):
    client = dial(Simulator(SimSettings()))
    await client.stream.send_all(b"hello?\r\n\r\n")
    reply = await client.reply()
    assert reply.status == 400
    assert reply.headers["connection"] == "close"
    assert "not a valid HTTP/1.1 request" in reply.json["error"]["message"]
    assert await client.at_end()


@pytest.mark.parametrize(("version", "headers"), [
    (b"1.1", b"Connection: close\r\n"), (b"1.0", b""), (b"1.0", b"Connection: keep-alive\r\n"),
])  # fmt: skip
async def test_the_connection_is_closed_for_those_who_want_that_and_for_old_clients(dial, version, headers):
    client = dial(Simulator(SimSettings()))
    reply = await client.post("/v1/chat/completions", STREAM, headers=headers, version=version)
    assert reply.complete
    assert reply.headers["connection"] == "close"
    assert ("transfer-encoding" in reply.headers) is (version == b"1.1")
    assert await client.at_end()


async def test_a_client_may_wait_to_be_told_to_continue(dial):
    client = dial(Simulator(SimSettings()))
    body = msgspec.json.encode(CHAT)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    await client.stream.send_all(head % len(body))
    assert await client.stream.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.stream.send_all(body)
    assert (await client.reply()).status == 200


async def test_a_head_can_be_had_alone(dial):
    client = dial(Simulator(SimSettings()))
    await client.stream.send_all(b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.stream.receive_some()).endswith(b"content-length: 15\r\n\r\n")
    assert (await client.get("/health")).json == {"status": "ok"}


@pytest.mark.parametrize("sent", [b"", b"POST /v1", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxx"])
async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(dial, caplog, sent):
    simulator = Simulator(SimSettings())
    client = dial(simulator)
    await client.stream.send_all(sent)
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert simulator.stats.connections == 0
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


class Reset(trio.abc.ReceiveStream):
    """The receiving half of a connection that the other side reset."""

    async def receive_some(self, max_bytes=None):
        raise trio.BrokenResourceError

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def test_a_connection_that_is_reset_is_no_error(caplog):
    simulator = Simulator(SimSettings())
    send, _ = memory_stream_one_way_pair()
    await handle_connection(trio.StapledStream(send, Reset()), simulator)
    assert simulator.stats.connections == 0
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_an_error_in_one_connection_ends_only_that_one(dial, caplog, monkeypatch):
    simulator = Simulator(SimSettings())
    broken, fine = dial(simulator), dial(simulator)
    assert (await fine.get("/health")).status == 200
    with monkeypatch.context() as patch:
        patch.setattr("trillm.sim.endpoints.respond", lambda *_: 1 / 0)
        await broken.send("/v1/chat/completions", CHAT)
        assert await broken.at_end()
        await wait_all_tasks_blocked()
    assert "connection failed" in caplog.text
    assert (await fine.get("/health")).status == 200
    assert simulator.stats.connections == 1


async def test_large_bodies_are_answered_too(dial):
    client = dial(Simulator(SimSettings()))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    payload = {**CHAT, "messages": [{"role": "user", "content": [image]}]}
    assert "1 image." in (await client.post("/v1/chat/completions", payload)).json["choices"][0]["message"]["content"]


async def test_the_openai_client_is_at_home_here():
    def talk(url):
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["sim-chat", "sim-embed", "sim-rerank"]
            chat = client.chat.completions.create(**CHAT)
            with client.chat.completions.create(**STREAM) as stream:
                said = "".join([chunk.choices[0].delta.content or "" for chunk in stream])
            assert said == chat.choices[0].message.content
            vectors = client.embeddings.create(model="sim-embed", input=["a", "b"])
            assert len(vectors.data[1].embedding) == 256

    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_sim, SimSettings()))
        assert url.startswith("http://127.0.0.1:")
        # Not the asynchronous client: it leaves its generators half run, which Trio warns about.
        await trio.to_thread.run_sync(talk, url)
        nursery.cancel_scope.cancel()


async def test_the_url_of_a_literal_address_is_bracketed():
    async with trio.open_nursery() as nursery:
        try:
            url = await nursery.start(partial(serve_sim, SimSettings(), host="::1"))
        except OSError:
            pytest.skip("there is no IPv6 here")
        assert url.startswith("http://[::1]:")
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_is_noticed_on_a_real_socket_too():
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_sim, SimSettings()))
        port = int(url.rpartition(":")[2])
        watcher = Client(await trio.open_tcp_stream("127.0.0.1", port))
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await Client(stream).send("/v1/chat/completions", {**STREAM, "x_sim": {"fault": "stall"}})
            await stream.receive_some()
            assert (await watcher.get("/sim/stats")).json["in_flight"] == 1
        await wait_all_tasks_blocked(0.05)
        stats = (await watcher.get("/sim/stats")).json
        assert stats == {"in_flight": 0, "started": 1, "finished": 0, "aborted": 1, "connections": 1}
        await watcher.stream.aclose()
        nursery.cancel_scope.cancel()
