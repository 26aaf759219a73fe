"""The dialects by name: what each does with a request, an answer, a stream, an error."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from attrs import frozen

from trillm.dialects import typed
from trillm.dialects.blocks import Retelling
from trillm.dialects.messages import errors as messages_errors
from trillm.dialects.messages import reply as messages_reply
from trillm.dialects.messages import request as messages_request
from trillm.dialects.responses import errors as responses_errors
from trillm.dialects.responses import reply as responses_reply
from trillm.dialects.responses import request as responses_request
from trillm.errors import TrillmError
from trillm.models import Operation
from trillm.sse import Scanner


@frozen
class Dialect:
    """How callers of one API are served, by servers that speak it and by those that only speak chat completions.

    Args:
        to_chat: ``(request, model)`` → the request as a chat completion; raises BadRequest.
        from_chat: ``(request, answer)`` → a whole chat completion in this dialect; raises UpstreamFailed.
        retell: ``(request)`` → the machine that retells a chat stream in it.
        scanner: makes the scanner for a stream of a server that speaks it.
        envelope: ``(error, request_id)`` → the error as a JSON object.
        error_event: ``(error)`` → the bytes that end a passed-through stream when something went wrong.
        needs_memory: ``(request)`` → whether it refers to what only a server that speaks the dialect may remember.
        id_header: under which name its clients look for the request id, if not ``x-request-id``.
    """

    to_chat: Callable[[bytes, str], bytes]
    from_chat: Callable[[bytes, bytes], bytes]
    retell: Callable[[bytes], Retelling]
    scanner: Callable[[], Scanner]
    envelope: Callable[[TrillmError, str], dict[str, Any]]
    error_event: Callable[[TrillmError], bytes]
    needs_memory: Callable[[bytes], bool] = lambda _request: False
    id_header: bytes | None = None


RESPONSES = Dialect(
    to_chat=responses_request.to_chat,
    from_chat=responses_reply.from_chat,
    retell=responses_reply.ResponseStream,
    scanner=partial(typed.TypedScanner, vocabulary=typed.RESPONSES),
    envelope=lambda error, _request_id: error.envelope(),
    error_event=responses_errors.error_event,
    needs_memory=responses_request.needs_memory,
)
MESSAGES = Dialect(
    to_chat=messages_request.to_chat,
    from_chat=lambda _request, answer: messages_reply.from_chat(answer),
    retell=lambda _request: messages_reply.MessageStream(),
    scanner=partial(typed.TypedScanner, vocabulary=typed.MESSAGES),
    envelope=messages_errors.envelope,
    error_event=messages_errors.error_event,
    id_header=b"request-id",
)

#: By what is asked for. What is not here is said in OpenAI's usual way, which every server knows.
DIALECTS: Mapping[Operation, Dialect] = MappingProxyType(
    {
        Operation.RESPONSES: RESPONSES,
        Operation.RESPONSE_TOKENS: RESPONSES,
        Operation.MESSAGES: MESSAGES,
        Operation.MESSAGE_TOKENS: MESSAGES,
    }
)


def dialect_of(operation: Operation | None) -> Dialect | None:
    """Return what callers of ``operation`` speak, if that is not OpenAI's usual way."""
    return None if operation is None else DIALECTS.get(operation)
