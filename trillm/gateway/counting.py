"""Token ids for servers that embed texts only: what they stand for is asked of the server, where it can tell."""

from collections.abc import Sequence

import msgspec
from attrs import evolve, field, frozen

from trillm.dialects.embedding.inputs import Embedding, token_ids
from trillm.dialects.members import NOT_JSON
from trillm.errors import BadRequest, UpstreamFailed, UpstreamRefused
from trillm.gateway.call import Call
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.outgoing import endpoint_at, request_to
from trillm.gateway.parts import gather
from trillm.gateway.reply import Headers
from trillm.pool.catalog import Entry
from trillm.pool.pool import Lease
from trillm.wire.exchange import Request

_ADVICE = "send texts (with LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)."


def those_who_take_ids(entry: Entry) -> Entry:
    """Return the entry without the servers that are known to embed texts only.

    Raises:
        BadRequest: nobody is left.
    """
    plan = entry.plan.of_those_who(lambda candidate: candidate.member.backend.takes_token_ids)
    if not plan.candidates:
        titles = " and ".join(dict.fromkeys(who.member.backend.title for who in entry.plan.candidates))
        raise BadRequest(f"{entry.name!r} embeds texts, not token ids ({titles}): {_ADVICE}", param="input")
    return evolve(entry, plan=plan)


async def detokenized(whole: Dispatch, embedding: Embedding, refused: UpstreamRefused) -> Embedding:
    """Return the request with the texts that its token ids stand for.

    Args:
        whole: the call.
        embedding: its request, of token ids.
        refused: what a server said to them.

    Raises:
        BadRequest: the server cannot tell what they stand for.
    """
    asks = [_Detokenize(token_ids(one)) for one in embedding.inputs]
    try:
        parts = await gather(whole, those_who_take_ids(whole.entry), asks)
    except (UpstreamRefused, UpstreamFailed) as exc:
        problem = f"The server refused these token ids ({refused.message}) and offers no /detokenize: {_ADVICE}"
        raise BadRequest(problem, param="input") from exc
    texts = tuple(msgspec.Raw(msgspec.json.encode(part.told)) for part in parts)
    return evolve(embedding, inputs=texts, has_ids=False)


class _Detokenized(msgspec.Struct):
    prompt: str | None = None  # vLLM
    content: str | None = None  # llama.cpp


_answer = msgspec.json.Decoder(_Detokenized)


@frozen
class _Detokenize:
    """The text of some token ids, as vLLM and llama.cpp are asked for it."""

    ids: Sequence[int] = field(repr=False)

    def request(self, call: Call, lease: Lease) -> Request:
        member = lease.member
        endpoint = endpoint_at(member.backend.root(member.server.url) + "/detokenize")
        return request_to(endpoint, call, lease, msgspec.json.encode({"model": lease.model, "tokens": self.ids}))

    def read(self, _lease: Lease, body: bytes, _headers: Headers) -> str:
        try:
            said = _answer.decode(body)
        except NOT_JSON as exc:
            raise UpstreamFailed(f"the server's answer is no text: {exc}") from exc
        text = said.prompt if said.prompt is not None else said.content
        if text is None:
            raise UpstreamFailed("the server's answer is no text")
        return text
