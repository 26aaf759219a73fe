"""The simulator's API: what each path answers, and how it says no."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.sim.endpoints import MODELS, Voice, respond

VOICE = Voice(tokens=24, seed=0)
CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]}
POSTS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "sim-chat", "prompt": "hi"},
    "/v1/embeddings": {"model": "sim-embed", "input": "hi"},
    "/v1/rerank": {"model": "sim-rerank", "query": "hi", "documents": ["hi"]},
    "/v2/rerank": {"model": "sim-rerank", "query": "hi", "documents": ["hi"]},
    "/rerank": {"query": "hi", "documents": ["hi"]},
}


def post(path, body):
    return respond(b"POST", path.encode(), body if isinstance(body, bytes) else msgspec.json.encode(body), VOICE)


def get(path):
    return respond(b"GET", path.encode(), b"", VOICE)


def error(answer):
    error = msgspec.json.decode(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(("path", "body"), POSTS.items())
def test_every_operation_answers_and_can_be_directed(path, body):
    answer = post(path, {**body, "x_sim": {"fault": "cut", "ttft_s": 0.5}})
    assert answer.status == 200
    assert (answer.direction.fault, answer.direction.ttft_s) == ("cut", 0.5)
    assert post(path, body).direction is not None


def test_there_are_three_models_that_say_what_they_can_do():
    models = msgspec.json.decode(get("/v1/models").body)
    assert models["object"] == "list"
    assert {model["id"]: model["capabilities"] for model in models["data"]} == {
        "sim-chat": ["chat", "vision", "tools"],
        "sim-embed": ["embeddings"],
        "sim-rerank": ["rerank"],
    }
    assert {model["owned_by"] for model in models["data"]} == {"trillm"}


@pytest.mark.parametrize("name", MODELS)
def test_each_model_can_be_looked_up(name):
    assert msgspec.json.decode(get(f"/v1/models/{name}").body)["id"] == name


def test_a_model_that_is_not_there_is_not_found():
    answer = get("/v1/models/org%2Fname")
    assert answer.status == 404
    assert error(answer)["code"] == "model_not_found"
    assert "'org/name'" in error(answer)["message"]


def test_what_it_is_and_how_it_is():
    assert b"trillm simulator" in get("/").body
    assert get("/health").body == b'{"status":"ok"}'
    assert get("/health").direction is None


@pytest.mark.parametrize(("path", "members", "status", "words"), [
    ("/v1/chat/completions", {"model": "gpt-9"}, 404, "no model 'gpt-9' here; there are sim-chat, sim-embed, sim-r"),
    ("/v1/chat/completions", {"model": "sim-embed"}, 400, "does not do chat"),
    ("/v1/chat/completions", {"messages": []}, 400, "length >= 1 - at `$.messages`"),
    ("/v1/chat/completions", {"messages": "hi"}, 400, "Expected `array`, got `str` - at `$.messages`"),
    ("/v1/chat/completions", {"messages": [{"content": "x"}]}, 400, "missing required field `role`"),
    ("/v1/chat/completions", {"max_tokens": 0}, 400, "$.max_tokens"),
    ("/v1/chat/completions", {"n": 1000}, 400, "$.n"),
    ("/v1/chat/completions", {"x_sim": {"fault": "kaput"}}, 400, "$.x_sim.fault"),
    ("/v1/chat/completions", {"x_sim": {"ttft_s": -1}}, 400, "$.x_sim.ttft_s"),
    ("/v1/completions", {"prompt": [1, 2]}, 400, "token ids"),
    ("/v1/completions", {"model": "sim-rerank"}, 400, "does not do chat"),
    ("/v1/embeddings", {"model": "sim-chat"}, 400, "does not do embeddings"),
    ("/v1/embeddings", {"input": [[1]]}, 400, "token ids"),
    ("/v1/embeddings", {"encoding_format": "hex"}, 400, "encoding_format"),
    ("/v1/embeddings", {"dimensions": 0}, 400, "dimensions"),
    ("/v1/rerank", {"model": "sim-chat"}, 400, "does not do rerank"),
    ("/v1/rerank", {"documents": []}, 400, "$.documents"),
    ("/v1/rerank", {"documents": [1]}, 400, "$.documents[0]"),
    ("/v1/rerank", {"top_n": 0}, 400, "$.top_n"),
])  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(path, members, status, words):
    answer = post(path, {**POSTS[path], **members})
    assert answer.status == status
    assert words in error(answer)["message"]
    assert answer.direction is None


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"nope", b'{"model": "\xff"}', b'{"x":' + b"[" * 100_000, b"\xef\xbb\xbf{}"]
)
def test_a_body_that_is_no_json_object_is_a_bad_request(path, body):
    answer = post(path, body)
    assert answer.status == 400
    assert error(answer)["type"] == "invalid_request_error"


def test_a_request_must_name_its_model():
    answer = post("/v1/chat/completions", {"messages": CHAT["messages"]})
    assert error(answer)["message"] == "Object missing required field `model`."


@pytest.mark.parametrize(("method", "path", "status"), [
    (b"GET", b"/v1/chat/completions", 405), (b"DELETE", b"/v1/models", 405), (b"POST", b"/health", 405),
    (b"POST", b"/v1/models/x", 405), (b"GET", b"/v1/chat", 404), (b"POST", b"/v1/chat/completions/", 404),
    (b"GET", b"/\xff", 404), (b"OPTIONS", b"*", 404),
])  # fmt: skip
def test_a_wrong_method_or_path_is_told_apart(method, path, status):
    answer = respond(method, path, b"", VOICE)
    assert answer.status == status
    assert error(answer)["message"]


@given(st.sampled_from(sorted(POSTS)), st.binary(max_size=80))
def test_no_body_whatsoever_is_more_than_a_bad_request(path, body):
    assert post(path, body).status in {400, 404}
