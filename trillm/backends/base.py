"""What all kinds of server have in common: where their paths hang, how they are asked, how their errors read.

A kind is one subclass in a file of its own and one row of ``trillm.backends.KINDS``; what it does not say, this
module does. Backends hold no state and never run a generation.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from attrs import field, frozen

from trillm.backends import exposition, failures
from trillm.backends.failures import Correction, Headers
from trillm.dialects.mending import mended, renamed_thoughts
from trillm.dialects.ranking.values import Question
from trillm.errors import BadRequest, TrillmError, UpstreamFailed
from trillm.models import Capability, Found, Model, Operation
from trillm.wire.control import NOT_JSON, Answer, Control

#: What a server answered to GETs, by path. A path that got no answer has status 0.
Signs = Mapping[str, Answer]

PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETIONS: "/completions",
    Operation.EMBEDDINGS: "/embeddings",
    Operation.RERANK: "/rerank",
    Operation.RESPONSES: "/responses",
    Operation.RESPONSE_TOKENS: "/responses/input_tokens",
    Operation.MESSAGES: "/messages",
    Operation.MESSAGE_TOKENS: "/messages/count_tokens",
}

T = TypeVar("T")


class Card(msgspec.Struct):
    """One model in an OpenAI-style list, with the names in use for its context length."""

    id: str
    owned_by: Any = None
    max_model_len: Any = None  # vLLM, SGLang
    context_length: Any = None  # OpenRouter, Together, trillm
    context_window: Any = None  # Groq
    max_context_length: Any = None  # Mistral

    @property
    def context(self) -> int | None:
        """The context length in tokens, if the list has it."""
        lengths = (self.max_model_len, self.context_length, self.context_window, self.max_context_length)
        return next((n for n in lengths if isinstance(n, int)), None)


AnyCard = TypeVar("AnyCard", bound=Card)


class Cards(msgspec.Struct, Generic[AnyCard]):
    """An OpenAI-style list of models."""

    data: list[AnyCard]


def owned_by(owner: str, answer: Answer) -> bool:
    """Tell whether ``answer`` is a list of models that all belong to ``owner``."""
    cards = answer.read(Cards[Card])
    return cards is not None and {card.owned_by for card in cards.data} == {owner}


def root_of(url: str) -> str:
    """Return ``url`` without a ``/v1`` at its end: where a server's own paths hang."""
    return re.sub(r"/v\d+$", "", url.rstrip("/"))


@frozen
class Site:
    """One server while it is looked at: where it is, with which key, and how its kind reads.

    Args:
        backend: its kind.
        http: asks.
        url: as registered.
        api_key: trillm's key for it.
        known: what was found here a moment ago.
    """

    backend: "Backend"
    http: Control
    url: str
    api_key: str | None = field(default=None, repr=False)
    known: Found | None = None

    @property
    def root(self) -> str:
        """What paths are appended to."""
        return self.backend.root(self.url)

    def remembered(self, *models: str) -> frozenset[Capability]:
        """Return what the first of ``models`` was found able to do before; empty if that is not known."""
        before = self.known.models if self.known else ()
        return next((each.capabilities for each in before if each.id in models[:1]), frozenset())

    async def get(self, path: str) -> Answer:
        """GET a path."""
        return await self.http.get(self.root + path, api_key=self.api_key)

    async def post(self, path: str, json: Any) -> Answer:
        """POST JSON to a path."""
        return await self.http.post(self.root + path, json, api_key=self.api_key)

    async def good(self, path: str) -> Answer:
        """GET a path and insist on an answer that is not an error.

        Raises:
            UpstreamFailed: with the reason.
        """
        answer = await self.get(path)
        error = self.backend.hidden_error(answer.body)
        if answer.status != 200:
            error = self.backend.error(answer.status, answer.headers, answer.body)
        if isinstance(error, UpstreamFailed):
            raise error
        if error is not None:
            raise UpstreamFailed(f"GET {self.root}{path} answered {answer.status}: {error.message}")
        return answer

    async def read(self, path: str, shape: type[T]) -> T:
        """GET a path and insist on a shape.

        Raises:
            UpstreamFailed: with the reason.
        """
        found = (await self.good(path)).read(shape)
        if found is None:
            raise UpstreamFailed(f"GET {self.root}{path} answers, but not as {self.backend.title} does")
        return found


