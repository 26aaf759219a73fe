"""A ranking request of any dialect, read. Pure.

The union of what these send is accepted, and null is as good as absent. Sources: Cohere's API (v1, v2) and its clients
5 and 7, Jina's and Voyage's APIs, vLLM 0.33 (``/rerank`` and ``/score``), llama.cpp, text-embeddings-inference 1.9,
infinity 0.0.77, by reading; what their clients send was also observed.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

import msgspec

from trillm.dialects.members import Members, missing, read, take
from trillm.dialects.ranking.documents import content_of
from trillm.dialects.ranking.values import Content, Dialect, Document, Question, Ranking
from trillm.errors import BadRequest

#: The most documents one call may rank.
MAX_DOCUMENTS = 10_000

# Names of the two sides of vLLM's pairs.
_LEFT = ("queries", "text_1", "data_1")
_RIGHT = ("documents", "items", "text_2", "data_2")

#: What the gateway does itself, so that no server need know of it.
_OURS = (
    "model", "stream", "return_documents", "return_text", "max_chunks_per_doc", "query", "top_n", "top_k", "rank_fields"
)  # fmt: skip

# As many strings and objects are allowed as the most documents may have with 200 quotation marks in each.
_SMALL_BYTES, _MAX_PIECES = 4 * 1024 * 1024, 200 * MAX_DOCUMENTS

T = TypeVar("T")

_count = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0)])
_flag = msgspec.json.Decoder(bool)
_names = msgspec.json.Decoder(list[str])
_one = msgspec.json.Decoder(Document)
_several = msgspec.json.Decoder(str | list[Document] | dict[str, msgspec.Raw])
_parts = msgspec.json.Decoder(list[msgspec.Raw])

_A_NUMBER = "a whole number from 0"
_DOCUMENTS = "an array with at least one document, each a string or an object"


def read_ranking(members: Members) -> Ranking:
    """Read a request.

    Args:
        members: of the body, without nulls; emptied of what is understood.

    Raises:
        BadRequest: with the member that is wrong as ``param``.
    """
    wants = [take(members, name, _flag, "true or false") for name in ("return_documents", "return_text")]
    raw = _wants_raw(members)
    left = next((name for name in _LEFT if name in members), None)
    if left is not None:
        return _pairs(left, members, raw=raw)
    dialect = _dialect(members)
    top_n, top_k = (take(members, name, _count, _A_NUMBER) for name in ("top_n", "top_k"))
    rank_fields = take(members, "rank_fields", _names, "an array of names") or ()
    query = _query(members)
    name = _named(members, ("documents", "texts"))
    originals = _documents(name, members)
    texts = _contents(name, originals, rank_fields)
    _check_size(texts)
    question = Question(query, texts, range(len(texts)), _options(members), raw)
    wanted = top_n if top_n is not None else top_k
    return Ranking(dialect, (question,), originals, texts, wanted or None, any(wants))


def _dialect(members: Members) -> Dialect:
    if "texts" in members and "documents" not in members:
        return Dialect.TEI
    if "top_k" in members or ("top_n" not in members and "truncation" in members):
        return Dialect.VOYAGE
    return Dialect.COHERE


def _wants_raw(members: Members) -> bool:
    """Tell whether the scores are wanted as they are: TEI's and infinity's name for it, and vLLM's."""
    raw = take(members, "raw_scores", _flag, "true or false")
    activated = take(members, "use_activation", _flag, "true or false")
    return bool(raw) or activated is False


def _query(members: Members) -> Content:
    query = take(members, "query", _one, "a string, or an object with 'text' or 'content'")
    if query is None:
        raise missing("query")
    return content_of("query", query)


def _named(members: Members, names: Sequence[str]) -> str:
    """Return which of ``names`` is there."""
    name = next((name for name in names if name in members), None)
    if name is None:
        raise missing(names[0])
    return name


def _documents(name: str, members: Members) -> list[Document]:
    """Take the documents out: a list, a single one, or vLLM's object in which each part is one."""
    raw = members.pop(name)
    _check_pieces(name, bytes(raw))
    given: str | list[Document] | dict[str, msgspec.Raw] = read(raw, name, _several, _DOCUMENTS)
    if isinstance(given, str):
        return [given]
    if isinstance(given, dict):
        if "content" not in given:
            raise BadRequest(f"'{name}' must be {_DOCUMENTS}.", param=name)
        parts = read(given["content"], f"{name}.content", _parts, "an array of parts")
        given = [{"content": msgspec.Raw(b"[" + bytes(part) + b"]")} for part in parts]
    if not given:
        raise BadRequest(f"'{name}' must be {_DOCUMENTS}.", param=name)
    return given


def _check_pieces(name: str, raw: bytes) -> None:
    """Refuse what would become millions of objects before anybody could count the documents."""
    if len(raw) > _SMALL_BYTES and raw.count(b'"') + raw.count(b"{") > _MAX_PIECES:
        raise BadRequest(f"'{name}' has too many pieces; split them over several calls.", param=name)


def _contents(name: str, documents: Iterable[Document], rank_fields: Sequence[str] = ()) -> list[Content]:
    return [content_of(f"{name}[{i}]", document, rank_fields) for i, document in enumerate(documents)]


def _options(members: Members) -> Members:
    """Return what is left for the server: settings of its own."""
    known = {*_OURS, *_RIGHT, "texts"}
    return {name: value for name, value in members.items() if name not in known}


def _check_size(documents: Sequence[T]) -> None:
    if len(documents) > MAX_DOCUMENTS:
        raise BadRequest(f"{len(documents)} documents are more than the {MAX_DOCUMENTS} a call may have; split them.")


def _pairs(left: str, members: Members, *, raw: bool) -> Ranking:
    """Read a ``/score``: one text against many, or as many against as many, pair by pair."""
    right = _named(members, _RIGHT)
    queries = _contents(left, _documents(left, members))
    originals = _documents(right, members)
    texts = _contents(right, originals)
    _check_size(texts)
    if len(queries) not in {1, len(texts)}:
        problem = f"'{left}' has {len(queries)} texts and '{right}' {len(texts)}; it must be one, or as many."
        raise BadRequest(problem, param=left)
    options = _options(members)
    if len(queries) == 1:
        questions = [Question(queries[0], texts, range(len(texts)), options, raw)]
    else:
        questions = _by_query(queries, texts, options, raw=raw)
    return Ranking(Dialect.SCORE, tuple(questions), originals, texts)


def _by_query(queries: Sequence[Content], texts: Sequence[Content], options: Members, *, raw: bool) -> list[Question]:
    """Gather the pairs that have the same query: each of these is one request to a server."""
    places: dict[bytes | str, list[int]] = {}
    for place, query in enumerate(queries):
        places.setdefault(query if isinstance(query, str) else bytes(query), []).append(place)
    return [Question(queries[at[0]], [texts[i] for i in at], at, options, raw) for at in places.values()]
