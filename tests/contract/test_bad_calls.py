"""What a client gets that does something wrong: a 4xx in the envelope that says what; its connection lives."""

import json

import pytest
from support.running import chat

GOOD = json.dumps(chat()).encode()

BODIES = {
    "empty": (b"", 400, "empty"),
    "truncated": (GOOD[:-5], 400, "not valid JSON"),
    "no JSON": (b"hello", 400, "not valid JSON"),
    "an array": (b"[]", 400, "JSON object"),
    "a string": (b'"hi"', 400, "JSON object"),
    "not UTF-8": (GOOD.replace(b"Hello", b"\xff\xfe"), 400, "UTF-8"),
    "no model": (b'{"messages": []}', 400, "'model'"),
    "model null": (b'{"model": null, "messages": []}', 400, "'model'"),
    "model a number": (b'{"model": 7, "messages": []}', 400, "'model'"),
    "model empty": (b'{"model": " ", "messages": []}', 400, "'model'"),
    "no messages": (b'{"model": "sim-chat"}', 400, "'messages'"),
    "messages a string": (b'{"model": "sim-chat", "messages": "hi"}', 400, "'messages'"),
    "stream a string": (b'{"model": "sim-chat", "messages": [], "stream": "yes"}', 400, "'stream'"),
    "unknown model": (b'{"model": "sim-chta", "messages": []}', 404, "'sim-chat'"),
    "a model that cannot": (b'{"model": "sim-embed", "messages": []}', 400, "sim-chat"),
}


def assert_envelope(reply, status):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    error = reply.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    return error


@pytest.mark.parametrize(("body", "status", "words"), BODIES.values(), ids=BODIES)
async def test_a_bad_body_is_refused_with_the_reason(trillm, body, status, words):
    reply = await trillm.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert words in assert_envelope(reply, status)["message"]
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"model": "sim-embed"}, "input"),
        ("/v1/embeddings", {"model": "sim-embed", "input": 5}, "input"),
        ("/v1/rerank", {"model": "sim-rerank", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"model": "sim-rerank", "query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"model": "sim-rerank", "query": "a"}, "documents"),
        ("/v1/completions", {"model": "sim-chat"}, "prompt"),
    ],
)
async def test_each_operation_names_the_member_that_is_wrong(trillm, path, body, param):
    reply = await trillm.post(path, body)
    assert assert_envelope(reply, 400)["param"] == param


async def test_an_unknown_path_is_404_and_a_wrong_method_405(trillm):
    assert_envelope(await trillm.client.get("/v1/nonsense"), 404)
    assert "POST" in assert_envelope(await trillm.client.get("/v1/chat/completions"), 405)["message"]
    assert_envelope(await trillm.client.post("/v1/models"), 405)
    assert_envelope(await trillm.client.get("/v1/models/nobody"), 404)


async def test_a_wrong_content_type_is_refused(trillm):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = await trillm.client.post("/v1/chat/completions", content=GOOD, headers={"content-type": kind})
        assert kind in assert_envelope(reply, 415)["message"]


async def test_a_bad_budget_header_is_refused(trillm):
    for value in ("soon", "0", "-1", "nan", "inf"):
        reply = await trillm.post("/v1/chat/completions", chat(), x_trillm_budget=value)
        assert assert_envelope(reply, 400)["param"] == "x-trillm-budget"


async def test_the_servers_own_refusal_is_passed_on(trillm):
    reply = await trillm.post("/v1/embeddings", {"model": "sim-embed", "input": [[1, 2, 3]]})
    assert assert_envelope(reply, 400)["message"]


async def test_after_a_refusal_the_connection_still_works(trillm):
    for _ in range(3):
        await trillm.client.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert (await trillm.post("/v1/chat/completions", chat())).status_code == 200


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking", "/score"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"query": "q"}', b'{"query": 1, "documents": ["a"]}'])
async def test_ranking_clients_find_the_message_at_the_top_too(trillm, path, body):
    reply = await trillm.client.post(path, content=body, headers={"content-type": "application/json"})
    assert assert_envelope(reply, 400)["message"] == reply.json()["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"query": "q", "texts": []}', 400),
        (b'{"query": "q", "texts": [', 400),
        (b'{"query": "q", "texts": ["a"], "model": "nobody"}', 404),
    ],
)
async def test_teis_callers_get_teis_errors(trillm, body, status):
    reply = await trillm.client.post("/rerank", content=body, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["error_type"]) == (status, "Validation")
    assert isinstance(reply.json()["error"], str)
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("given", ["", [], ["a"] * 2049, [1, 2, 3], [[1], [2]]])
async def test_what_cannot_be_embedded_is_refused_by_name(trillm, given):
    reply = await trillm.post("/v1/embeddings", {"model": "sim-embed", "input": given})
    assert assert_envelope(reply, 400)["param"] == "input"
