"""Ranking, whatever the server: split, ordered, cut and answered here, so that all servers do the same.

A route may let servers that only embed rank too, by the cosine of the query's vector and the document's.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import trio
from attrs import evolve, field, frozen

from trillm.dialects.embedding.inputs import Embedding
from trillm.dialects.embedding.vectors import floats_of
from trillm.dialects.ranking.reply import write_ranking
from trillm.dialects.ranking.scores import cosine, read_scores, sigmoid
from trillm.dialects.ranking.values import Content, Question, Ranked, Ranking
from trillm.errors import BadRequest, Unavailable, UpstreamFailed
from trillm.gateway.call import Call
from trillm.gateway.dispatch import Dispatch
from trillm.gateway.embedding import ask_for_vectors, sum_known
from trillm.gateway.outgoing import asking
from trillm.gateway.parts import gather, smallest_batch
from trillm.gateway.plain import Answered, PlainAnswer, whole_answer
from trillm.gateway.reply import Headers
from trillm.models import Capability, Operation
from trillm.pool.catalog import Entry
from trillm.pool.member import Member
from trillm.pool.pool import Lease
from trillm.wire.exchange import Request

#: More documents than this are ranked, but it is said that fewer would be wiser. Cohere's advice.
MANY_DOCUMENTS = 1000

#: Cosines that are computed before others get a turn.
_AT_ONCE = 64

_COSINE = "ranked by the cosine of embeddings, not by a ranking model; below 0 is shown as 0"
_MANY = f"more than {MANY_DOCUMENTS} documents in one call: several calls would be answered sooner"


@frozen
class _Score:
    """One document's.

    Args:
        shown: what the caller is told.
        given: what the server said: of two that are shown alike it may still tell the better.
    """

    shown: float
    given: float


@frozen
class _Outcome:
    """What came of all questions.

    Args:
        scores: by the document's place in the request.
        parts: the exchanges that it took.
        model: who ranked, by its name there.
        tokens: read, if known.
        notes: for the caller.
    """

    scores: Mapping[int, _Score] = field(repr=False)
    parts: Sequence[Answered] = field(repr=False)
    model: str
    tokens: int | None
    notes: Sequence[str]


_Way = Callable[[Dispatch, Entry, Ranking], Awaitable[_Outcome]]


async def rank(whole: Dispatch, ranking: Ranking) -> PlainAnswer:
    """Answer a call for a ranking.

    Raises:
        TrillmError: nobody could.
    """
    call = whole.call
    if not call.model:
        whole.journey.call = evolve(call, model=whole.entry.name)
    outcome = await _outcome(whole, ranking)
    body = write_ranking(ranking, _ranked(outcome), ident=call.id, created=int(time.time()))
    return whole_answer(call, outcome.parts, whole.journey, body, outcome.tokens)


def _ranked(outcome: _Outcome) -> Ranked:
    """Put the documents in order; equal ones stay as they were sent."""
    scores = [outcome.scores[place] for place in range(len(outcome.scores))]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place].shown, -scores[place].given))
    notes = [*outcome.notes, _MANY] if len(scores) > MANY_DOCUMENTS else outcome.notes
    shown = [score.shown for score in scores]
    return Ranked(shown, order, outcome.model, outcome.tokens, tuple(dict.fromkeys(notes)))


async def _outcome(whole: Dispatch, ranking: Ranking) -> _Outcome:
    """Rank in the best way that a server can be had for."""
    *better, (last, entry) = _ways(whole.entry)
    for way, able in better:
        try:
            return await way(whole, able, ranking)
        except (UpstreamFailed, Unavailable):
            continue  # the route has another way for just that
    return await last(whole, entry, ranking)


def _ways(entry: Entry) -> Sequence[tuple[_Way, Entry]]:
    """Return the ways in which a name may rank, the best first, and who can serve each."""
    if not entry.ranks_by_embeddings:
        return [(_by_model, entry)]
    can = entry.plan.of_those_who(lambda candidate: Capability.RERANK in candidate.capabilities)
    cannot = entry.plan.of_those_who(lambda candidate: Capability.RERANK not in candidate.capabilities)
    ways = [(_by_model, can), (_by_embeddings, cannot)]
    return [(way, evolve(entry, plan=plan)) for way, plan in ways if plan.candidates] or [(_by_model, entry)]


# ── by a model that ranks ───────────────────────────────────────────────────────────────────────────────────────


async def _by_model(whole: Dispatch, entry: Entry, ranking: Ranking) -> _Outcome:
    if any(question.has_media for question in ranking.questions):
        entry = _those_who_rank_media(entry)
    limit = smallest_batch(entry)
    parts = await gather(whole, entry, [_Rank(some) for one in ranking.questions for some in one.split(limit)])
    told = [part.told for part in parts]
    scores = {place: score for one in told for place, score in zip(one.places, one.scores, strict=True)}
    notes = [one.note for one in told if one.note is not None]
    return _Outcome(scores, parts, told[0].model, sum_known(one.tokens for one in told), notes)


def _those_who_rank_media(entry: Entry) -> Entry:
    plan = entry.plan.of_those_who(lambda candidate: candidate.member.backend.ranks_media)
    if not plan.candidates:
        raise _text_only(entry)
    return evolve(entry, plan=plan)


def _text_only(entry: Entry) -> BadRequest:
    titles = " and ".join(dict.fromkeys(who.member.backend.title for who in entry.plan.candidates))
    return BadRequest(f"{entry.name!r} ranks text only ({titles}): leave out images and the like.", param="documents")


@frozen
class _Told:
    """What a server said of some documents, whose places in the request these are."""

    places: Sequence[int]
    scores: Sequence[_Score] = field(repr=False)
    model: str
    tokens: int | None
    note: str | None


@frozen
class _Rank:
    """Some documents, as an ask."""

    question: Question

    def request(self, call: Call, lease: Lease) -> Request:
        body = lease.member.backend.ranking_request(self.question, lease.model)
        return asking(call, lease, Operation.RERANK, body)

    def read(self, lease: Lease, body: bytes, headers: Headers) -> _Told:
        question = self.question
        said = read_scores(body, headers, len(question.documents))
        shown, note = _shown(said.values, lease.member, raw=question.raw)
        scores = list(map(_Score, shown, said.values))
        return _Told(question.places, scores, lease.model, said.tokens, note)


def _shown(values: Sequence[float], member: Member, *, raw: bool) -> tuple[Sequence[float], str | None]:
    """Return scores as they are to be shown, and what is to be known of them."""
    logits, title = member.backend.scores_are_logits, member.backend.title
    choice = member.server.score or ("sigmoid" if logits else "raw")
    if choice == "sigmoid" and not raw:
        return [sigmoid(value) for value in values], f"scores are the logistic function of what {title} gives"
    return values, f"scores are logits, as {title} gives them" if logits else None


# ── by embeddings ───────────────────────────────────────────────────────────────────────────────────────────────


async def _by_embeddings(whole: Dispatch, entry: Entry, ranking: Ranking) -> _Outcome:
    contents: list[Content] = [content for one in ranking.questions for content in (one.query, *one.documents)]
    if not all(isinstance(content, str) for content in contents):
        raise _text_only(entry)
    inputs = tuple(msgspec.Raw(msgspec.json.encode(content)) for content in contents)
    parts = await ask_for_vectors(whole, entry, Embedding(inputs, encoding="base64"))
    told = [part.told for part in parts]
    scores = await _similarities(ranking, [vector for one in told for vector in one.encoded])
    return _Outcome(scores, parts, told[0].model, sum_known(one.tokens for one in told), [_COSINE])


async def _similarities(ranking: Ranking, encoded: Sequence[msgspec.Raw]) -> Mapping[int, _Score]:
    scores: dict[int, _Score] = {}
    vectors = iter(encoded)
    for question in ranking.questions:
        query = floats_of(next(vectors))
        for place in question.places:
            given = cosine(query, floats_of(next(vectors)))
            scores[place] = _Score(given if question.raw else max(0.0, given), given)
            if len(scores) % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    return scores
