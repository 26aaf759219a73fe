"""An answer that comes whole: read, checked for being one, and sent on when its server is free again."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from attrs import field, frozen

from trillm.errors import UpstreamFailed
from trillm.gateway.call import Call
from trillm.gateway.incoming import content_type, reply_headers
from trillm.gateway.journey import Journey
from trillm.gateway.reply import Headers, Reply
from trillm.models import Operation
from trillm.pool.pool import Lease
from trillm.sse import Usage
from trillm.wire.exchange import Exchange

MAX_BYTES = 256 * 1024 * 1024

#: What an answer has, if it is one to what was asked. Not looked for as a member of it: that would be to parse it all.
_NEEDED = {
    Operation.CHAT: b'"choices"',
    Operation.COMPLETIONS: b'"choices"',
    Operation.EMBEDDINGS: b'"data"',
    Operation.RESPONSES: b'"output"',
    Operation.RESPONSE_TOKENS: b'"input_tokens"',
    Operation.MESSAGES: b'"content"',
    Operation.MESSAGE_TOKENS: b'"input_tokens"',
}


class _Looked(msgspec.Struct):
    """All that is looked at."""

    usage: Usage | None = None


class Answered(Protocol):
    """An exchange that is over: what is left of it are its headers."""

    @property
    def headers(self) -> Headers:
        """The response's headers, names in lower case."""


_decode = msgspec.json.Decoder(_Looked).decode


@frozen
class PlainAnswer:
    """A whole answer that is ready to go."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)

    async def send(self, reply: Reply) -> None:
        """Send it. By then its server is free again: the caller may be slow."""
        await reply.start(self.status, self.headers, length=len(self.body))
        await reply.finish(self.body)


async def read_plain(call: Call, lease: Lease, exchange: Exchange, journey: Journey) -> PlainAnswer:
    """Read a whole answer.

    Raises:
        UpstreamFailed: it is no JSON object, not an answer to that, or an error in disguise.
    """
    backend = lease.member.backend
    body = await exchange.read(MAX_BYTES)
    error = backend.hidden_error(body)
    if error is not None:
        raise error
    body = backend.reply_body(call.operation, body)
    journey.usage = _usage(body, exchange)
    needed = _NEEDED.get(call.operation, b"")  # a ranking's answer is read as a whole
    if needed not in body:
        raise UpstreamFailed(f"the server's answer is not one to this request: it has no {needed.decode()}")
    journey.content()
    headers = [(b"content-type", b"application/json"), *reply_headers(call, exchange.headers, journey)]
    return PlainAnswer(exchange.status, headers, body)


def whole_answer(
    call: Call, parts: Sequence["Answered"], journey: Journey, body: bytes, tokens: int | None
) -> PlainAnswer:
    """Return an answer that was made here of what servers said.

    Args:
        call: what was asked.
        parts: who answered.
        journey: filled in.
        body: the answer.
        tokens: that were read, if known.
    """
    if tokens is not None:
        journey.usage = Usage(prompt_tokens=tokens)
    said = parts[0].headers if len(parts) == 1 else []
    return PlainAnswer(200, [(b"content-type", b"application/json"), *reply_headers(call, said, journey)], body)


def _usage(body: bytes, exchange: Exchange) -> Usage | None:
    try:
        return _decode(body).usage
    except msgspec.ValidationError as exc:
        if not body.lstrip().startswith(b"{"):
            raise UpstreamFailed("the server's answer is not a JSON object") from exc
        return None  # its usage is of a shape that we cannot count
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        kind = content_type(exchange)
        raise UpstreamFailed(f"the server's answer is not JSON ({kind!r}, {len(body)} bytes)") from exc
