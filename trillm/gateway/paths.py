"""Which path asks for which operation. The paths without ``/v1`` are what clients make of a base URL without it."""

from trillm.models import Operation

PATHS = {
    "/v1/chat/completions": Operation.CHAT,
    "/chat/completions": Operation.CHAT,
    "/v1/completions": Operation.COMPLETIONS,
    "/completions": Operation.COMPLETIONS,
    "/v1/embeddings": Operation.EMBEDDINGS,
    "/embeddings": Operation.EMBEDDINGS,
    "/v1/rerank": Operation.RERANK,
    "/v2/rerank": Operation.RERANK,
    "/rerank": Operation.RERANK,
    "/v1/reranking": Operation.RERANK,
    "/reranking": Operation.RERANK,
    "/v1/score": Operation.RERANK,
    "/score": Operation.RERANK,
}
