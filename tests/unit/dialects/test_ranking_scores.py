"""A server's answer becomes one score for each document, or it is no answer."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trillm.dialects.ranking.scores import cosine, read_scores, sigmoid
from trillm.errors import UpstreamFailed

RESULTS = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5}]
BARE = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.5}]
USAGE = {"prompt_tokens": 7, "total_tokens": 7}

# As their sources say that they answer.
ANSWERS = {
    "cohere": ({"id": "x", "results": RESULTS, "meta": {"tokens": {"input_tokens": 7.0}}}, (), 7),
    "jina": ({"model": "m", "usage": {"total_tokens": 7}, "results": RESULTS}, (), 7),
    "voyage": ({"object": "list", "data": RESULTS, "usage": {"total_tokens": 7}}, (), 7),
    "vllm": ({"results": [r | {"document": {"text": "a"}} for r in RESULTS], "usage": USAGE}, (), 7),
    "llama.cpp": ({"model": "m", "object": "list", "usage": USAGE, "results": RESULTS}, (), 7),
    "infinity": ({"object": "rerank", "results": [r | {"document": "a"} for r in RESULTS], "usage": USAGE}, (), 7),
    "tei": (BARE, [(b"x-compute-tokens", b"7")], 7),
    "litellm": ({"results": RESULTS, "meta": {"billed_units": {"total_tokens": 7}, "tokens": {}}}, (), 7),
    "tokens untold": ({"results": RESULTS}, (), None),
    "tokens that are none": (BARE, [(b"x-compute-tokens", b"many")], None),
    "usage null": ({"results": RESULTS, "usage": None, "meta": None}, (), None),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "headers", "tokens"), ANSWERS.values(), ids=ANSWERS)
def test_every_servers_shape_is_read(answer, headers, tokens):
    scores = read_scores(json.dumps(answer).encode(), headers, 2)
    assert (scores.values, scores.tokens) == ([0.5, 0.9], tokens)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        [1],
        "no",
        {"results": []},
        {"results": RESULTS[:1]},
        {"results": [*RESULTS, {"index": 2, "relevance_score": 1}]},
        {"results": [RESULTS[0], RESULTS[0]]},
        {"results": [{"index": -1, "relevance_score": 1}, RESULTS[0]]},
        {"results": [{"index": 0}, RESULTS[0]]},
        {"results": [{"index": 0, "relevance_score": None}, RESULTS[0]]},
        {"results": [{"index": 0, "relevance_score": "high"}, RESULTS[0]]},
        {"data": [{"object": "embedding"}]},
    ],
)
def test_an_answer_that_is_no_ranking_of_these_documents_is_the_servers_failure(answer):
    with pytest.raises(UpstreamFailed):
        read_scores(json.dumps(answer).encode(), (), 2)


@given(st.binary())
def test_no_bytes_are_too_strange(body):
    with pytest.raises(UpstreamFailed):
        read_scores(body, (), 2)


@pytest.mark.parametrize(
    ("logit", "share"), [(0, 0.5), (2, 0.8807970779778823), (-2, 0.11920292202211755), (1e9, 1), (-1e9, 0)]
)
def test_the_logistic_function_overflows_nowhere(logit, share):
    assert sigmoid(logit) == pytest.approx(share)


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [
        ([1.0, 0.0], [2.0, 0.0], 1),
        ([1.0, 0.0], [0.0, 3.0], 0),
        ([1.0, 1.0], [-1.0, -1.0], -1),
        ([1e200, 1e200], [1e-200, 0.0], 0.5**0.5),
        ([0.0], [1.0], 0),
        ([math.nan], [1.0], 0),
        ([math.inf], [1.0], 0),
    ],
)
def test_a_cosine_looks_at_directions_only(one, other, angle):
    assert math.isclose(cosine(one, other), angle, abs_tol=1e-12)


def test_vectors_of_different_lengths_have_no_angle():
    with pytest.raises(UpstreamFailed):
        cosine([1.0], [1.0, 2.0])
