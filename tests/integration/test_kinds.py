"""A whole trillm before recorded servers of every kind, on real sockets: what it offers is what they offer now."""

from functools import partial

import pytest
import trio
from support.recorded import Recorded, serve_recorded
from support.running import Trillm, chat, running

from trillm.pool.probe import ProbeSettings

KINDS = {
    "ollama": "ollama",
    "vllm": "vllm_chat",
    "lmstudio": "lmstudio",
    "tei": "tei_rerank",
    "infinity": "infinity_prefix",
    "llama": "llamacpp_router",
    "cloud": "openai_other_base",
}


async def offered(trillm: Trillm) -> dict[str, dict]:
    data = (await trillm.client.get("/v1/models")).json()["data"]
    listed = {model["id"]: model for model in data}
    assert len(listed) == len(data)
    return listed


def expected(recorded: list[Recorded]) -> dict[str, dict]:
    return {model["id"]: model for one in recorded for model in one.found["models"]}


def document(recorded: list[Recorded]) -> dict:
    return {"servers": {name: {"url": one.url} for name, one in zip(KINDS, recorded, strict=True)}}


async def test_every_models_id_is_offered_with_what_it_can_do_and_can_be_asked_for_as_it_is(tmp_path, nursery):
    recorded = await serve_recorded(nursery, *KINDS.values())
    async with running(tmp_path, {}, document=document(recorded)) as trillm:
        models = await offered(trillm)
        assert set(models) == set(expected(recorded))
        for name, model in expected(recorded).items():
            assert models[name]["capabilities"] == sorted(model["capabilities"])
            assert models[name].get("max_model_len") == model["context_length"]
            assert (await trillm.client.get(f"/v1/models/{name.replace('/', '%2F')}")).json()["id"] == name
        for server, one in zip(KINDS, recorded, strict=True):
            for model in one.found["models"]:
                qualified = f"{server}/{model['id']}"
                assert (await trillm.client.get(f"/v1/models/{qualified}")).json()["owned_by"] == server
    nursery.cancel_scope.cancel()


async def test_who_could_and_what_is_close_is_said(tmp_path, nursery):
    recorded = await serve_recorded(nursery, *KINDS.values())
    async with running(tmp_path, {}, document=document(recorded)) as trillm:
        unknown = await trillm.post("/v1/chat/completions", chat(model="lama3.2:3b"))
        assert unknown.status_code == 404
        assert "'llama3.2:3b'" in unknown.json()["error"]["message"]
        incapable = await trillm.post("/v1/rerank", {"model": "llama3.2:3b", "query": "q", "documents": ["d"]})
        assert incapable.status_code == 400
        assert "BAAI/bge-reranker-base" in incapable.json()["error"]["message"]
        assert incapable.json()["error"]["code"] == "model_not_capable"
    assert not [line for one in recorded for line in one.asked if line.startswith("POST /v1/chat")]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_models_come_and_go_within_one_probe_period(tmp_path, nursery):
    (ollama,) = await serve_recorded(nursery, "ollama")
    servers = trio.CancelScope()

    async def serve_tei(*, task_status):
        with servers:
            await Recorded.named("tei_rerank").serve(task_status=task_status)

    tei = await nursery.start(serve_tei)
    served = {"servers": {"ollama": {"url": ollama.url}, "tei": {"url": tei.url}}}
    async with running(tmp_path, {}, document=served) as trillm:
        before = await offered(trillm)
        assert {"llama3.2:3b", "BAAI/bge-reranker-base"} <= set(before)
        tags = ollama.answers["GET /api/tags"]["json"]["models"]
        tags[0] |= {"name": "pulled:1b", "model": "pulled:1b"}
        servers.cancel()
        with trio.fail_after(ProbeSettings().every_s + 0.5):
            while not {"pulled:1b"} <= (now := set(await offered(trillm))) or "BAAI/bge-reranker-base" in now:
                await trio.sleep(0.05)
        assert "llama3.2:3b" not in now
        await nursery.start(partial(tei.serve))
        with trio.fail_after(ProbeSettings().down_every_s + 0.5):
            while "BAAI/bge-reranker-base" not in await offered(trillm):
                await trio.sleep(0.05)
    nursery.cancel_scope.cancel()
