"""What came of a ranking is told in the caller's dialect."""

import json

import pytest

from trillm.dialects.members import read_members
from trillm.dialects.ranking.errors import envelope
from trillm.dialects.ranking.reply import write_ranking
from trillm.dialects.ranking.request import read_ranking
from trillm.dialects.ranking.values import Ranked
from trillm.errors import BadRequest, Overloaded, UpstreamFailed

DOCUMENTS = ["a", {"text": "b", "title": "B"}, "c"]
RANKED = Ranked([0.2, 0.9, 0.5], [1, 2, 0], "bge", 7)
USAGE = {"prompt_tokens": 7, "total_tokens": 7}


def answer(ranked=RANKED, **members):
    body = json.dumps({"query": "q", **members}).encode()
    return json.loads(write_ranking(read_ranking(read_members(body)), ranked, ident="req_1", created=9))


def test_one_body_is_good_for_coheres_jinas_vllms_llamacpps_and_infinitys_clients():
    assert answer(documents=DOCUMENTS) == {
        "id": "req_1",
        "object": "list",
        "model": "bge",
        "results": [
            {"index": 1, "relevance_score": 0.9},
            {"index": 2, "relevance_score": 0.5},
            {"index": 0, "relevance_score": 0.2},
        ],
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 7},
        },
        "usage": USAGE,
    }


@pytest.mark.parametrize(
    ("top_n", "places"), [(1, [1]), (2, [1, 2]), (9, [1, 2, 0]), (0, [1, 2, 0]), (None, [1, 2, 0])]
)
def test_top_n_is_clamped(top_n, places):
    assert [result["index"] for result in answer(documents=DOCUMENTS, top_n=top_n)["results"]] == places


def test_documents_come_back_as_they_were_if_they_are_wanted():
    results = answer(documents=DOCUMENTS, return_documents=True)["results"]
    assert [result["document"] for result in results] == [DOCUMENTS[1], {"text": "c"}, {"text": "a"}]


def test_voyages_clients_find_data_and_bare_texts():
    told = answer(documents=DOCUMENTS, top_k=2, return_documents=True)
    assert told["data"] == told["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": "b"},
        {"index": 2, "relevance_score": 0.5, "document": "c"},
    ]  # fmt: skip
    assert told["object"] == "list"
    assert told["usage"] == USAGE


def test_tei_callers_get_a_bare_array():
    assert answer(texts=["a", "b", "c"]) == [
        {"index": 1, "score": 0.9},
        {"index": 2, "score": 0.5},
        {"index": 0, "score": 0.2},
    ]
    assert answer(texts=["a", "b", "c"], return_text=True, top_n=1) == [{"index": 1, "score": 0.9, "text": "b"}]


def test_a_score_has_every_score_in_the_order_of_the_request():
    assert answer(text_1="q", text_2=["a", "b", "c"]) == {
        "id": "req_1",
        "object": "list",
        "created": 9,
        "model": "bge",
        "data": [{"index": i, "object": "score", "score": score} for i, score in enumerate((0.2, 0.9, 0.5))],
        "usage": USAGE,
    }


def test_what_is_to_be_known_of_the_scores_is_in_the_warnings():
    told = answer(Ranked([0.1], [0], "m", None, ("ranked by lot",)), documents=["a"])
    assert told["meta"]["warnings"] == ["ranked by lot"]
    assert "tokens" not in told["meta"]
    assert told["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_a_search_unit_is_a_hundred_documents():
    ranked = Ranked([0.0] * 101, range(101), "m")
    assert answer(ranked, documents=["a"] * 101)["meta"]["billed_units"]["search_units"] == 2


def test_errors_have_a_message_at_the_top_for_coheres_clients_beside_openais():
    error = BadRequest("no", param="query")
    assert envelope(error, b'{"query": 1, "documents": []}') == {"message": "no", **error.envelope()}
    assert envelope(error, b"no JSON") == {"message": "no", **error.envelope()}


def test_voyages_clients_show_the_detail():
    assert envelope(BadRequest("no"), b'{"documents": [], "top_k": null}')["detail"] == "no"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BadRequest("no"), "Validation"), (Overloaded("no"), "Overloaded"), (UpstreamFailed("no"), "Backend")],
)
def test_tei_callers_get_teis(error, kind):
    assert envelope(error, b'{"query": "q", "texts": [') == {"error": "no", "error_type": kind}
