"""TEI's ranking: Cohere's and Jina's shape in, its own shape to the server, theirs out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.backends import KINDS
from trillm.errors import BadRequest, UpstreamFailed
from trillm.models import Operation

TEI, RERANK = KINDS["tei"], Operation.RERANK
ASK = {"model": "bge", "query": "q", "documents": ["a", {"text": "b", "title": "B"}, "c"]}
SCORES = [{"index": 2, "score": 0.9}, {"index": 0, "score": 0.5}, {"index": 1, "score": 0.1}]


def translated(**more) -> dict:
    return json.loads(TEI.request_body(RERANK, json.dumps(ASK | more).encode(), "bge"))


def answered(scores=SCORES, headers=(), **more) -> dict:
    body = json.dumps(scores).encode()
    return json.loads(TEI.reply_body(RERANK, json.dumps(ASK | more).encode(), body, headers))


def test_documents_become_texts():
    assert translated() == {"query": "q", "texts": ["a", "b", "c"]}


def test_what_it_has_no_use_for_is_left_out_and_its_own_options_pass():
    assert translated(top_n=1, return_documents=True, raw_scores=True, truncate=True) == {
        "query": "q",
        "texts": ["a", "b", "c"],
        "raw_scores": True,
        "truncate": True,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"query":"q"}',
        b'{"documents":["a"]}',
        b'{"query":1,"documents":["a"]}',
        b'{"query":"q","documents":[1]}',
        b'{"query":"q","documents":[{"image":"x"}]}',
        b'{"query":"q","documents":["a"],"top_n":-1}',
        b'{"query":"\xff","documents":["a"]}',
    ],
)
def test_what_is_no_ranking_request_is_the_callers_mistake(body):
    with pytest.raises(BadRequest):
        TEI.request_body(RERANK, body, "bge")


def test_scores_become_results():
    assert answered() == {
        "object": "list",
        "model": "bge",
        "results": [
            {"index": 2, "relevance_score": 0.9},
            {"index": 0, "relevance_score": 0.5},
            {"index": 1, "relevance_score": 0.1},
        ],
    }


def test_best_first_and_equal_ones_as_they_were_sent():
    scores = [{"index": i, "score": s} for i, s in ((2, 0.5), (0, 0.1), (1, 0.5))]
    assert [result["index"] for result in answered(scores)["results"]] == [1, 2, 0]


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (2, 2), (9, 3), (None, 3), (0, 3)])
def test_top_n_is_applied_here(top_n, count):
    assert len(answered(top_n=top_n)["results"]) == count


def test_documents_come_back_if_they_were_asked_for():
    results = answered(return_documents=True)["results"]
    assert [result["document"] for result in results] == [{"text": "c"}, {"text": "a"}, {"text": "b"}]


def test_tokens_are_read_from_the_headers():
    assert answered(headers=[(b"x-compute-tokens", b"17")])["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    assert "usage" not in answered(headers=[(b"x-compute-tokens", b"many")])


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"index":0}]', b'{"results":[]}', b'[{"index":7,"score":1}]'])
def test_an_answer_that_is_no_ranking_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed):
        TEI.reply_body(RERANK, json.dumps(ASK | {"return_documents": True}).encode(), body)


@pytest.mark.parametrize("operation", [Operation.EMBEDDINGS, Operation.CHAT])
def test_everything_else_passes_untouched(operation):
    body = b'{"input": "a"}'
    assert TEI.request_body(operation, body, "bge") is body
    assert TEI.reply_body(operation, body, body) is body


@given(st.binary())
def test_no_bytes_are_too_strange(body):
    with pytest.raises((BadRequest, UpstreamFailed)):
        TEI.reply_body(RERANK, json.dumps(ASK).encode(), TEI.request_body(RERANK, body, "bge"))
