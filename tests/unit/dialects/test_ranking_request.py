"""Ranking requests of every dialect are read as one thing; what is wrong is refused with its place."""

import contextlib
import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.members import read_members
from trillm.dialects.ranking.request import MAX_DOCUMENTS, read_ranking
from trillm.dialects.ranking.values import Dialect
from trillm.errors import BadRequest

COHERE, VOYAGE, TEI, SCORE = Dialect.COHERE, Dialect.VOYAGE, Dialect.TEI, Dialect.SCORE
ASK = {"model": "m", "query": "q", "documents": ["a", "b"]}


def ranking_of(body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_ranking(read_members(raw))


def read(**members):
    return ranking_of(ASK | members)


def question(**members):
    (one,) = read(**members).questions
    return one


def refused(body) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        ranking_of(body)
    return caught.value


# Each as that dialect's own client sends it.
DIALECTS = {
    "cohere v1": ({**ASK, "top_n": 1, "return_documents": True, "max_chunks_per_doc": 5}, COHERE, 1, True),
    "cohere v2": ({**ASK, "top_n": 1, "max_tokens_per_doc": None}, COHERE, 1, False),
    "jina": ({**ASK, "documents": [{"text": "a"}, "b"], "return_documents": True}, COHERE, None, True),
    "voyage": ({**ASK, "top_k": 2, "truncation": True, "return_documents": False}, VOYAGE, 2, False),
    "voyage, all": ({**ASK, "top_k": None, "truncation": True}, VOYAGE, None, False),
    "cohere with truncation": ({**ASK, "top_n": 2, "truncation": True}, COHERE, 2, False),
    "vllm": ({**ASK, "top_n": 0, "truncate_prompt_tokens": 9}, COHERE, None, False),
    "llama.cpp": ({"query": "q", "documents": ["a", "b"]}, COHERE, None, False),
    "tei": ({"query": "q", "texts": ["a", "b"], "return_text": True}, TEI, None, True),
    "litellm, huggingface/": ({"query": "q", "texts": ["a", "b"], "top_n": 1, "return_text": True}, TEI, 1, True),
    "both documents and texts": ({**ASK, "texts": ["c"]}, COHERE, None, False),
    "infinity": ({**ASK, "raw_scores": False, "top_n": 3}, COHERE, 3, False),
    "vllm's score": ({"queries": "q", "documents": ["a", "b"]}, SCORE, None, False),
    "vllm's older score": ({"text_1": "q", "text_2": ["a", "b"]}, SCORE, None, False),
}


@pytest.mark.parametrize(("body", "dialect", "top_n", "wants_documents"), DIALECTS.values(), ids=DIALECTS)
def test_every_dialect_is_told_apart(body, dialect, top_n, wants_documents):
    ranking = ranking_of(body)
    assert (ranking.dialect, ranking.top_n, ranking.wants_documents) == (dialect, top_n, wants_documents)
    (one,) = ranking.questions
    assert (one.query, list(one.documents), list(one.places)) == ("q", ["a", "b"], [0, 1])


@pytest.mark.parametrize("asked", [{}, {"queries": "q", "documents": ["a", "b"]}], ids=["ranking", "scores"])
def test_a_server_gets_the_settings_that_are_its_own_and_none_that_are_ours(asked):
    ours = {"top_n": 1, "top_k": 1, "return_documents": True, "return_text": True, "rank_fields": [], "stream": False}
    options = question(**asked, **ours, raw_scores=True, max_chunks_per_doc=3, instruction="x", priority=None).options
    assert {name: msgspec.json.decode(value) for name, value in options.items()} == {"instruction": "x"}


@pytest.mark.parametrize(
    ("members", "raw"),
    [
        ({}, False),
        ({"raw_scores": True}, True),
        ({"raw_scores": False}, False),
        ({"use_activation": False}, True),
        ({"use_activation": True}, False),
    ],
)
def test_raw_scores_are_asked_for_by_two_names(members, raw):
    assert question(**members).raw is raw


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("a", "a"),
        ("", ""),
        ({"text": "a", "title": "A"}, "a"),
        ({"content": "a"}, "a"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
    ],
)
def test_a_document_is_a_text_in_whichever_form(document, text):
    one = question(documents=[document])
    assert list(one.documents) == [text]
    assert not one.has_media


def test_named_fields_are_joined_in_the_order_of_their_names():
    document = {"body": 'b"\u00e9', "title": "T", "year": 1999, "tags": ["x", 1], "other": "no"}
    (text,) = question(documents=[document], rank_fields=["title", "body", "year", "tags", "none"]).documents
    assert text == 'title: T\nbody: b"\u00e9\nyear: 1999\ntags: ["x", 1]'


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"image": "https://x.example/a.png"}, {"url": "https://x.example/a.png"}),
        ({"content": [{"type": "image_url", "image_url": {"url": "u"}}]}, {"url": "u"}),
    ],
)
def test_media_stay_what_they_are_in_vllms_form(document, part):
    one = question(documents=["a", document])
    assert one.has_media
    assert msgspec.json.decode(one.documents[1]) == {"content": [{"type": "image_url", "image_url": part}]}


