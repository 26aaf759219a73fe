"""Calls whose answer may be made here of several exchanges: embeddings and rankings."""

from trillm.dialects.ranking.values import Ranking
from trillm.gateway.call import EmbeddingsPeek
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.embedding import embed
from trillm.gateway.plain import PlainAnswer
from trillm.gateway.ranking import rank


async def retrieve(whole: Dispatch, asked: Ranking | EmbeddingsPeek) -> PlainAnswer | None:
    """Answer a call inside its budget; its slots are free again on return.

    Raises:
        TrillmError: nobody could.
    """
    return await (rank(whole, asked) if isinstance(asked, Ranking) else embed(whole, asked))
