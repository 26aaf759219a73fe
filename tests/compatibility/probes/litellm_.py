"""LiteLLM as a client: ``rerank`` and ``embedding`` as each of the providers whose dialect trillm speaks."""

import litellm
from checks import check, main, raised

DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "France is a country in Europe."]
QUERY = "capital of France"


def is_a_ranking(answer, count):
    results = answer.results
    scores = [result["relevance_score"] for result in results]
    assert len({result["index"] for result in results}) == len(results) == count, results
    assert scores == sorted(scores, reverse=True), scores


def ranks(provider, base, *, texts=True, note=None, on=None, **more):
    @check(f"`rerank`, `{provider}/`", "rerank", on=on)
    def rank(url, model):
        answer = litellm.rerank(
            model=f"{provider}/{model}", query=QUERY, documents=DOCUMENTS, top_n=2, api_base=url + base, api_key="none",
            **more,
        )  # fmt: skip
        is_a_ranking(answer, 2)
        if texts:
            shown = [result["document"]["text"] for result in answer.results]
            assert shown == [DOCUMENTS[result["index"]] for result in answer.results], answer
        return note


ranks("cohere", "/v2/rerank")
ranks("jina_ai", "/v1/rerank")
ranks(
    "infinity", "", texts=False, return_documents=False,
    note="With `return_documents=False`: this provider wants documents as bare strings, where Cohere's, Jina's and "
    "vLLM's clients want `{text}`, and nothing in the request tells them apart.",
)  # fmt: skip
ranks("hosted_vllm", "")
ranks("voyage", "/v1/rerank")
ranks(
    "huggingface", "", on="builtin",
    note="TEI's dialect names no model: the route called `rerank` answers, or else the only model that ranks.",
)  # fmt: skip


@check("`embedding`, `openai/`", "embed")
def embed(url, model):
    answer = litellm.embedding(model=f"openai/{model}", input=["one", "two"], api_base=f"{url}/v1", api_key="none")
    assert len(answer.data) == 2, answer
    assert [entry["index"] for entry in answer.data] == [0, 1]


@check("no documents: an error with the reason", "rerank")
def refused(url, model):
    call = {"model": f"jina_ai/{model}", "api_base": f"{url}/v1/rerank", "api_key": "none"}
    assert "document" in str(raised(Exception, lambda: litellm.rerank(query=QUERY, documents=[], **call)))


main("litellm")
