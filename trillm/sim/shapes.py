"""The JSON and the SSE frames of chats, tool calls and text completions, as OpenAI shapes them. No I/O.

Members that OpenAI's OpenAPI 2.3 requires although they are null (``logprobs``, ``refusal``) are there. A frame is
a prefix and a suffix around its token, both built once per answer.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from attrs import frozen

from trillm.sim.script import Stream

#: A piece of text, or of a choice in JSON.
Token = str | msgspec.Raw

_encode = msgspec.json.encode


def _joined(tokens: Sequence[Token]) -> str:
    return "".join(token for token in tokens if isinstance(token, str))


@frozen
class Shape:
    """What tells a chat, tool calls and a text completion apart. ``bytes`` are JSON members without braces.

    Args:
        prefix: of the id.
        object: of a whole answer.
        chunk_object: of a frame.
        opening: in the choice of the first frame; empty if there is none.
        token: in the choice of a token's frame, before and after the token.
        closing: in the choice of the last frame.
        whole: makes the choice of a whole answer from its tokens.
    """

    prefix: str
    object: str
    chunk_object: str
    opening: bytes
    token: tuple[bytes, bytes]
    closing: bytes
    whole: Callable[[Sequence[Token]], dict[str, Any]]


CHAT = Shape(
    prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    opening=b'"delta":{"role":"assistant","content":"","refusal":null}',
    token=(b'"delta":{"content":', b"}"),
    closing=b'"delta":{}',
    whole=lambda tokens: {"message": {"role": "assistant", "content": _joined(tokens), "refusal": None}},
)

COMPLETION = Shape(
    prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    opening=b"",
    token=(b'"text":', b""),
    closing=b'"text":""',
    whole=lambda tokens: {"text": _joined(tokens)},
)


def calling(say: Sequence[str], calls: Sequence[tuple[str, str]]) -> tuple[Shape, list[Token]]:
    """Return the shape of a chat that calls tools, and its tokens, which are deltas.

    Args:
        say: the tokens of a text before the calls.
        calls: name and arguments of each.
    """
    made = [_made(*call) for call in calls]
    deltas: list[dict[str, Any]] = [{"content": token} for token in say]
    for index, call in enumerate(made):
        function = call["function"]
        deltas += [{"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}]
        deltas += [_fragment(index, piece) for piece in _pieces(function["arguments"])]
    role = {"role": "assistant", "content": None}
    message = {**role, "content": "".join(say) or None, "refusal": None, "tool_calls": made}
    shape = Shape(
        prefix=CHAT.prefix,
        object=CHAT.object,
        chunk_object=CHAT.chunk_object,
        opening=b'"delta":' + _encode(role | deltas[0]),
        token=(b'"delta":', b""),
        closing=CHAT.closing,
        whole=lambda _tokens: {"message": message},
    )
    return shape, [msgspec.Raw(_encode(delta)) for delta in deltas[1:]]


def _made(name: str, arguments: str) -> dict[str, Any]:
    call = {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function"}
    return {**call, "function": {"name": name, "arguments": arguments}}


def _fragment(index: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def _pieces(text: str, size: int = 8) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


@frozen
class Speech:
    """What is said, whatever its shape.

    Args:
        model: who says it.
        choices: n_choices lists of tokens, all of one length.
        finish_reason: of every choice.
        prompt_tokens: for the usage.
    """

    model: str
    choices: Sequence[Sequence[Token]]
    finish_reason: str
    prompt_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """Token counts as OpenAI names them."""
        said = sum(map(len, self.choices))
        total = self.prompt_tokens + said
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": said, "total_tokens": total}


def whole(shape: Shape, speech: Speech) -> bytes:
    """Return the body of an answer that is not streamed."""
    choices = [
        {"index": i, **shape.whole(tokens), "logprobs": None, "finish_reason": speech.finish_reason}
        for i, tokens in enumerate(speech.choices)
    ]
    return _encode({**_about(shape, shape.object, speech), "choices": choices, "usage": speech.usage})


def stream(shape: Shape, speech: Speech, *, with_usage: bool) -> Stream:
    """Return the frames of a streamed answer: one per token and choice, those of one token joined.

    Args:
        shape: of what.
        speech: what is said.
        with_usage: whether a last frame without choices tells the usage (``stream_options.include_usage``).
    """
    about = b"data: " + _encode(_about(shape, shape.chunk_object, speech))[:-1]
    starts = [b'%b,"choices":[{"index":%d,' % (about, i) for i in range(len(speech.choices))]
    end = b',"usage":null}\n\n' if with_usage else b"}\n\n"
    unfinished = b',"logprobs":null,"finish_reason":null}]' + end
    finished = b',"logprobs":null,"finish_reason":"%b"}]' % speech.finish_reason.encode() + end
    usage = b'%b,"choices":[],"usage":%b}\n\n' % (about, _encode(speech.usage)) if with_usage else b""
    return Stream(
        opening=b"".join(start + shape.opening + unfinished for start in starts) if shape.opening else b"",
        tokens=_token_frames(starts, shape.token, unfinished, speech.choices),
        closing=b"".join(start + shape.closing + finished for start in starts) + usage,
    )


def _token_frames(
    starts: list[bytes], around: tuple[bytes, bytes], end: bytes, choices: Sequence[Sequence[Token]]
) -> list[bytes]:
    prefixes, suffix = [start + around[0] for start in starts], around[1] + end
    return [
        b"".join([prefix + _encode(token) + suffix for prefix, token in zip(prefixes, step, strict=True)])
        for step in zip(*choices, strict=True)
    ]


def _about(shape: Shape, kind: str, speech: Speech) -> dict[str, Any]:
    ident = f"{shape.prefix}sim{uuid.uuid4().hex[:20]}"
    return {"id": ident, "object": kind, "created": int(time.time()), "model": speech.model}
