"""Cohere's own client, versions 5 and 7: ``ClientV2`` and ``Client``, which differ in paths and shapes."""

import cohere
from checks import check, main, raised

DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "France is a country in Europe."]
QUERY = "capital of France"


def is_a_ranking(results, count):
    scores = [result.relevance_score for result in results]
    assert len({result.index for result in results}) == len(results) == count, results
    assert scores == sorted(scores, reverse=True), scores
    assert all(0 <= score <= 1 for score in scores), scores


@check("`ClientV2.rerank`, `top_n`", "rerank")
def v2(url, model):
    client = cohere.ClientV2(api_key="none", base_url=url)
    answer = client.rerank(model=model, query=QUERY, documents=DOCUMENTS, top_n=2)
    is_a_ranking(answer.results, 2)
    assert answer.meta.billed_units.search_units == 1


@check("`Client.rerank`, texts and objects, `return_documents`", "rerank")
def v1(url, model):
    client = cohere.Client(api_key="none", base_url=url)
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]]
    answer = client.rerank(model=model, query=QUERY, documents=documents, return_documents=True)
    is_a_ranking(answer.results, 3)
    assert [result.document.text for result in answer.results] == [DOCUMENTS[result.index] for result in answer.results]


@check("`Client.rerank`, `rank_fields`", "rerank")
def rank_fields(url, model):
    client = cohere.Client(api_key="none", base_url=url)
    documents = [{"title": "Fruit", "body": DOCUMENTS[0]}, {"title": "Towns", "body": DOCUMENTS[1]}]
    answer = client.rerank(model=model, query=QUERY, documents=documents, rank_fields=["title", "body"])
    is_a_ranking(answer.results, 2)


@check("`AsyncClientV2.rerank`", "rerank")
def asynchronous(url, model):
    import asyncio

    async def ask():
        async with cohere.AsyncClientV2(api_key="none", base_url=url) as client:
            return await client.rerank(model=model, query=QUERY, documents=DOCUMENTS)

    is_a_ranking(asyncio.run(ask()).results, 3)


@check("no documents: `BadRequestError` with the reason", "rerank")
def refused(url, model):
    client = cohere.ClientV2(api_key="none", base_url=url)
    error = raised(cohere.errors.BadRequestError, lambda: client.rerank(model=model, query=QUERY, documents=[]))
    assert "document" in error.body["message"], error.body


@check("unknown model: `NotFoundError`", "rerank")
def not_found(url, model):
    client = cohere.Client(api_key="none", base_url=url)
    ask = lambda: client.rerank(model=f"{model}x", query=QUERY, documents=DOCUMENTS)  # noqa: E731
    assert model in raised(cohere.errors.NotFoundError, ask).body["message"]


main("cohere")
