"""Embeddings: untouched where the server takes them as they are; else in its forms, and back in the caller's."""

import json

import pytest
from support.gateways import JSON, a_call, a_rig, answers
from support.pools import a_server
from support.retrievers import as_base64, asked, by_path, embeds, embeds_floats, path, vector
from support.servers import ok

from trillm.gateway.journey import Outcome
from trillm.models import Operation

TEXTS = ["east", "north", "west", "between", "east"]


def embedding(**members):
    return a_call(Operation.EMBEDDINGS, **{"input": TEXTS} | members)


def one(nursery, *steps, **settings):
    return a_rig(nursery, a_server("one", **settings), scripts={"one": [[steps] * 20]})


def answer(reply):
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def vectors(reply):
    return [entry["embedding"] for entry in answer(reply)["data"]]


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("openai", {"encoding_format": "base64", "dimensions": 2}),
        ("vllm", {"input": [1, 2, 3]}),
        ("llamacpp", {"input": [[1], [2]], "encoding_format": "base64"}),
        ("tei", {"input": "a", "dimensions": 2}),
        ("infinity", {"encoding_format": "base64", "dimensions": 2}),
        ("ollama", {"encoding_format": "base64"}),
    ],
)
async def test_what_a_server_takes_as_it_is_passes_byte_for_byte(kind, members, autojump_clock, nursery):
    said = b'{ "data" : [ ],  "x": 1.0 }'
    rig = one(nursery, ok(said, JSON), kind=kind)
    call = embedding(**members)
    assert (await rig.ask(call)).body == said
    (request,) = rig.servers["one"].requests
    assert request.endswith(b"\r\n\r\n" + call.body)


@pytest.mark.parametrize("max_batch", [1, 2, 4])
async def test_a_long_list_is_split_and_put_together_in_order(max_batch, autojump_clock, nursery):
    rig = one(nursery, embeds, max_batch=max_batch)
    told = answer(await rig.ask(embedding(user="u")))
    assert [entry["index"] for entry in told["data"]] == [0, 1, 2, 3, 4]
    assert [entry["embedding"] for entry in told["data"]] == list(map(vector, TEXTS))
    assert told["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert (told["object"], told["model"], rig.journey.usage.prompt_tokens) == ("list", "m", 5)
    assert all(asked(request)["user"] == "u" for request in rig.servers["one"].requests)
    assert len(rig.servers["one"].requests) == -(-5 // max_batch)


async def test_a_list_that_fits_is_not_touched(autojump_clock, nursery):
    rig = one(nursery, embeds, max_batch=5)
    call = embedding()
    answer(await rig.ask(call))
    assert rig.servers["one"].requests[0].endswith(call.body)


async def test_base64_is_made_here_where_the_server_knows_only_floats(autojump_clock, nursery):
    rig = one(nursery, embeds_floats, kind="lmstudio")
    assert vectors(await rig.ask(embedding(encoding_format="base64"))) == [as_base64(vector(text)) for text in TEXTS]


async def test_vectors_are_cut_where_the_operator_says_so(autojump_clock, nursery):
    rig = one(nursery, embeds, truncate_dimensions=True)
    assert vectors(await rig.ask(embedding(dimensions=1, input=["between", "west"]))) == [[1.0], [-1.0]]
    assert "dimensions" not in asked(rig.servers["one"].requests[0])


async def test_vectors_of_another_length_than_was_asked_for_are_not_passed_off_as_such(autojump_clock, nursery):
    rig = one(nursery, embeds, kind="llamacpp")
    reply = await rig.ask(embedding(dimensions=1))
    assert (reply.status, reply.error()["param"]) == (400, "dimensions")
    assert "--truncate-dimensions" in reply.error()["message"]
    assert vectors(await rig.ask(embedding(dimensions=2))) == list(map(vector, TEXTS))


# ── token ids ───────────────────────────────────────────────────────────────────────────────────────────────────

IDS = [[101, 102], [103]]
REFUSED = answers(400, b'{"error": {"message": "input must be a string"}}')


@pytest.mark.parametrize("kind", ["ollama", "infinity", "lmstudio"])
async def test_token_ids_are_refused_with_advice_where_only_texts_are_embedded(kind, autojump_clock, nursery):
    rig = one(nursery, embeds, kind=kind)
    reply = await rig.ask(embedding(input=IDS))
    assert (reply.status, reply.error()["param"]) == (400, "input")
    assert "check_embedding_ctx_length=False" in reply.error()["message"]
    assert rig.servers["one"].requests == []
    assert rig.journey.outcome is Outcome.REFUSED


def speaks(request: bytes) -> bytes:
    """What vLLM and llama.cpp say that ids stand for; here, a word for each list."""
    text = {101: "east", 103: "north"}[asked(request)["tokens"][0]]
    return answers(200, json.dumps({"prompt": text}).encode())


def embeds_texts_only(request: bytes) -> bytes:
    given = asked(request)["input"]
    return embeds(request) if all(isinstance(each, str) for each in given) else REFUSED


@pytest.mark.parametrize("max_batch", [None, 1])
async def test_a_server_that_refuses_ids_is_asked_what_they_stand_for(max_batch, autojump_clock, nursery):
    rig = one(nursery, by_path(embeddings=embeds_texts_only, detokenize=speaks), max_batch=max_batch)
    assert vectors(await rig.ask(embedding(input=IDS))) == [vector("east"), vector("north")]
    paths = [path(request) for request in rig.servers["one"].requests]
    assert paths.count("/v1/detokenize") == 2  # of any OpenAI-compatible server everything hangs under its base


async def test_if_it_cannot_tell_that_is_said_with_what_it_said(autojump_clock, nursery):
    for silent in (answers(404), answers(405), answers(200, b"{}"), answers(200, b"<html>"), answers(501)):
        rig = one(nursery, by_path(embeddings=REFUSED, detokenize=silent))
        reply = await rig.ask(embedding(input=IDS))
        assert (reply.status, reply.error()["param"]) == (400, "input")
        assert "input must be a string" in reply.error()["message"]
        assert await rig.left() == {}


async def test_a_refusal_for_another_reason_is_passed_on(autojump_clock, nursery):
    rig = one(nursery, answers(404, b'{"error": {"message": "no such model"}}'))
    reply = await rig.ask(embedding(input=IDS))
    assert (reply.status, reply.error()["message"]) == (404, "no such model")
    assert len(rig.servers["one"].requests) == 1


async def test_a_refusal_of_texts_is_the_servers_own(autojump_clock, nursery):
    rig = one(nursery, REFUSED)
    reply = await rig.ask(embedding())
    assert (reply.status, reply.error()["message"]) == (400, "input must be a string")
    assert len(rig.servers["one"].requests) == 1


async def test_what_makes_no_sense_is_one_clean_502(autojump_clock, nursery):
    for nonsense in (b"<html>", b"", b"{}", b'{"data": []}', b'{"data": [{"embedding": [1]}]}'):
        rig = one(nursery, answers(200, nonsense), max_batch=2)
        reply = await rig.ask(embedding())
        assert (reply.status, reply.error()["code"]) == (502, "upstream_failed")
        assert await rig.left() == {}
