"""What a ranking is once its dialect is read: values between the caller's request, the servers and the answer."""

import enum
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from attrs import evolve, field, frozen

#: What is ranked: a text, or an object ``{"content": [parts]}`` with images or other media in it, as vLLM has it.
Content = str | msgspec.Raw
#: A document as the caller gave it.
Document = str | dict[str, msgspec.Raw]


class Dialect(enum.Enum):
    """Whose shape an answer has to have."""

    COHERE = "cohere"  # and Jina's, vLLM's, llama.cpp's and infinity's: one body is good for all of them
    VOYAGE = "voyage"  # results under ``data``, documents as bare texts
    TEI = "tei"  # a bare array of scores
    SCORE = "score"  # vLLM's ``/score``: every score, in the order of the request


@frozen
class Question:
    """One query and what is to be ranked by it.

    Args:
        query: what is looked for.
        documents: n_documents contents.
        places: where each document stands in the caller's request, n_documents.
        options: members for the server, as they came.
        raw: whether the scores are wanted as the model gives them, not brought to 0..1.
    """

    query: Content = field(repr=False)
    documents: Sequence[Content] = field(repr=False)
    places: Sequence[int]
    options: Mapping[str, msgspec.Raw] = field(factory=dict, repr=False)
    raw: bool = False

    @property
    def has_media(self) -> bool:
        """Whether there is more in it than text."""
        return not (isinstance(self.query, str) and all(isinstance(document, str) for document in self.documents))

    def split(self, limit: int | None) -> "Iterator[Question]":
        """Return it in parts of at most ``limit`` documents."""
        size = len(self.documents)
        if limit is None or size <= limit:
            yield self
            return
        for begin in range(0, size, limit):
            cut = slice(begin, begin + limit)
            yield evolve(self, documents=self.documents[cut], places=self.places[cut])


@frozen
class Ranking:
    """A whole request.

    Args:
        dialect: how it is to be answered.
        questions: what is to be ranked; several only for the pairs of a ``/score``.
        originals: the documents as they came, n_documents over all questions.
        texts: the same as the servers get them.
        top_n: how many of the best are wanted; None is all.
        wants_documents: whether they are wanted back.
    """

    dialect: Dialect
    questions: tuple[Question, ...]
    originals: Sequence[Document] = field(repr=False)
    texts: Sequence[Content] = field(repr=False)
    top_n: int | None = None
    wants_documents: bool = False


@frozen
class Ranked:
    """What came of a ranking.

    Args:
        scores: n_documents, in the order of the request, as they are to be shown.
        order: the places of all documents, best first.
        model: who ranked.
        tokens: read by the servers, where they tell.
        warnings: what the caller is to know about the scores.
    """

    scores: Sequence[float]
    order: Sequence[int]
    model: str
    tokens: int | None = None
    warnings: tuple[str, ...] = ()
