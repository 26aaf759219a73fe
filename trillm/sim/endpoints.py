"""The simulator's API: which path takes what, and which models there are. Nothing here awaits."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from attrs import frozen

from trillm.errors import BadRequest, MethodNotAllowed, NoSuchModel, NotFound, TrillmError
from trillm.models import Capability
from trillm.sim import chat, retrieval
from trillm.sim.script import Answer

MODELS = {
    "sim-chat": (Capability.CHAT, Capability.VISION, Capability.TOOLS),
    "sim-embed": (Capability.EMBEDDINGS,),
    "sim-rerank": (Capability.RERANK,),
}

_ABOUT = b"""This is the trillm simulator: it answers like an LLM server and has no language model.

POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank, /v2/rerank, /rerank
GET  /v1/models, /v1/models/{id}, /health, /sim/stats
"""

_encode = msgspec.json.encode
_T = TypeVar("_T")


@frozen
class Voice:
    """What the texts of one simulator depend on beside the request: see :func:`trillm.sim.chat.answer_chat`."""

    tokens: int
    seed: int


def respond(method: bytes, path: bytes, body: bytes, voice: Voice) -> Answer:
    """Answer one request, if only with an error.

    Args:
        method: HTTP's; HEAD is answered as GET.
        path: without query, not decoded.
        body: all of it.
        voice: of this simulator.
    """
    post, get = _POST.get(path), _getter(path)
    try:
        if post and method == b"POST":
            return post(body, voice)
        if get and method in {b"GET", b"HEAD"}:
            return get()
        if post or get:
            allowed = "POST" if post else "GET"
            raise MethodNotAllowed(f"{_shown(path)} takes {allowed}, not {_shown(method)}.")
        raise NotFound(f"There is no {_shown(path)} here.")
    except TrillmError as exc:
        return failure(exc)


def failure(error: TrillmError) -> Answer:
    """Return the answer that reports an error."""
    return Answer(_encode(error.envelope()), status=error.status, headers=tuple(error.headers()))


def _shown(raw: bytes) -> str:
    return raw.decode("latin-1")


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise BadRequest(f"{exc}.") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"The body is not valid JSON: {exc}.", code="invalid_json") from exc


def _check_model(name: str, needed: Capability) -> None:
    if name not in MODELS:
        raise NoSuchModel(f"There is no model {name!r} here; there are {', '.join(MODELS)}.", param="model")
    if needed not in MODELS[name]:
        raise BadRequest(f"The model {name!r} does not do {needed}.", param="model")


def _chat(body: bytes, voice: Voice) -> Answer:
    request = _decoded(body, chat.ChatRequest)
    _check_model(request.model, Capability.CHAT)
    return chat.answer_chat(request, tokens=voice.tokens, seed=voice.seed)


def _completions(body: bytes, voice: Voice) -> Answer:
    request = _decoded(body, chat.CompletionRequest)
    _check_model(request.model, Capability.CHAT)
    return chat.answer_completion(request, tokens=voice.tokens, seed=voice.seed)


def _embeddings(body: bytes, _voice: Voice) -> Answer:
    request = _decoded(body, retrieval.EmbeddingsRequest)
    _check_model(request.model, Capability.EMBEDDINGS)
    return retrieval.answer_embeddings(request)


def _rerank(body: bytes, _voice: Voice) -> Answer:
    request = _decoded(body, retrieval.RerankRequest)
    _check_model(request.model, Capability.RERANK)
    return retrieval.answer_rerank(request)


_POST: dict[bytes, Callable[[bytes, Voice], Answer]] = {
    b"/v1/chat/completions": _chat,
    b"/v1/completions": _completions,
    b"/v1/embeddings": _embeddings,
    b"/v1/rerank": _rerank,
    b"/v2/rerank": _rerank,
    b"/rerank": _rerank,
}


def _about() -> Answer:
    return Answer(_ABOUT, content_type=b"text/plain; charset=utf-8")


def _health() -> Answer:
    return Answer(b'{"status":"ok"}')


def _models() -> Answer:
    return Answer(_encode({"object": "list", "data": [_described(name) for name in MODELS]}))


def _model(name: str) -> Answer:
    if name not in MODELS:
        raise NoSuchModel(f"There is no model {name!r} here; there are {', '.join(MODELS)}.", param="model")
    return Answer(_encode(_described(name)))


def _described(name: str) -> dict[str, Any]:
    about = {"id": name, "object": "model", "created": 1700000000, "owned_by": "trillm"}
    return {**about, "capabilities": MODELS[name]}


_GET = {b"/": _about, b"/health": _health, b"/v1/models": _models}


def _getter(path: bytes) -> Callable[[], Answer] | None:
    if path.startswith(b"/v1/models/"):
        return partial(_model, unquote_to_bytes(path[11:]).decode("utf-8", "replace"))
    return _GET.get(path)
