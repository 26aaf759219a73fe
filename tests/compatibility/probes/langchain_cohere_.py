"""LangChain's ``CohereRerank``, which compresses documents by ranking."""

from checks import check, main
from langchain_cohere import CohereRerank
from langchain_core.documents import Document

DOCUMENTS = ["Bananas are yellow.", "Paris is the capital of France.", "France is a country in Europe."]
QUERY = "capital of France"


@check("`CohereRerank.rerank`", "rerank")
def rerank(url, model):
    ranker = CohereRerank(model=model, base_url=url, cohere_api_key="none", top_n=2)
    results = ranker.rerank(DOCUMENTS, QUERY)
    assert len(results) == 2, results
    assert results[0]["relevance_score"] >= results[1]["relevance_score"], results


@check("`CohereRerank.compress_documents`", "rerank")
def compress(url, model):
    ranker = CohereRerank(model=model, base_url=url, cohere_api_key="none", top_n=2)
    kept = ranker.compress_documents([Document(page_content=text) for text in DOCUMENTS], QUERY)
    assert len(kept) == 2, kept
    assert all(0 <= document.metadata["relevance_score"] <= 1 for document in kept), kept


main("langchain-cohere")
