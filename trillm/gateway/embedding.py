"""Embeddings: passed through where the server takes them as they are, else asked for in the forms that it takes.

What differs between servers is in :class:`~trillm.backends.base.Backend` and the server's settings; how requests and
vectors are changed is in :mod:`trillm.dialects.embedding`.
"""

from collections.abc import Iterable, Sequence

import msgspec
from attrs import field, frozen

from trillm.dialects.embedding.inputs import Embedding, has_more_than, is_ids, read_embedding, write_request
from trillm.dialects.embedding.vectors import Vectors, encoded_as, floats_of, read_vectors, write_vectors
from trillm.errors import BadRequest, UpstreamRefused
from trillm.gateway.call import Call, EmbeddingsPeek
from trillm.gateway.counting import detokenized, those_who_take_ids
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.outgoing import asking
from trillm.gateway.parts import Part, gather, smallest_batch
from trillm.gateway.plain import PlainAnswer, whole_answer
from trillm.gateway.reply import Headers
from trillm.models import Operation
from trillm.pool.catalog import Entry
from trillm.pool.member import Member
from trillm.pool.pool import Lease
from trillm.wire.exchange import Request

#: Statuses of a refusal that may be about token ids.
_OF_THE_INPUT = {400, 422}


async def embed(whole: Dispatch, asked: EmbeddingsPeek) -> PlainAnswer | None:
    """Answer a call for embeddings.

    Raises:
        TrillmError: nobody could.
    """
    try:
        if not any(_is_changed(asked, candidate.member) for candidate in whole.entry.plan.candidates):
            return await whole.run()
        return await _embed(whole, read_embedding(whole.call.body))
    except UpstreamRefused as refused:
        if refused.status not in _OF_THE_INPUT or not is_ids(asked.input):
            raise
        embedding = await detokenized(whole, read_embedding(whole.call.body), refused)
        return await _embed(whole, embedding)


def _is_changed(asked: EmbeddingsPeek, member: Member) -> bool:
    """Tell whether ``member`` cannot be sent the request as it is, or its answer not be passed on."""
    backend = member.backend
    return bool(
        (member.max_batch is not None and has_more_than(member.max_batch, asked.input))
        or (not backend.takes_token_ids and is_ids(asked.input))
        or (not backend.encodes_base64 and asked.wants_base64)
        or ((member.server.truncate_dimensions or backend.overlooks_dimensions) and asked.has_dimensions)
    )


async def _embed(whole: Dispatch, embedding: Embedding) -> PlainAnswer:
    entry = those_who_take_ids(whole.entry) if embedding.has_ids else whole.entry
    parts = await ask_for_vectors(whole, entry, embedding)
    tokens = sum_known(part.told.tokens for part in parts)
    vectors = [vector for part in parts for vector in part.told.encoded]
    body = write_vectors(vectors, model=parts[0].told.model, tokens=tokens)
    return whole_answer(whole.call, parts, whole.journey, body, tokens)


async def ask_for_vectors(whole: Dispatch, entry: Entry, embedding: Embedding) -> "Sequence[Part[Embedded]]":
    """Have all inputs embedded, in as many parts as the servers of ``entry`` need."""
    limit = smallest_batch(entry) or len(embedding.inputs)
    begins = range(0, len(embedding.inputs), limit)
    return await gather(whole, entry, [_Embed(embedding, embedding.inputs[i : i + limit]) for i in begins])


def sum_known(counts: Iterable[int | None]) -> int | None:
    """Return the sum of what is known; None if nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


@frozen
class Embedded:
    """What a server made of some inputs.

    Args:
        encoded: a vector for each, encoded as the caller wants.
        model: the server's own name of the model.
        tokens: that it read, if it tells.
    """

    encoded: Sequence[msgspec.Raw] = field(repr=False)
    model: str
    tokens: int | None


@frozen
class _Embed:
    """Some of a call's inputs, as an ask."""

    embedding: Embedding
    inputs: Sequence[msgspec.Raw] = field(repr=False)

    def request(self, call: Call, lease: Lease) -> Request:
        embedding, member = self.embedding, lease.member
        body = write_request(
            embedding,
            list(self.inputs),
            model=lease.model,
            encoding_format=embedding.encoding if member.backend.encodes_base64 else None,
            dimensions=None if member.server.truncate_dimensions else embedding.dimensions,
        )
        return asking(call, lease, Operation.EMBEDDINGS, body)

    def read(self, lease: Lease, body: bytes, _headers: Headers) -> Embedded:
        vectors = read_vectors(body, len(self.inputs))
        cut = self.embedding.dimensions if lease.member.server.truncate_dimensions else None
        if cut is None:
            self._check_dimensions(lease.member, vectors)
        encoded = [encoded_as(self.embedding.encoding, vector, cut) for vector in vectors.encoded]
        return Embedded(encoded, lease.model, vectors.tokens)

    def _check_dimensions(self, member: Member, vectors: Vectors) -> None:
        """Refuse vectors of another length than was asked for: who stores them would not notice until much later."""
        wanted = self.embedding.dimensions
        if wanted is None or not member.backend.overlooks_dimensions:
            return
        length = len(floats_of(vectors.encoded[0]))
        if length != wanted:
            raise BadRequest(
                f"{member.backend.title} overlooks 'dimensions' and gives vectors of {length}. Its operator can let "
                f"trillm cut them: trillm server edit {member.name} --truncate-dimensions",
                param="dimensions",
            )
