"""The whole way with real parts: the ``openai`` package, the installed program, real llama-servers behind it."""

import asyncio
import base64
import math
import struct
import time
import zlib

import httpx
import openai
import pytest
from support.program import serving, wait_for

SENTENCE = "Hello! I am a very small model made only for tests"
MESSAGES = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def trillm(llama, tmp_path_factory):
    """A running trillm to which the servers are added while it runs."""
    with serving(tmp_path_factory.mktemp("trillm"), "--no-discover") as program:
        for role, url in llama.items():
            program.cli("server", "add", role, url)
        wait_for(lambda: len(models(program)) == len(llama), within_s=3)
        yield program


def models(program) -> set[str]:
    listed = httpx.get(f"{program.url}/v1/models", trust_env=False).json()["data"]
    return {model["id"] for model in listed if not model["id"].startswith("sim-")}


@pytest.fixture
def client(trillm):
    with openai.OpenAI(base_url=f"{trillm.url}/v1", api_key="none") as client:
        yield client


def png() -> str:
    """A 2x2 red PNG as a data URL."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\x00" + b"\xff\x00\x00" * 2 for _ in range(2)))
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(image).decode()


def test_chat(client):
    reply = client.chat.completions.create(model="tiny-chat", messages=MESSAGES, temperature=0)
    assert reply.choices[0].message.content.startswith(SENTENCE)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == 38


def test_a_stream(client):
    chunks = list(
        client.chat.completions.create(
            model="tiny-chat", messages=MESSAGES, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith(SENTENCE)
    assert chunks[-1].usage.completion_tokens == 38


def test_an_image_reaches_the_model(client):
    words = [{"type": "text", "text": "What is this?"}]
    with_image = [*words, {"type": "image_url", "image_url": {"url": png()}}]
    tokens = [
        client.chat.completions.create(
            model="tiny-vision", messages=[{"role": "user", "content": content}], temperature=0
        ).usage.prompt_tokens
        for content in (words, with_image)
    ]
    assert tokens[1] > tokens[0] + 8


def test_tools_pass_through(client):
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    reply = client.chat.completions.create(
        model="tiny-chat", messages=MESSAGES, tools=[tool], tool_choice="required", max_tokens=200
    )
    assert reply.choices[0].message.tool_calls[0].function.name == "now"


def test_embeddings_in_the_sdks_default_encoding(client):
    reply = client.embeddings.create(model="tiny-embed", input=["one", "two"])
    assert [len(entry.embedding) for entry in reply.data] == [64, 64]


def post(trillm, path, **body):
    reply = httpx.post(f"{trillm.url}{path}", json=body, trust_env=False)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_ranking(trillm):
    ask = {"model": "tiny-rerank", "query": "a", "documents": ["x", "y", "z"]}
    answer = post(trillm, "/v1/rerank", **ask)
    scores = [result["relevance_score"] for result in answer["results"]]
    assert {result["index"] for result in answer["results"]} == {0, 1, 2}
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert "logistic" in answer["meta"]["warnings"][0]
    logits = [result["relevance_score"] for result in post(trillm, "/v1/rerank", raw_scores=True, **ask)["results"]]
    assert [1 / (1 + math.exp(-logit)) for logit in logits] == pytest.approx(scores)


def test_what_is_split_comes_out_as_if_it_were_not(trillm):
    texts = [f"text number {number}" for number in range(9)]
    whole_ranking = post(trillm, "/v1/rerank", model="tiny-rerank", query="number", documents=texts)
    whole = post(trillm, "/v1/embeddings", model="tiny-embed", input=texts)
    try:
        for role in ("rerank", "embed"):
            trillm.cli("server", "edit", role, "--max-batch", "1")
        time.sleep(0.5)
        split_ranking = post(trillm, "/v1/rerank", model="tiny-rerank", query="number", documents=texts)
        split = post(trillm, "/v1/embeddings", model="tiny-embed", input=texts)
    finally:
        for role in ("rerank", "embed"):
            trillm.cli("server", "edit", role, "--clear", "max-batch")
    for one, other in zip(whole_ranking["results"], split_ranking["results"], strict=True):
        assert one["relevance_score"] == pytest.approx(other["relevance_score"], rel=1e-3)
    for one, other in zip(whole["data"], split["data"], strict=True):
        assert one["index"] == other["index"]
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-3)
    assert split_ranking["usage"] == whole_ranking["usage"]
    assert split["usage"] == whole["usage"]


def test_a_model_that_only_embeds_ranks_where_a_route_says_so(trillm):
    trillm.cli("route", "add", "nearest", "--to", "embed/tiny-embed", "--rank-by", "embeddings")
    wait_for(lambda: "nearest" in models(trillm), within_s=1)
    answer = post(trillm, "/v1/rerank", model="nearest", query="same", documents=["other", "same", "another"])
    assert answer["results"][0] == {"index": 1, "relevance_score": pytest.approx(1, abs=1e-3)}
    trillm.cli("route", "remove", "nearest")


def test_token_ids_are_embedded_by_a_server_that_takes_them(trillm):
    answer = post(trillm, "/v1/embeddings", model="tiny-embed", input=[[101, 102], [103]])
    assert [len(entry["embedding"]) for entry in answer["data"]] == [64, 64]


def test_vectors_of_another_length_are_refused_or_cut_but_never_passed_off(trillm):
    ask = {"model": "tiny-embed", "input": "one", "dimensions": 16}
    refused = httpx.post(f"{trillm.url}/v1/embeddings", json=ask, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "dimensions")
    trillm.cli("server", "edit", "embed", "--truncate-dimensions")
    time.sleep(0.5)
    vector = post(trillm, "/v1/embeddings", **ask)["data"][0]["embedding"]
    trillm.cli("server", "edit", "embed", "--no-truncate-dimensions")
    assert (len(vector), math.hypot(*vector)) == (16, pytest.approx(1))


def test_models_are_listed_and_retrieved(client):
    assert {"tiny-chat", "tiny-embed", "tiny-rerank", "tiny-vision"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("chat/tiny-chat").id == "chat/tiny-chat"


def test_errors_raise_what_the_sdk_promises(client):
    with pytest.raises(openai.NotFoundError, match="tiny-chat"):
        client.chat.completions.create(model="tiny-cat", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="tiny-chat", messages=[{"role": "user", "content": "word " * 9000}])
    with pytest.raises(openai.BadRequestError, match="tiny-embed"):
        client.chat.completions.create(model="tiny-rerank", messages=MESSAGES, extra_body={"model": "tiny-embed"})


def test_the_asynchronous_client(trillm):
    async def use() -> None:
        async with openai.AsyncOpenAI(base_url=f"{trillm.url}/v1", api_key="none") as client:
            plain = await client.chat.completions.create(model="tiny-chat", messages=MESSAGES, temperature=0)
            assert plain.choices[0].message.content.startswith(SENTENCE)
            stream = await client.chat.completions.create(
                model="tiny-chat", messages=MESSAGES, temperature=0, stream=True
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason == "stop"
            embedded = await client.embeddings.create(model="tiny-embed", input="one")
            assert len(embedded.data[0].embedding) == 64

    asyncio.run(use())  # where its users run it; under Trio it leaves generators to the garbage collector


def busy_slots(url: str) -> int:
    return sum(slot["is_processing"] for slot in httpx.get(f"{url}/slots", trust_env=False).json())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_servers_slots(trillm, llama, stream):
    """Ten times: the real server works, the client goes, the server is idle within 1.5 s."""
    # Eight choices of thousands of tokens: it would go on for far longer than the test looks.
    endless = {"n": 8, "max_tokens": 8000, "ignore_eos": True}
    body = {"model": "tiny-chat", "messages": MESSAGES, "stream": stream, **endless}
    for _ in range(10):
        client = httpx.Client(base_url=trillm.url, trust_env=False, timeout=0.3)
        with client, pytest.raises(httpx.ReadTimeout):
            read_for_a_moment(client, body)
        assert stream or busy_slots(llama["chat"]) == 8  # a stream may be over already
        # One look: each question about its slots makes llama-server put off, by a second, its look at the connection.
        time.sleep(1.4)
        assert busy_slots(llama["chat"]) == 0


def read_for_a_moment(client: httpx.Client, body) -> None:
    """Leave in the middle, whether bytes come or not."""
    headers = {"x-trillm-budget": "60"}
    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        for count, _ in enumerate(reply.iter_raw()):
            if count == 20:
                raise httpx.ReadTimeout("enough")


def test_a_server_that_is_removed_is_gone_within_a_second(trillm, llama):
    trillm.cli("server", "add", "again", llama["chat"], "--model", "again-model")
    wait_for(lambda: "again-model" in models(trillm), within_s=1)
    trillm.cli("server", "remove", "again")
    wait_for(lambda: "again-model" not in models(trillm), within_s=1)