def test_vllms_single_object_has_a_document_in_each_part():
    one = question(documents={"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "u"}]})
    assert one.documents[0] == "a"
    assert msgspec.json.decode(one.documents[1]) == {"content": [{"type": "image_url", "image_url": "u"}]}


def test_a_single_document_need_not_be_in_a_list():
    assert list(question(documents="a").documents) == ["a"]


def test_a_query_may_be_an_object_too():
    assert question(query={"text": "q"}).query == "q"
    assert question(query={"content": [{"type": "image_url", "image_url": "u"}]}).has_media


def test_pairs_with_the_same_query_are_one_question():
    ranking = ranking_of({"queries": ["p", "q", "p"], "documents": ["a", "b", "c"]})
    asked = [(one.query, list(one.documents), list(one.places)) for one in ranking.questions]
    assert asked == [("p", ["a", "c"], [0, 2]), ("q", ["b"], [1])]


def test_a_question_is_split_in_order():
    parts = list(question(documents=["a", "b", "c", "d", "e"]).split(2))
    assert [(list(part.documents), list(part.places)) for part in parts] == [
        (["a", "b"], [0, 1]),
        (["c", "d"], [2, 3]),
        (["e"], [4]),
    ]
    assert len(list(question().split(None))) == len(list(question().split(2))) == 1


BAD = {
    "no object": (b"[]", None, "not a JSON object"),
    "no query": ({"documents": ["a"]}, "query", "Missing required parameter: 'query'"),
    "query null": (ASK | {"query": None}, "query", "Missing required parameter: 'query'"),
    "query a number": (ASK | {"query": 1}, "query", "'query' must be a string"),
    "query an empty object": (ASK | {"query": {}}, "query", "'query' has no 'text'"),
    "no documents": ({"query": "q"}, "documents", "Missing required parameter: 'documents'"),
    "documents null": (ASK | {"documents": None}, "documents", "Missing required parameter: 'documents'"),
    "documents empty": (ASK | {"documents": []}, "documents", "at least one document"),
    "texts empty": ({"query": "q", "texts": []}, "texts", "at least one document"),
    "a text without text": ({"query": "q", "texts": ["a", {}]}, "texts[1]", "'texts[1]' has no 'text'"),
    "documents a number": (ASK | {"documents": 7}, "documents", "at least one document"),
    "documents an object": (ASK | {"documents": {}}, "documents", "at least one document"),
    "a document a number": (ASK | {"documents": ["a", 7]}, "documents", "(at documents[1])"),
    "a document null": (ASK | {"documents": [None]}, "documents", "(at documents[0])"),
    "a document without text": (ASK | {"documents": ["a", {"title": "t"}]}, "documents[1]", "'rank_fields'"),
    "its text a number": (ASK | {"documents": [{"text": 1}]}, "documents[0].text", "must be a string"),
    "no content": (ASK | {"documents": [{"content": []}]}, "documents[0].content", "at least one part"),
    "content a number": (ASK | {"documents": [{"content": 1}]}, "documents[0].content", "array of parts"),
    "image a number": (ASK | {"documents": [{"image": 1}]}, "documents[0].image", "must be a string"),
    "fields that are not there": (ASK | {"documents": [{"a": 1}], "rank_fields": ["b"]}, "documents[0]", "none of"),
    "rank_fields a string": (ASK | {"rank_fields": "a"}, "rank_fields", "array of names"),
    "top_n negative": (ASK | {"top_n": -1}, "top_n", "whole number from 0"),
    "top_n a fraction": (ASK | {"top_n": 1.5}, "top_n", "whole number from 0"),
    "top_n true": (ASK | {"top_n": True}, "top_n", "whole number from 0"),
    "top_k a string": (ASK | {"top_k": "3"}, "top_k", "whole number from 0"),
    "return_documents a string": (ASK | {"return_documents": "yes"}, "return_documents", "true or false"),
    "raw_scores a number": (ASK | {"raw_scores": 1}, "raw_scores", "true or false"),
    "pairs that do not match": ({"queries": ["a", "b"], "documents": ["a", "b", "c"]}, "queries", "2 texts"),
    "nothing to score": ({"text_1": "a"}, "documents", "Missing required parameter"),
    "too many": (ASK | {"documents": ["a"] * (MAX_DOCUMENTS + 1)}, None, "10001 documents"),
}


@pytest.mark.parametrize(("body", "param", "words"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_with_the_reason(body, param, words):
    error = refused(body)
    assert words in error.message
    assert (error.status, error.param) == (400, param)


def test_millions_of_documents_do_not_become_objects():
    body = b'{"query":"q","documents":[' + b"{}," * 3_000_000 + b"{}]}"
    tracemalloc.start()
    assert "too many pieces" in refused(body).message
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(body)


names = st.sampled_from([
    "query", "documents", "texts", "top_n", "top_k", "truncation", "return_documents", "rank_fields", "queries",
    "text_1", "text_2", "raw_scores", "content", "text", "image", "type", "model",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(names, values) | st.dictionaries(names, values).map(lambda more: ASK | more))
def test_anything_is_read_or_refused(body):
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        ranking = ranking_of(raw)
    except BadRequest as caught:
        refusal = caught
    else:
        refusal = None
    if refusal is not None:
        assert 0 < len(refusal.message) < 1000
        return
    assert sorted(place for one in ranking.questions for place in one.places) == list(range(len(ranking.texts)))


@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    with contextlib.suppress(BadRequest):
        ranking_of(body)
