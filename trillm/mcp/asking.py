"""Asks trillm's own models on behalf of an MCP client: a call of the gateway whose reply stays in this process.

It is the same call as over HTTP, with its budget, its retries and its record; cancelling the request cancels it down to
the backend.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import trio
from attrs import define, field

from trillm.errors import Forbidden, TrillmError, UpstreamFailed
from trillm.gateway.access import Caller
from trillm.gateway.call import read_call
from trillm.gateway.gateway import Gateway
from trillm.gateway.reply import Headers
from trillm.mcp.session import Params, Request
from trillm.models import Operation

#: At most one progress notice in this many seconds: a fast model makes hundreds of tokens in one.
PROGRESS_S = 0.1


class Refused(TrillmError):
    """The gateway's own error reply, with the status it would have had over HTTP."""

    def __init__(self, status: int, error: Params) -> None:
        super().__init__(str(error.get("message", "")), param=error.get("param"), code=error.get("code"))
        self.status = status  # type: ignore[misc]  # per instance: it is the reply's
        self.error = error

    def envelope(self) -> Params:
        """Return the error object as it was."""
        return {"error": self.error}


@define(eq=False)
class KeptReply:
    """See :class:`trillm.gateway.reply.Reply`: what is sent is kept.

    Args:
        heard: told of each piece of a stream.
    """

    heard: Callable[[bytes], None] | None = None
    status: int = field(default=0, init=False)
    headers: dict[bytes, bytes] = field(factory=dict, init=False)
    pieces: list[bytes] = field(factory=list, init=False, repr=False)
    started: bool = field(default=False, init=False)
    finished: bool = field(default=False, init=False)
    aborted: bool = field(default=False, init=False)

    async def start(self, status: int, headers: Headers, *, length: int | None) -> None:  # noqa: ARG002
        """Keep the head."""
        self.started = True
        self.status, self.headers = status, dict(headers)

    async def send(self, data: bytes) -> None:
        """Keep a piece."""
        self.pieces.append(data)
        if self.heard is not None:
            self.heard(data)

    async def finish(self, data: bytes = b"") -> None:
        """Keep the last piece."""
        self.finished = True
        if data:
            await self.send(data)

    @property
    def instant(self) -> bool:
        """There is no socket."""
        return False

    def send_now(self, data: bytes) -> bool:
        """Never called, see :attr:`instant`."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Nothing is ever left over."""

    def abort(self) -> None:
        """Keep in mind that what there is, is not all."""
        self.aborted = True


async def ask(gateway: Gateway, caller: Caller, operation: Operation, body: Params) -> tuple[Params, str | None]:
    """Return the answer to a request in OpenAI's shape, and the name of the server that gave it.

    Raises:
        TrillmError: whatever a caller over HTTP would have been told.
    """
    reply = KeptReply()
    await gateway.handle(_call(operation, body, caller), reply)
    answer = _answer(reply)
    if not isinstance(answer, dict):
        raise UpstreamFailed("the server's answer is not a JSON object")
    return answer, _server(reply)


async def ask_streamed(gateway: Gateway, request: Request, body: Params) -> tuple[Params, str | None]:
    """Ask for a chat completion as a stream, tell the client how many tokens there are, and return it as a whole.

    Raises:
        TrillmError: as :func:`ask`.
    """
    completion = _Completion()
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    reply = KeptReply(completion.feed)
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}

    async def tell() -> None:
        if completion.tokens > completion.told:
            completion.told = completion.tokens
            await request.progress(completion.told, limit, f"{completion.told} tokens")

    async def keep_telling() -> None:
        while True:
            await completion.more.wait()
            completion.more = trio.Event()
            await tell()
            await trio.sleep(PROGRESS_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_telling)
        await gateway.handle(_call(Operation.CHAT, streamed, request.session.caller), reply)
        nursery.cancel_scope.cancel()
    await tell()
    if not completion.tokens and reply.status != 200:
        _answer(reply)
    if completion.error is not None:
        raise Refused(502, completion.error)
    if reply.aborted or not reply.finished:
        raise UpstreamFailed("the answer was cut short")
    return completion.whole(), _server(reply)


def _call(operation: Operation, body: Params, caller: Caller) -> Any:
    return read_call(
        operation, [], msgspec.json.encode(body), caller=caller.key, grants=caller.grants, client=caller.client
    )


def _server(reply: KeptReply) -> str | None:
    name = reply.headers.get(b"x-trillm-server")
    return name.decode() if name else None


def _answer(reply: KeptReply) -> Any:
    if reply.aborted or not reply.finished:
        raise UpstreamFailed("the answer was cut short")
    answer = msgspec.json.decode(b"".join(reply.pieces))
    if reply.status == Forbidden.status:
        raise Forbidden(answer["error"]["message"], param=answer["error"]["param"], code=answer["error"]["code"])
    if reply.status != 200:
        raise Refused(reply.status, answer["error"])
    return answer


@define(eq=False)
class _Completion:
    """Puts the chunks of a stream together to what would have come without one."""

    tokens: int = 0
    #: How many the client knows of.
    told: int = 0
    error: Params | None = None
    more: trio.Event = field(factory=trio.Event)
    _content: list[str] = field(factory=list)
    _last: Params = field(factory=dict)
    _finish: str | None = None
    _usage: Params | None = None

    def feed(self, data: bytes) -> None:
        """Take frames, whole ones: the gateway sends no others."""
        for line in data.splitlines():
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                self._take(msgspec.json.decode(line[6:]))
        self.more.set()

    def _take(self, chunk: Any) -> None:
        if "error" in chunk:
            self.error = chunk["error"] if isinstance(chunk["error"], dict) else {"message": str(chunk["error"])}
            return
        self._last = chunk
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            text = (choice.get("delta") or {}).get("content")
            if text:
                self.tokens += 1
                self._content.append(text)

    def whole(self) -> Params:
        message = {"role": "assistant", "content": "".join(self._content)}
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return {**self._last, "choices": [choice], "usage": self._usage}
