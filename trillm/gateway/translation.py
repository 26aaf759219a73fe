"""A call in another dialect: who can be asked it, as what, and how the answer becomes the caller's again.

A server that speaks the dialect is asked as the caller asked; any other is asked a chat completion. Whoever speaks chat
completions never passes here.
"""

from collections.abc import Callable

from attrs import evolve

from trillm.dialects import typed
from trillm.dialects.blocks import Retelling
from trillm.dialects.dialect import Dialect
from trillm.errors import BadRequest
from trillm.gateway.call import Call
from trillm.gateway.journey import Journey
from trillm.gateway.plain import PlainAnswer
from trillm.models import Operation
from trillm.pool.catalog import Entry
from trillm.pool.choose import Candidate
from trillm.pool.member import Member
from trillm.sse import Scanner

_COUNTING = (Operation.RESPONSE_TOKENS, Operation.MESSAGE_TOKENS)


def speakers(entry: Entry, call: Call, dialect: Dialect) -> Entry:
    """Return who of ``entry`` can answer ``call``: everyone, unless only those who speak its dialect can.

    Raises:
        BadRequest: nobody can.
    """
    counts = call.operation in _COUNTING
    if not counts and not dialect.needs_memory(call.body):
        return entry
    speaking = entry.plan.of_those_who(_speak(call.operation))
    if speaking.candidates:
        return evolve(entry, plan=speaking)
    if not counts:
        return entry  # the translation will say what it cannot do
    raise BadRequest(
        f"No server of the model {call.model!r} can count tokens.", param="model", code="model_not_capable"
    )


def _speak(operation: Operation) -> Callable[[Candidate], bool]:
    return lambda candidate: candidate.member.speaks(operation)


def asked_of(member: Member, model: str, call: Call, dialect: Dialect) -> Call:
    """Return ``call`` as ``member`` is to be asked it, ``model`` being its own name for the model.

    Raises:
        BadRequest: it is malformed, or cannot be said as a chat completion.
    """
    if member.speaks(call.operation):
        return call
    return evolve(call, operation=Operation.CHAT, body=dialect.to_chat(call.body, model), model=model)


def answered(answer: PlainAnswer, call: Call, asked: Call, dialect: Dialect, journey: Journey) -> PlainAnswer:
    """Return a whole answer to ``asked`` as one to ``call``.

    Raises:
        UpstreamFailed: it is none.
    """
    if asked is call:
        journey.usage = typed.whole_usage(answer.body)
        return answer
    return evolve(answer, body=dialect.from_chat(call.body, answer.body))


def listener(call: Call, asked: Call, dialect: Dialect, journey: Journey) -> tuple[Scanner, Retelling | None]:
    """Return what understands the stream that answers ``asked``, and what retells it if that is needed."""
    if asked is call:
        journey.stream_error = dialect.error_event
        return dialect.scanner(), None
    retelling = dialect.retell(call.body)
    journey.stream_error = retelling.fail
    return Scanner(), retelling
