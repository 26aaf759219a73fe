"""Voyage's own client: ranking with ``top_k``, answered in ``data``; embeddings in base64."""

import voyageai
from checks import check, main, raised

DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "France is a country in Europe."]
QUERY = "capital of France"


def client_of(url):
    return voyageai.Client(api_key="none", base_url=f"{url}/v1")


def is_a_ranking(results, count):
    scores = [result.relevance_score for result in results]
    assert len(results) == count, results
    assert scores == sorted(scores, reverse=True), scores
    assert [result.document for result in results] == [DOCUMENTS[result.index] for result in results], results


@check("`Client.rerank`, `top_k`", "rerank")
def top_k(url, model):
    answer = client_of(url).rerank(QUERY, DOCUMENTS, model=model, top_k=2)
    is_a_ranking(answer.results, 2)
    assert answer.total_tokens > 0


@check("`Client.rerank`, all of them", "rerank")
def all_of_them(url, model):
    is_a_ranking(client_of(url).rerank(QUERY, DOCUMENTS, model=model).results, 3)


@check("`Client.embed`", "embed")
def embed(url, model):
    answer = client_of(url).embed(["one", "two"], model=model)
    assert len(answer.embeddings) == 2
    assert len(answer.embeddings[0]) == len(answer.embeddings[1]) > 8


@check("no documents: refused with the reason", "rerank")
def refused(url, model):
    ask = lambda: client_of(url).rerank(QUERY, [], model=model)  # noqa: E731
    assert "document" in str(raised(voyageai.error.InvalidRequestError, ask))


main("voyageai")