class Backend:
    """One kind of server. The defaults are those of any server with OpenAI's paths under ``/v1``."""

    kind: ClassVar[str]
    #: For people.
    title: ClassVar[str]
    #: Where it listens unless told otherwise, the usual one first.
    ports: ClassVar[tuple[int, ...]] = ()
    #: The paths whose answers :meth:`recognises` wants to see. GETs only, that cost nothing and wake nobody.
    signs: ClassVar[tuple[str, ...]] = ("/v1/models",)
    #: The path of the cheapest proof of life.
    health: ClassVar[str] = "/health"
    #: Of what it exposes at ``/metrics``, what says how many requests it works on and has waiting. To ask there has to
    #: cost it little, wake no model and keep none awake.
    gauges: ClassVar[tuple[str, ...]] = ()
    #: Error answers that mean something else than they say.
    corrections: ClassVar[tuple[Correction, ...]] = ()
    #: Whether it ranks images and other media too.
    ranks_media: ClassVar[bool] = False
    #: Whether its scores are logits, any number at all, and not between 0 and 1.
    scores_are_logits: ClassVar[bool] = False
    #: Whether it embeds token ids as well as texts.
    takes_token_ids: ClassVar[bool] = True
    #: Whether it knows the encoding ``base64`` of vectors.
    encodes_base64: ClassVar[bool] = True
    #: Whether it overlooks ``dimensions``, and answers with vectors of another length than was asked for.
    overlooks_dimensions: ClassVar[bool] = False
    #: The name under which it reads the thoughts of earlier answers, where it knows one only.
    thoughts: ClassVar[str | None] = None
    #: Whether it takes images themselves only, not their addresses.
    needs_inlined_images: ClassVar[bool] = False
    #: Whether it may be asked for the token counts of a stream whose caller did not ask.
    counts_streams: ClassVar[bool] = True

    def recognises(self, signs: Signs) -> bool:
        """Tell from the answers to all kinds' ``signs`` whether this is such a server; by content, not status."""
        raise NotImplementedError

    async def inspect(self, site: Site) -> Found:
        """Find out what the server is and offers; what ``site`` remembers need not be found out again.

        Raises:
            UpstreamFailed: it does not answer, or not like a server of this kind; the message is the reason.
        """
        raise NotImplementedError

    async def healthy(self, http: Control, url: str, api_key: str | None) -> None:
        """Return if the server is alive and ready: a GET that wakes no sleeping model, fit for every few seconds.

        It does not prove the API key, which most kinds ask for elsewhere only; :meth:`inspect` does.

        Raises:
            UpstreamFailed: it is not; the message is the reason.
        """
        await Site(self, http, url, api_key).good(self.health)

    async def load(self, site: Site) -> int | None:
        """Return how many requests the server works on and has waiting, whoever sent them; None if it does not tell.

        Asked at every probe of a server that shares a model with others, under the same rules as :meth:`healthy`.

        Raises:
            UpstreamFailed: it did not answer.
        """
        return exposition.total((await site.get("/metrics")).body, self.gauges) if self.gauges else None

    def root(self, url: str) -> str:
        """Return where the server's own paths hang."""
        return root_of(url)

    def base(self, url: str) -> str:
        """Return where the OpenAI paths hang."""
        return root_of(url) + "/v1"

    def endpoint(self, url: str, operation: Operation) -> str:
        """Return the full URL for an operation; ``url`` is as registered, with or without ``/v1``."""
        return self.base(url) + PATHS[operation]

    def request_body(self, operation: Operation, body: bytes, model: str) -> bytes:  # noqa: ARG002  # for overrides
        """Translate a caller's request, anything but a ranking, into what this kind of server understands.

        Args:
            operation: what is asked for.
            body: OpenAI's shape.
            model: the server's own name of the model, which ``body`` has already.

        Raises:
            BadRequest: it cannot be translated.
        """
        return (
            body if self.thoughts is None or operation is not Operation.CHAT else renamed_thoughts(body, self.thoughts)
        )

    def reply_body(self, operation: Operation, body: bytes) -> bytes:
        """Translate a whole 200 answer back, that of a ranking excepted.

        Raises:
            UpstreamFailed: the answer makes no sense.
        """
        return mended(body) if operation is Operation.CHAT else body

    def ranking_request(self, question: Question, model: str) -> bytes:
        """Return a ranking as this kind of server is asked for it; the default is Cohere's and Jina's way.

        Neither a number of the best nor the documents are ever asked for: both are the gateway's business.

        Args:
            question: one query, and its documents.
            model: the server's own name of the model.
        """
        asked = {"model": model, "query": question.query, "documents": list(question.documents)}
        raw = {"raw_scores": True} if question.raw else {}
        return msgspec.json.encode({**question.options, **raw, **asked})

    def error(self, status: int, headers: Headers, body: bytes) -> TrillmError:
        """Return what an answer other than 2xx means."""
        return self._meant(status, headers, failures.error_object(body))

    def hidden_error(self, body: bytes) -> TrillmError | None:
        """Return the error inside an answer that has status 200, or None. Quick for normal answers."""
        found = failures.hidden(body)
        return None if found is None else self._meant(found[0], (), found[1])

    def _meant(self, status: int, headers: Headers, error: dict[str, Any]) -> TrillmError:
        meant = next((correction for correction in self.corrections if correction.fits(status, error)), None)
        if meant is not None:
            status, error = meant.means, error | {"code": meant.code or error["code"]}
        return failures.to_error(self.title, status, headers, error)


def models(cards: Iterable[Card], capabilities: frozenset[Capability] = frozenset()) -> tuple[Model, ...]:
    """Return what a list of cards offers, all with the same capabilities."""
    return tuple(Model(card.id, capabilities, card.context) for card in cards)


def capabilities(names: Iterable[str], meanings: Mapping[str, Capability]) -> frozenset[Capability]:
    """Return the capabilities that a server's own names for them mean; names that mean nothing to us are left out."""
    return frozenset(meanings[name] for name in names if name in meanings)


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """Return a request's fields, their values left as they are: an image is never unpacked.

    Raises:
        BadRequest: it is not a JSON object.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except NOT_JSON as exc:
        raise BadRequest(f"The request body is not a JSON object: {exc}") from exc
