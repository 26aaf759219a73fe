"""Embeddings and ranking, in the shapes that clients expect."""

import base64
import struct

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from trillm.errors import BadRequest
from trillm.lexical import embed
from trillm.sim.retrieval import EmbeddingsRequest, RerankRequest, answer_embeddings, answer_rerank


def embeddings(text, **members):
    request = msgspec.convert({"model": "sim-embed", "input": text, **members}, EmbeddingsRequest)
    return CreateEmbeddingResponse.model_validate_json(answer_embeddings(request).body)


def rerank(query, documents, **members):
    request = msgspec.convert({"query": query, "documents": documents, **members}, RerankRequest)
    return msgspec.json.decode(answer_rerank(request).body)


def test_one_text_has_one_vector():
    reply = embeddings("hello world")
    assert reply.object == "list"
    assert reply.data[0].embedding == pytest.approx(embed("hello world"), abs=1e-6)
    assert len(reply.data[0].embedding) == 256
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (2, 2)


def test_several_texts_keep_their_order():
    reply = embeddings(["a", "b", "a"], dimensions=16)
    assert [item.index for item in reply.data] == [0, 1, 2]
    assert reply.data[0].embedding == reply.data[2].embedding != reply.data[1].embedding
    assert len(reply.data[0].embedding) == 16


def test_base64_is_little_endian_float32():
    request = msgspec.convert({"model": "m", "input": "hi", "encoding_format": "base64"}, EmbeddingsRequest)
    coded = msgspec.json.decode(answer_embeddings(request).body)["data"][0]["embedding"]
    assert struct.unpack("<256f", base64.b64decode(coded)) == pytest.approx(embed("hi"), abs=1e-6)


@pytest.mark.parametrize(("text", "problem"), [
    ([1, 2], "token ids"), ([[1, 2]], "token ids"), (["a", 1], "token ids"), ([], "must not be empty"),
])  # fmt: skip
def test_what_is_no_text_is_refused_in_words(text, problem):
    with pytest.raises(BadRequest, match=problem) as caught:
        embeddings(text)
    assert caught.value.param == "input"


def test_documents_come_back_best_first():
    reply = rerank("red apple", ["blue sky", {"text": "a red apple"}, "an apple"])
    assert [result["index"] for result in reply["results"]] == [1, 2, 0]
    assert all("document" not in result for result in reply["results"])
    assert all(0 <= result["relevance_score"] <= 1 for result in reply["results"])
    assert reply["model"] == "sim-rerank"
    assert reply["meta"]["billed_units"] == {"search_units": 1}
    assert reply["usage"] == {"prompt_tokens": 9, "total_tokens": 9}


def test_documents_are_returned_to_those_who_ask():
    reply = rerank("b", ["a", {"text": "b"}], return_documents=True)
    assert [result["document"] for result in reply["results"]] == [{"text": "b"}, {"text": "a"}]


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (2, 2), (99, 3), (None, 3)])
def test_no_more_documents_than_asked_for(top_n, count):
    assert len(rerank("a", ["a", "b", "c"], top_n=top_n)["results"]) == count
