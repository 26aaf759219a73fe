"""A calibrated OpenAI-compatible server that costs little: the same answer always, streams at an exact pace.

asyncio with one callback per token, because it must not be the bottleneck of what is measured; ``trillm sim`` is a
server of many more ways and costs several times as much. Run as ``python -m benchmarks.upstream PORT``.

A prompt that says ``[pace gap_ms=50 tokens=64 frame=200]`` (all three, in that order) sets the pace of its own stream:
every proxy passes prompts on, which cannot be said of headers and fields it does not know. A plain chat that says it is
answered after ``gap_ms``.
"""

import argparse
import asyncio
import json
import re
from functools import cache
from typing import Any

import httptools

MODEL = "bench"


def _head(kind: str, framing: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


def _whole(value: Any) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return _head("application/json", f"content-length: {len(body)}") + body


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    about = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return _event(json.dumps({**about, "choices": [choice]}, separators=(",", ":")))


_USAGE = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
_SAID = {"role": "assistant", "content": "Hello there, how can I help you today?", "refusal": None}
_CHOICE = {"index": 0, "message": _SAID, "logprobs": None, "finish_reason": "stop"}
_CHAT = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": MODEL, "usage": _USAGE}
_VECTOR = [round(0.001 * i, 3) for i in range(384)]
_VECTORS = [{"object": "embedding", "index": i, "embedding": _VECTOR} for i in range(4)]
_CARD = {"id": MODEL, "object": "model", "created": 1, "owned_by": "benchmarks"}
_SCORES = [{"index": i, "relevance_score": 0.9 - 0.1 * i} for i in range(3)]

WHOLE = {
    b"/v1/chat/completions": _whole({**_CHAT, "choices": [_CHOICE]}),
    b"/v1/embeddings": _whole({"object": "list", "data": _VECTORS, "model": MODEL, "usage": _USAGE}),
    b"/v1/rerank": _whole({"id": "rerank-bench", "model": MODEL, "results": _SCORES, "usage": _USAGE}),
    b"/health": _whole({"status": "ok"}),
    b"/v1/models": _whole({"object": "list", "data": [_CARD]}),
}
OPENING = _head("text/event-stream", "transfer-encoding: chunked") + _chunk({"role": "assistant", "content": ""})
PACE = re.compile(rb"\[pace gap_ms=(\d+) tokens=(\d+) frame=(\d+)\]")
CLOSING = _chunk({}, "stop") + _event("[DONE]") + b"0\r\n\r\n"


@cache
def token_of(frame_bytes: int) -> bytes:
    """Return the event of one token, padded to so many bytes if it is smaller."""
    shortest = _chunk({"content": " token"})
    return _chunk({"content": " token" + "s" * max(0, frame_bytes - len(shortest))})


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection.

    Args:
        tokens: in each stream.
        gap_s: seconds between two of them.
    """

    def __init__(self, tokens: int, gap_s: float) -> None:
        self.tokens = tokens
        self.gap_s = gap_s
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.on_message_begin()

    def data_received(self, data: bytes) -> None:
        """Parse; what is understood is answered by :meth:`on_message_complete`."""
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Forget the last request."""
        self.path = b""
        self.body = bytearray()  # a large body would be copied for each of its pieces otherwise

    def on_url(self, url: bytes) -> None:
        """Take a piece of the path."""
        self.path += url

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if b'"stream":true' in self.body or b'"stream": true' in self.body:
            Stream(self.transport, self.loop, *self.pace()).begin()
        elif said := PACE.search(self.body):
            self.loop.call_later(int(said[1]) / 1000, self.answer, self.path)
        else:
            self.answer(self.path)

    def answer(self, path: bytes) -> None:
        """Answer at once."""
        self.transport.write(WHOLE.get(path, NOT_FOUND))

    def pace(self) -> tuple[int, float, bytes]:
        """Return how many tokens, seconds between them, and the event of one."""
        if said := PACE.search(self.body):
            gap_ms, tokens, frame_bytes = map(int, said.groups())
            return tokens, gap_ms / 1000, token_of(frame_bytes)
        return self.tokens, self.gap_s, token_of(0)


class Stream:
    """One streamed answer."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, tokens: int, gap_s: float, token: bytes
    ) -> None:
        self.transport = transport
        self.loop = loop
        self.left = tokens
        self.gap_s = gap_s
        self.token = token

    def begin(self) -> None:
        """Send the head and the first token."""
        self.due = self.loop.time() + self.gap_s
        self.transport.write(OPENING + self.token)
        self.next_token()

    def next_token(self) -> None:
        """Send what is left, each at its time whenever the one before was sent."""
        self.left -= 1
        if self.left and not self.transport.is_closing():
            self.loop.call_at(self.due, self.send_token)
        else:
            self.transport.write(CLOSING)

    def send_token(self) -> None:
        """Send one token."""
        self.due += self.gap_s
        self.transport.write(self.token)
        self.next_token()


async def serve(port: int, tokens: int, gap_s: float) -> None:
    """Serve until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(tokens, gap_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--gap", type=float, default=0.01, help="seconds between tokens")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.tokens, args.gap))
