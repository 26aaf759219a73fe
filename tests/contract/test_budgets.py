"""No request takes longer than it may, and who ran out of time is told where it went."""

import pytest
import trio
from support.running import Sim, chat, events

from trillm.sim.settings import SimSettings


async def spent(trillm, body, path="/v1/chat/completions", **headers):
    began = trio.current_time()
    reply = await trillm.post(path, body, **headers)
    assert reply.status_code == 504, reply.text
    error = reply.json()["error"]
    assert error["code"] == "latency_budget_exceeded"
    assert reply.headers["x-should-retry"] == "false"
    return error["phase"], trio.current_time() - began


@pytest.mark.parametrize(
    ("stream", "phase"),
    [(False, "total"), (True, "first_token")],
)
async def test_a_silent_server_costs_the_callers_budget_and_no_more(trillm, stream, phase):
    body = chat(stream=stream, x_sim={"fault": "silent"})
    named, took_s = await spent(trillm, body, x_trillm_budget="0.3")
    assert named == phase
    assert 0.25 < took_s < 0.8
    await trillm.settled("one", within_s=0.2)


async def test_headers_alone_are_no_first_token(trillm):
    named, _ = await spent(trillm, chat(stream=True, x_sim={"fault": "slow"}), x_trillm_budget="0.3")
    assert named == "first_token"


async def test_the_wait_for_a_slot_counts(run_trillm):
    async with run_trillm({"one": Sim(server={"max_concurrent": 1})}) as trillm, trio.open_nursery() as nursery:
        nursery.start_soon(trillm.post, "/v1/chat/completions", chat(x_sim={"ttft_s": 1}))
        await trio.sleep(0.2)
        named, took_s = await spent(trillm, chat(), x_trillm_budget="0.3")
        assert named == "queue"
        assert took_s < 0.8


async def test_a_stream_that_stalls_ends_with_an_error_event(run_trillm):
    async with run_trillm({"one": Sim()}, document={"budgets": {"stall": 0.3}}) as trillm:
        began = trio.current_time()
        reply = await trillm.post("/v1/chat/completions", chat(stream=True, x_sim={"fault": "stall", "after": 2}))
        error = events(reply.text)[-1]["error"]
        assert error["code"] == "latency_budget_exceeded"
        assert error["phase"] == "stall"
        assert trio.current_time() - began < 1
        await trillm.settled("one", within_s=0.2)


async def test_a_stream_may_take_longer_than_the_budget_once_it_flows(run_trillm):
    async with run_trillm({"one": Sim()}, chat_budget_s=0.3) as trillm:
        body = chat(stream=True, x_sim={"itl_s": 0.1, "tokens": 8})
        assert events((await trillm.post("/v1/chat/completions", body)).text)[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("path", "body", "budget"),
    [
        ("/v1/embeddings", {"model": "sim-embed", "input": "a"}, "embeddings_budget_s"),
        ("/v1/rerank", {"model": "sim-rerank", "query": "a", "documents": ["a"]}, "rerank_budget_s"),
        ("/v1/chat/completions", chat(), "chat_budget_s"),
    ],
)
async def test_each_operation_has_its_own_budget(run_trillm, path, body, budget):
    slow = {"one": Sim(SimSettings(ttft_s=2))}
    async with run_trillm(slow, **{budget: 0.2}) as trillm:
        _, took_s = await spent(trillm, body, path)
        assert took_s < 0.7


async def test_a_servers_and_a_routes_own_budget_win(run_trillm):
    slow = {"one": Sim(SimSettings(ttft_s=0.5), server={"budgets": {"chat": 2}})}
    document = {"routes": {"quick": {"to": ["one/sim-chat"], "budgets": {"chat": 0.2}}}}
    async with run_trillm(slow, document=document, chat_budget_s=0.1) as trillm:
        assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200
        _, took_s = await spent(trillm, chat(model="quick"))
        assert took_s < 0.45


async def test_a_caller_cannot_go_beyond_the_ceiling(run_trillm):
    async with run_trillm({"one": Sim()}, document={"budgets": {"ceiling": 0.2}}) as trillm:
        _, took_s = await spent(trillm, chat(x_sim={"ttft_s": 3}), x_trillm_budget="60")
        assert took_s < 0.7
