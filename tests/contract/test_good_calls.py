"""What a well-behaved client gets."""

import base64
import struct

import pytest
from support.running import Sim, chat, events

MODELS = {"chat": "sim-chat", "embeddings": "sim-embed", "rerank": "sim-rerank"}


async def test_a_chat_call_is_answered_in_openais_shape(trillm):
    reply = await trillm.post("/v1/chat/completions", chat())
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    answer = reply.json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] > 0


async def test_every_reply_says_who_answered_and_how_long_it_took(trillm):
    reply = await trillm.post("/v1/chat/completions", chat(), x_request_id="mine-1")
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-trillm-server"] == "one"
    for mark in ("queue;dur=", "first-token;dur=", "total;dur="):
        assert mark in reply.headers["server-timing"]


async def test_a_request_id_is_made_up_where_there_is_none_or_a_bad_one(trillm):
    for headers in ({}, {"x_request_id": "with space"}):
        reply = await trillm.post("/v1/chat/completions", chat(), **headers)
        assert reply.headers["x-request-id"].startswith("req_")


async def test_a_stream_begins_with_the_role_and_ends_with_done(trillm):
    reply = await trillm.post("/v1/chat/completions", chat(stream=True))
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    chunks = events(reply.text)
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_usage_is_streamed_when_asked_for(trillm):
    body = chat(stream=True, stream_options={"include_usage": True})
    chunks = events((await trillm.post("/v1/chat/completions", body)).text)
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["total_tokens"] > 0


async def test_legacy_completions_are_answered(trillm):
    reply = await trillm.post("/v1/completions", {"model": "sim-chat", "prompt": "Once"})
    assert reply.json()["object"] == "text_completion"
    streamed = await trillm.post("/v1/completions", {"model": "sim-chat", "prompt": "Once", "stream": True})
    assert events(streamed.text)[-1] == "[DONE]"


async def test_images_pass_untouched(trillm):
    image = "data:image/png;base64," + base64.b64encode(bytes(1000)).decode()
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": image}}]
    reply = await trillm.post("/v1/chat/completions", chat(messages=[{"role": "user", "content": parts}]))
    assert "1 image" in reply.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_come_in_both_encodings(trillm, encoding):
    body = {"model": "sim-embed", "input": ["one text", "another"], "encoding_format": encoding}
    data = (await trillm.post("/v1/embeddings", body)).json()["data"]
    vectors = [entry["embedding"] for entry in data]
    if encoding == "base64":
        vectors = [struct.unpack(f"<{len(base64.b64decode(v)) // 4}f", base64.b64decode(v)) for v in vectors]
    assert [entry["index"] for entry in data] == [0, 1]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking"])
async def test_ranking_puts_the_right_document_first(trillm, path):
    body = {"model": "sim-rerank", "query": "capital of France", "top_n": 2}
    body["documents"] = ["Bananas are yellow.", "Paris is the capital of France.", "France is a country."]
    results = (await trillm.post(path, body)).json()["results"]
    assert [r["index"] for r in results] == [1, 2]
    assert results[0]["relevance_score"] > results[1]["relevance_score"]


async def test_each_dialect_is_answered_in_its_own_shape(trillm):
    texts = ["Bananas are yellow.", "Paris is the capital of France."]
    ask = {"model": "sim-rerank", "query": "capital of France"}
    cohere = (await trillm.post("/v2/rerank", ask | {"documents": texts})).json()
    assert cohere["meta"]["api_version"] == {"version": "2"}
    voyage = (await trillm.post("/v1/rerank", ask | {"documents": texts, "top_k": 1, "return_documents": True})).json()
    assert [entry["document"] for entry in voyage["data"]] == texts[1:]
    tei = (await trillm.post("/rerank", {"query": ask["query"], "texts": texts})).json()
    assert [entry["index"] for entry in tei] == [1, 0]
    score = (await trillm.post("/v1/score", {"model": "sim-rerank", "text_1": ask["query"], "text_2": texts})).json()
    assert score["data"][0]["score"] < score["data"][1]["score"]


async def test_long_lists_are_split_to_what_the_server_takes(run_trillm):
    async with run_trillm({"one": Sim(server={"max_batch": 7, "max_concurrent": 3})}) as trillm:
        texts = [f"text {number} of many" for number in range(50)]
        whole = (await trillm.post("/v1/embeddings", {"model": "sim-embed", "input": texts})).json()
        last = (await trillm.post("/v1/embeddings", {"model": "sim-embed", "input": texts[-1]})).json()
        assert [entry["index"] for entry in whole["data"]] == list(range(50))
        assert whole["data"][-1]["embedding"] == last["data"][0]["embedding"]
        ask = {"model": "sim-rerank", "query": "49", "documents": texts, "top_n": 1}
        assert (await trillm.post("/v1/rerank", ask)).json()["results"][0]["index"] == 49
        assert (await trillm.settled("one", within_s=1))["finished"] == 8 + 1 + 8


async def test_a_route_may_rank_by_embeddings(run_trillm):
    routes = {"nearest": {"to": ["one/sim-embed"], "rank_by": "embeddings"}}
    async with run_trillm({"one": Sim()}, document={"routes": routes}) as trillm:
        ask = {"model": "nearest", "query": "capital of France"}
        ask["documents"] = ["Bananas are yellow.", "Paris is the capital of France."]
        answer = (await trillm.post("/v1/rerank", ask)).json()
        assert [result["index"] for result in answer["results"]] == [1, 0]
        assert "cosine" in answer["meta"]["warnings"][0]


async def test_models_are_listed_and_found_by_id(trillm):
    listed = (await trillm.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert {model["id"] for model in listed["data"]} == {"sim-chat", "sim-embed", "sim-rerank"}
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed["data"])
    for name in ("sim-chat", "one/sim-chat", "one%2Fsim-chat"):
        assert (await trillm.client.get(f"/v1/models/{name}")).json()["object"] == "model"


async def test_a_model_may_be_named_with_its_server(trillm):
    reply = await trillm.post("/v1/chat/completions", chat(model="one/sim-chat"))
    assert reply.json()["model"] == "sim-chat"


async def test_unknown_fields_reach_the_server(trillm):
    body = chat(x_sim={"tokens": 3}, top_k=40, chat_template_kwargs={"enable_thinking": False})
    assert (await trillm.post("/v1/chat/completions", body)).json()["usage"]["completion_tokens"] == 3


async def test_health_and_metrics_are_served(trillm):
    await trillm.post("/v1/chat/completions", chat())
    live = await trillm.client.get("/health/live", headers={"x-request-id": "mine-2"})
    assert (live.status_code, live.headers["x-request-id"]) == (200, "mine-2")
    ready = await trillm.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["servers_up"] == 1
    metrics = (await trillm.client.get("/metrics")).text
    assert 'trillm_requests_total{operation="chat",outcome="ok",server="one",status="200"} 1.0' in metrics


async def test_a_browser_is_told_what_this_is(trillm):
    page = await trillm.client.get("/", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "sim-chat" in page.text
    assert f"{trillm.url}/v1" in page.text
