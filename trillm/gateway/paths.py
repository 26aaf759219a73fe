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
    "/v1/responses": Operation.RESPONSES,
    "/responses": Operation.RESPONSES,
    "/v1/responses/input_tokens": Operation.RESPONSE_TOKENS,
    "/responses/input_tokens": Operation.RESPONSE_TOKENS,
    "/v1/messages": Operation.MESSAGES,
    "/messages": Operation.MESSAGES,
    "/v1/messages/count_tokens": Operation.MESSAGE_TOKENS,
    "/messages/count_tokens": Operation.MESSAGE_TOKENS,
}

_OPERATIONS = {path.encode(): operation for path, operation in PATHS.items()}


def asked_at(path: bytes) -> Operation | None:
    """Return what is asked for at ``path``, also where nothing is served: an error there is told in the same words."""
    return Operation.MESSAGES if path.startswith(b"/v1/messages") else _OPERATIONS.get(path)
