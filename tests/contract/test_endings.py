"""A stream has one honest ending, and what can still be tried elsewhere is."""

import httpx
import openai
import pytest
import trio
from support.running import Sim, chat, events

from trillm.sim.faults import FaultPlan
from trillm.sim.settings import SimSettings


def failing(plan: str) -> Sim:
    return Sim(SimSettings(fail=FaultPlan.parse(plan)))


@pytest.mark.parametrize("fault", ["cut", "eof", "error"])
async def test_a_stream_that_was_cut_ends_with_an_error_and_never_with_done(trillm, fault):
    body = chat(stream=True, x_sim={"fault": fault, "after": 3})
    reply = await trillm.post("/v1/chat/completions", body)
    *content, error = events(reply.text)
    assert reply.status_code == 200
    assert len(content) >= 3
    assert error["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in reply.text


@pytest.mark.parametrize("fault", ["cut", "eof", "error"])
async def test_the_openai_sdk_sees_a_cut_stream_as_an_error(trillm, fault):
    def consume():
        body = chat(stream=True, extra_body={"x_sim": {"fault": fault, "after": 3}})
        with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none") as client:
            return list(client.chat.completions.create(**body))

    # The synchronous client in a thread: the asynchronous one leaves generators behind when a stream fails.
    with pytest.raises(openai.APIError):
        await trio.to_thread.run_sync(consume)


async def test_a_missing_done_is_added_when_the_server_had_finished(trillm):
    reply = await trillm.post("/v1/chat/completions", chat(stream=True, x_sim={"fault": "nodone"}))
    assert events(reply.text)[-1] == "[DONE]"
    assert "error" not in reply.text


async def test_a_malformed_frame_is_dropped_and_the_stream_goes_on(trillm):
    reply = await trillm.post("/v1/chat/completions", chat(stream=True, x_sim={"fault": "malformed", "after": 2}))
    chunks = events(reply.text)  # would raise on garbage
    assert chunks[-1] == "[DONE]"


@pytest.mark.parametrize("fault", ["refuse", "500", "503", "cut", "eof", "error", "garbage", "malformed"])
async def test_a_plain_answer_that_is_none_becomes_an_error(trillm, fault):
    reply = await trillm.post("/v1/chat/completions", chat(x_sim={"fault": fault}))
    assert reply.status_code in {500, 502, 503}, reply.text
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("fault", ["refuse", "500", "503", "429", "cut", "garbage"])
@pytest.mark.parametrize("stream", [False, True])
async def test_another_server_answers_when_the_first_fails_before_content(run_trillm, fault, stream):
    sims = {"bad": failing(fault), "good": Sim(server={"weight": 0.001})}
    async with run_trillm(sims) as trillm:
        for _ in range(5):
            reply = await trillm.post("/v1/chat/completions", chat(stream=stream))
            if fault == "cut" and stream and "error" in reply.text:
                continue  # cut after content: told, not repeated
            assert reply.status_code == 200
            assert reply.headers["x-trillm-server"] == "good"


async def test_a_busy_server_is_passed_on_with_its_retry_after(run_trillm):
    async with run_trillm({"one": failing("429=7")}) as trillm:
        reply = await trillm.post("/v1/chat/completions", chat())
        assert reply.status_code == 429
        assert float(reply.headers["retry-after"]) == 7


async def test_a_route_falls_back_when_its_servers_fail(run_trillm):
    document = {"routes": {"fast": {"to": ["bad/sim-chat"], "fallback": ["good/sim-chat"]}}}
    async with run_trillm({"bad": failing("500"), "good": Sim()}, document=document) as trillm:
        reply = await trillm.post("/v1/chat/completions", chat(model="fast"))
        assert reply.status_code == 200
        assert reply.headers["x-trillm-server"] == "good"


async def test_a_server_that_is_gone_is_503_or_502_with_the_reason(run_trillm):
    document = {"servers": {"gone": {"url": "http://127.0.0.1:9", "models": ["m"]}}}
    async with run_trillm({}, document=document) as trillm:
        reply = await trillm.post("/v1/chat/completions", chat(model="m"))
        assert reply.status_code in {502, 503}
        assert "refused" in reply.json()["error"]["message"]


async def test_nothing_is_left_over_after_all_of_this(trillm):
    for fault in ("cut", "eof", "error", "500", "garbage", "refuse"):
        for stream in (False, True):
            await trillm.post("/v1/chat/completions", chat(stream=stream, x_sim={"fault": fault}))
    assert trillm.gateway.running == 0
    assert [member.in_flight for member in trillm.pool.members.values()] == [0]


async def test_the_client_can_read_a_stream_as_it_comes(trillm):
    body = chat(stream=True, x_sim={"ttft_s": 0.05, "itl_s": 0.05, "tokens": 10})
    async with trillm.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        pieces = [piece async for piece in reply.aiter_raw()]
    assert isinstance(reply, httpx.Response)
    assert len(pieces) >= 8, "tokens were buffered"
