"""Many requests at once: nobody gets an error, nobody waits longer than its budget, nothing is left over."""

from functools import partial

import trio
from support.running import Sim, chat, events, running

from trillm.sim.settings import SimSettings

BUDGETS_S = {"chat": 5, "embeddings": 2, "rerank": 3}


async def test_fifty_mixed_requests_at_once_keep_every_budget(tmp_path):
    sim = Sim(SimSettings(ttft_s=0.2, itl_s=0.01))
    async with running(tmp_path, {"one": sim}) as trillm:
        calls = [
            ("chat", "/v1/chat/completions", chat(stream=True)),
            ("chat", "/v1/chat/completions", chat()),
            ("embeddings", "/v1/embeddings", {"model": "sim-embed", "input": ["a text", "another"]}),
            ("rerank", "/v1/rerank", {"model": "sim-rerank", "query": "a", "documents": ["a b", "b c"]}),
        ]

        async def client(number: int) -> None:
            for turn in range(6):
                operation, path, body = calls[(number + turn) % len(calls)]
                began = trio.current_time()
                reply = await trillm.post(path, body)
                assert reply.status_code == 200, reply.text
                assert trio.current_time() - began < BUDGETS_S[operation]
                if body.get("stream"):
                    assert events(reply.text)[-1] == "[DONE]"

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(client, number)
        await assert_nothing_left(trillm)


async def test_five_hundred_streams_at_once_all_end_well(tmp_path):
    sim = Sim(SimSettings(ttft_s=0.5, itl_s=0.2, tokens=10))
    # Everything shares this process and its core: the budget here is about errors, the benchmark has the latencies.
    async with running(tmp_path, {"one": sim}, chat_budget_s=20) as trillm:
        most = 0

        async def stream(send: trio.MemorySendChannel[str]) -> None:
            nonlocal most
            async with trillm.client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply:
                most = max(most, trillm.gateway.running)
                await send.send((await reply.aread()).decode())

        send, receive = trio.open_memory_channel[str](500)
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(partial(stream, send))
        texts = [receive.receive_nowait() for _ in range(500)]
        assert all(events(text)[-1] == "[DONE]" and "error" not in text for text in texts)
        assert most > 300
        await assert_nothing_left(trillm)


async def assert_nothing_left(trillm) -> None:
    with trio.fail_after(1):  # the last client may have its last byte a moment before we are done with it
        while trillm.gateway.running:
            await trio.sleep(0.01)
    assert [(m.in_flight, m.waiting) for m in trillm.pool.members.values()] == [(0, 0)]
    assert (await trillm.sim_stats("one"))["aborted"] == 0
